"""One trainer for all recipes, and files that survive a crash."""

from .checkpoint import CheckpointError
from .files import write_atomically, write_json
from .trainer import CHECKPOINT, Diverged, Trainer

__all__ = ["CHECKPOINT", "CheckpointError", "Diverged", "Trainer", "write_atomically", "write_json"]
