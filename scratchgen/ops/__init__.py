"""The calculus: every op with its derivative. Importing this binds the methods of Tensor."""

from typing import TYPE_CHECKING

# The modules under other names: some hold a function of their own name (matmul, softmax, dropout ...).
from . import activation as _activation
from . import attention as _attention
from . import compare as _compare
from . import conv as _conv
from . import coupling as _coupling
from . import create as _create
from . import diagonal as _diagonal
from . import dropout as _dropout
from . import einsum as _einsum
from . import elementwise as _elementwise
from . import flow_filters as _flow_filters
from . import fold as _fold
from . import free_energy as _free_energy
from . import gather as _gather
from . import index as _index
from . import inplace as _inplace
from . import join as _join
from . import linalg as _linalg
from . import linear_activation as _linear_activation
from . import loss as _loss
from . import mask as _mask
from . import math as _math
from . import matmul as _matmul
from . import norm as _norm
from . import pad as _pad
from . import pool as _pool
from . import random as _random
from . import rearrange as _rearrange
from . import recurrent as _recurrent
from . import reduce as _reduce
from . import resample as _resample
from . import scan as _scan
from . import shape as _shape
from . import softmax as _softmax
from . import sort as _sort
from . import spectral as _spectral
from .activation import *
from .attention import *
from .compare import *
from .conv import *
from .coupling import *
from .create import *
from .diagonal import *
from .dropout import *
from .einsum import *
from .elementwise import *
from .flow_filters import *
from .fold import *
from .free_energy import *
from .gather import *
from .index import *
from .inplace import *
from .join import *
from .linalg import *
from .linear_activation import *
from .loss import *
from .mask import *
from .math import *
from .matmul import *
from .norm import *
from .pad import *
from .pool import *
from .random import *
from .rearrange import *
from .recurrent import *
from .reduce import *
from .resample import *
from .scan import *
from .shape import *
from .softmax import *
from .sort import *
from .spectral import *

if not TYPE_CHECKING:  # a type checker takes the star imports for what they are, but cannot add up these lists
    __all__ = [
        *_activation.__all__,
        *_attention.__all__,
        *_compare.__all__,
        *_conv.__all__,
        *_coupling.__all__,
        *_create.__all__,
        *_diagonal.__all__,
        *_dropout.__all__,
        *_einsum.__all__,
        *_elementwise.__all__,
        *_flow_filters.__all__,
        *_fold.__all__,
        *_free_energy.__all__,
        *_gather.__all__,
        *_index.__all__,
        *_inplace.__all__,
        *_join.__all__,
        *_linalg.__all__,
        *_linear_activation.__all__,
        *_loss.__all__,
        *_mask.__all__,
        *_math.__all__,
        *_matmul.__all__,
        *_norm.__all__,
        *_pad.__all__,
        *_pool.__all__,
        *_random.__all__,
        *_rearrange.__all__,
        *_recurrent.__all__,
        *_reduce.__all__,
        *_resample.__all__,
        *_scan.__all__,
        *_shape.__all__,
        *_softmax.__all__,
        *_sort.__all__,
        *_spectral.__all__,
    ]
