"""A good state to go back to when training diverges, which that of energy-based models now and then does."""

from __future__ import annotations

from typing import Any

import numpy as np

from scratchgen import Tensor

LIMIT = 10  # times that training may go back


class Guard:
    """Keeps copies of ``parts`` (objects with ``state_dict`` and ``load_state_dict``), renewed every ``every`` steps.

    ``pace`` is what the learning rate is to be multiplied by: half for each time that training went back.
    """

    def __init__(self, parts: dict[str, Any], every: int) -> None:
        self.parts, self.every = parts, every
        self.rollbacks, self.pace = 0, 1.0
        self._kept = self._taken()

    def _taken(self) -> dict[str, Any]:
        return {name: _copy(part.state_dict()) for name, part in self.parts.items()}

    def note(self, step: int) -> None:
        """Step number ``step`` went well."""
        if step % self.every == 0:
            self._kept = self._taken()

    def roll_back(self) -> bool:
        """Put the parts back to the copies, if that has not been done too often already."""
        if self.rollbacks >= LIMIT:
            return False
        for name, part in self.parts.items():
            part.load_state_dict(_copy(self._kept[name]))
        self.rollbacks, self.pace = self.rollbacks + 1, self.pace / 2
        return True

    def state_dict(self) -> dict[str, Any]:
        return {"kept": self._kept, "rollbacks": self.rollbacks, "pace": self.pace}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._kept, self.rollbacks, self.pace = state["kept"], state["rollbacks"], state["pace"]


def _copy(tree: Any) -> Any:
    """A state whose arrays are its own."""
    if isinstance(tree, dict):
        return {key: _copy(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_copy(value) for value in tree]
    if isinstance(tree, Tensor):
        return tree.detach().clone()
    return tree.copy() if isinstance(tree, np.ndarray) else tree
