"""``python -m benchmarks gpu``: the first minutes on a GPU.

What nobody could measure without one, in the order of its worth: how fast this GPU is, whether every kernel computes
there what it computes in the emulator, what a launch costs, how fast the kernels are beside PyTorch's, CuPy's and
JAX's, and whole training steps. Parts are lists of tasks, and results are written after each task, so what is cut off
goes on where it was. The parts' times add up to less than eight minutes.
"""

from .command import main as main
