"""The calculus: every op with its derivative. Importing this binds the methods of Tensor."""

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
