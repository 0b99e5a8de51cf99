"""The command line: ``scratchgen train vae``, ``scratchgen evaluate RUN``, and so on."""

from .main import main

__all__ = ["main"]
