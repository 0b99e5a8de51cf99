"""Optimizers, learning-rate schedules and weight averages, as torch.optim's."""

from . import lr_scheduler
from .adagrad import Adagrad
from .adam import Adam, Adamax, AdamW
from .ema import EMA, CheckpointAverage
from .optimizer import Optimizer
from .rmsprop import RMSprop
from .sgd import SGD

__all__ = [
    "EMA",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "CheckpointAverage",
    "Optimizer",
    "RMSprop",
    "lr_scheduler",
]
