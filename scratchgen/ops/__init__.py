"""The calculus: every op with its derivative. Importing this binds the methods of Tensor."""

from . import (
    activation,
    attention,
    compare,
    conv,
    create,
    dropout,
    einsum,
    elementwise,
    index,
    inplace,
    linalg,
    loss,
    math,
    matmul,
    norm,
    pool,
    random,
    reduce,
    resample,
    shape,
    softmax,
    sort,
)
from .activation import *
from .attention import *
from .compare import *
from .conv import *
from .create import *
from .dropout import *
from .einsum import *
from .elementwise import *
from .index import *
from .inplace import *
from .linalg import *
from .loss import *
from .math import *
from .matmul import *
from .norm import *
from .pool import *
from .random import *
from .reduce import *
from .resample import *
from .shape import *
from .softmax import *
from .sort import *

__all__: list[str] = []
__all__ += activation.__all__
__all__ += attention.__all__
__all__ += compare.__all__
__all__ += conv.__all__
__all__ += create.__all__
__all__ += dropout.__all__
__all__ += einsum.__all__
__all__ += elementwise.__all__
__all__ += index.__all__
__all__ += inplace.__all__
__all__ += linalg.__all__
__all__ += loss.__all__
__all__ += math.__all__
__all__ += matmul.__all__
__all__ += norm.__all__
__all__ += pool.__all__
__all__ += random.__all__
__all__ += reduce.__all__
__all__ += resample.__all__
__all__ += shape.__all__
__all__ += softmax.__all__
__all__ += sort.__all__
