"""Schedules of the learning rate, under torch's names and with torch's values.

Every schedule is a closed form of the step number ``last_epoch`` and the groups' ``base_lrs``, so one that is loaded
in mid-course goes on exactly where it stood.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .optimizer import Optimizer


class LRScheduler:
    """Base class: ``step()`` counts on and sets each group's ``lr`` to what ``get_lr()`` says for ``last_epoch``."""

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self.optimizer = optimizer
        self.last_epoch = last_epoch
        for index, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(
                    f"{type(self).__name__}: to resume at last_epoch={last_epoch}, group {index} of the optimizer "
                    "needs its 'initial_lr'; load the optimizer's state first"
                )
        self.base_lrs: list[float] = [group["initial_lr"] for group in optimizer.param_groups]
        self.step()

    def get_lr(self) -> list[float]:
        """The learning rate of each group at ``last_epoch``."""
        raise NotImplementedError(f"{type(self).__name__} does not define get_lr()")

    def step(self) -> None:
        """Go on by one: call it after ``optimizer.step()``, once for each step or epoch the schedule counts in."""
        self.last_epoch += 1
        for group, lr in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = lr

    def get_last_lr(self) -> list[float]:
        """The learning rates in force."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer, which saves the learning rates in force itself."""
        return {key: value for key, value in vars(self).items() if key != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the saved schedule stood. Load the optimizer's state too: it holds the rates in force."""
        if len(state_dict["base_lrs"]) != len(self.base_lrs):
            raise ValueError(
                f"{type(self).__name__}: the loaded state is for {len(state_dict['base_lrs'])} parameter groups, "
                f"the optimizer has {len(self.base_lrs)}"
            )
        unknown = set(state_dict) - set(vars(self))
        if unknown:
            raise ValueError(
                f"{type(self).__name__}: the loaded state has {', '.join(sorted(unknown))}, unknown here; "
                "it was saved by another kind of schedule"
            )
        vars(self).update(state_dict)


class LambdaLR(LRScheduler):
    """``base_lr * lr_lambda(last_epoch)``, with one function or one for each group. Functions are not saved."""

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        groups = len(optimizer.param_groups)
        self.lr_lambdas = [lr_lambda] * groups if callable(lr_lambda) else list(lr_lambda)
        if len(self.lr_lambdas) != groups:
            raise ValueError(f"LambdaLR: {len(self.lr_lambdas)} functions for {groups} parameter groups")
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return [base * factor(self.last_epoch) for base, factor in zip(self.base_lrs, self.lr_lambdas)]

    def state_dict(self) -> dict[str, Any]:
        return {key: value for key, value in super().state_dict().items() if key != "lr_lambdas"}


class FactorLR(LRScheduler):
    """A schedule that multiplies every group's rate by the same ``factor(last_epoch)``."""

    def factor(self, epoch: int) -> float:
        raise NotImplementedError(f"{type(self).__name__} does not define factor(epoch)")

    def get_lr(self) -> list[float]:
        factor = self.factor(self.last_epoch)
        return [base * factor for base in self.base_lrs]


class StepLR(FactorLR):
    """Times ``gamma`` every ``step_size``."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def factor(self, epoch: int) -> float:
        return self.gamma ** (epoch // self.step_size)


class MultiStepLR(FactorLR):
    """Times ``gamma`` at each of the ``milestones``."""

    def __init__(
        self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def factor(self, epoch: int) -> float:
        return self.gamma ** bisect_right(self.milestones, epoch)


class ExponentialLR(FactorLR):
    """Times ``gamma`` at every step."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def factor(self, epoch: int) -> float:
        return self.gamma**epoch


class LinearLR(FactorLR):
    """From ``start_factor`` to ``end_factor`` in ``total_iters`` equal steps, then constant."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0.0 < start_factor <= 1.0:
            raise ValueError(f"LinearLR: start_factor must be in (0, 1], got {start_factor}")
        if not 0.0 <= end_factor <= 1.0:
            raise ValueError(f"LinearLR: end_factor must be in [0, 1], got {end_factor}")
        if total_iters < 1:
            raise ValueError(f"LinearLR: total_iters must be at least 1, got {total_iters}")
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def factor(self, epoch: int) -> float:
        done = min(epoch, self.total_iters) / self.total_iters
        return self.start_factor + (self.end_factor - self.start_factor) * done


class CosineAnnealingLR(LRScheduler):
    """Half a cosine wave from the base rate down to ``eta_min`` in ``T_max`` steps, then up again, and so on.

    SGDR's eq. 5 (Loshchilov & Hutter 2017), without restarts.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        share = (1 + math.cos(math.pi * self.last_epoch / self.T_max)) / 2
        return [self.eta_min + (base - self.eta_min) * share for base in self.base_lrs]


class WarmupCosineLR(LRScheduler):
    """Up linearly to the base rate in ``warmup_steps``, down by half a cosine to ``eta_min`` at ``total_steps``.

    Step ``t < warmup_steps`` has ``(t + 1) / warmup_steps`` of the base rate: no step is wasted on a rate of zero.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_steps: int,
        total_steps: int,
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        if not 0 <= warmup_steps < total_steps:
            raise ValueError(
                f"WarmupCosineLR: expected 0 <= warmup_steps < total_steps, got {warmup_steps} and {total_steps}"
            )
        self.warmup_steps, self.total_steps, self.eta_min = warmup_steps, total_steps, eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        t = self.last_epoch
        if t < self.warmup_steps:
            return [base * (t + 1) / self.warmup_steps for base in self.base_lrs]
        done = min(1.0, (t - self.warmup_steps) / (self.total_steps - self.warmup_steps))
        share = (1 + math.cos(math.pi * done)) / 2
        return [self.eta_min + (base - self.eta_min) * share for base in self.base_lrs]


class NoamLR(FactorLR):
    """The transformer's schedule (Vaswani et al. 2017, eq. 3), times the base rate: give the optimizer ``lr=1``.

    ``d_model^-0.5 * min(n^-0.5, n * warmup_steps^-1.5)`` at step ``n = last_epoch + 1``.
    """

    def __init__(self, optimizer: Optimizer, d_model: int, warmup_steps: int = 4000, last_epoch: int = -1) -> None:
        self.d_model, self.warmup_steps = d_model, warmup_steps
        super().__init__(optimizer, last_epoch)

    def factor(self, epoch: int) -> float:
        n = epoch + 1
        return self.d_model**-0.5 * min(n**-0.5, n * self.warmup_steps**-1.5)


class SequentialLR(LRScheduler):
    """One schedule after another: number ``i + 1`` begins, at its own step 0, when ``milestones[i]`` is reached."""

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int], last_epoch: int = -1
    ) -> None:
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(
                f"SequentialLR: {len(schedulers)} schedules need one milestone fewer, got {len(milestones)}"
            )
        for index, scheduler in enumerate(schedulers):
            if scheduler.optimizer is not optimizer:
                raise ValueError(f"SequentialLR: schedule {index} is of another optimizer")
        self.schedulers, self.milestones = list(schedulers), list(milestones)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        index = bisect_right(self.milestones, self.last_epoch)
        current = self.schedulers[index]
        current.last_epoch = self.last_epoch - (self.milestones[index - 1] if index else 0)
        return current.get_lr()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "schedulers": [scheduler.state_dict() for scheduler in self.schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        saved = state_dict["schedulers"]
        if len(saved) != len(self.schedulers):
            raise ValueError(
                f"SequentialLR: the loaded state has {len(saved)} schedules, this has {len(self.schedulers)}"
            )
        for scheduler, state in zip(self.schedulers, saved):
            scheduler.load_state_dict(state)
        super().load_state_dict({**state_dict, "schedulers": self.schedulers})
