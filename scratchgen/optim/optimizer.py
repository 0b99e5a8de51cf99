"""What all optimizers share: groups of parameters with their options, and state that saves and loads."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

from ..autograd import enable_grad, mark_changed, no_grad
from ..tensor import Tensor, as_tensor, wrap


class Optimizer:
    """Base class. A subclass names its options in ``defaults`` and writes ``update``.

    ``params``: parameters, or dicts with the key ``params`` and options of that group's own, as in torch.
    ``param_groups`` and ``state`` are torch's too.
    """

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        if isinstance(params, Tensor):
            raise TypeError(f"{self._name}: params must be an iterable of parameters or of dicts, not one Tensor")
        given = self._in_order(params)
        if not given:
            raise ValueError(f"{self._name}: got an empty list of parameters")
        for group in given if isinstance(given[0], dict) else [{"params": given}]:
            self.add_param_group(group)

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _in_order(self, params: Iterable[Any]) -> list[Any]:
        if isinstance(params, (set, frozenset)):
            raise TypeError(f"{self._name}: a set has no order, so state could not be saved by number; use a list")
        return list(params)

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Optimize further parameters, ``group["params"]``; options that the group does not give are the defaults."""
        params = [group["params"]] if isinstance(group["params"], Tensor) else self._in_order(group["params"])
        known = {id(p) for other in self.param_groups for p in other["params"]}
        for p in params:
            if not isinstance(p, Tensor):
                raise TypeError(f"{self._name}: can only optimize Tensors, got {type(p).__name__}")
            if not p.is_leaf:
                raise ValueError(f"{self._name}: a tensor of shape {list(p.shape)} is not a leaf, it was computed")
            if id(p) in known:
                raise ValueError(f"{self._name}: a parameter of shape {list(p.shape)} is given twice")
            known.add(id(p))
        complete = {**self.defaults, **group, "params": params}
        self.check(complete)
        self.param_groups.append(complete)

    def check(self, group: dict[str, Any]) -> None:
        """Raise if an option of the group is out of its range; here are the options that several optimizers have."""
        for option in ("lr", "eps", "weight_decay", "momentum"):
            self._at_least_0(group, option)
        for index, beta in enumerate(group.get("betas", ())):
            if not 0.0 <= beta < 1.0:
                raise ValueError(f"{self._name}: betas[{index}] must be in [0, 1), got {beta}")

    def _at_least_0(self, group: dict[str, Any], option: str) -> None:
        if not group.get(option, 0.0) >= 0.0:
            raise ValueError(f"{self._name}: {option} must be at least 0, got {group[option]}")

    # ------------------------------------------------------------------------------------------------ the step

    def update(self, param: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Change ``param.array`` in place, given ``param.grad``; what lasts goes into ``state``."""
        raise NotImplementedError(f"{self._name} does not define update(param, state, group)")

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have a gradient. ``closure`` computes the loss and its gradients first."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        with no_grad():
            for group in self.param_groups:
                self.update_all([param for param in group["params"] if param.grad is not None], group)
        return loss

    def update_all(self, params: list[Tensor], group: dict[str, Any]) -> None:
        """Change the group's parameters that have a gradient; one by one, if a subclass knows no better."""
        for param in params:
            self._update(param, group)

    def _update(self, param: Tensor, group: dict[str, Any]) -> None:
        state = self.state[param]
        self.update(param, state, group)
        mark_changed(param.array)
        for value in state.values():
            if isinstance(value, Tensor):
                mark_changed(value.array)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients, or fill them with zeros."""
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    param.grad = None if set_to_none else zeros_like(param.grad)

    # ------------------------------------------------------------------------------------------ saving and loading

    def state_dict(self) -> dict[str, Any]:
        """``{"state": {number: {...}}, "param_groups": [...]}`` as torch's: parameters are numbered through all groups.

        Tensors are shared with the optimizer: copy or write them before the next step.
        """
        number = {id(p): i for i, p in enumerate(chain(*(group["params"] for group in self.param_groups)))}
        groups = [{**group, "params": [number[id(p)] for p in group["params"]]} for group in self.param_groups]
        state = {number[id(p)]: dict(values) for p, values in self.state.items() if values}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over options and state (copies) of the same kind of optimizer over parameters of the same shapes."""
        saved_groups = state_dict["param_groups"]
        self._check_groups(saved_groups)
        numbers = chain(*(saved["params"] for saved in saved_groups))
        params = dict(zip(numbers, chain(*(group["params"] for group in self.param_groups))))
        state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        for number, values in state_dict["state"].items():
            number = int(number)  # a state that went through JSON has strings
            if number not in params:
                raise ValueError(f"{self._name}: the loaded state is of parameter {number}, which no group has")
            param = params[number]
            state[param] = {key: self._restore(number, param, key, value) for key, value in values.items()}
        for group, saved in zip(self.param_groups, saved_groups):
            group.update({key: value for key, value in saved.items() if key != "params"})
        self.state = state

    def _check_groups(self, saved_groups: list[dict[str, Any]]) -> None:
        have = [len(group["params"]) for group in self.param_groups]
        given = [len(saved["params"]) for saved in saved_groups]
        if have != given:
            raise ValueError(
                f"{self._name}: the loaded state has groups of {given} parameters, this optimizer of {have}"
            )
        for index, saved in enumerate(saved_groups):
            missing = [option for option in self.defaults if option not in saved]
            if missing:
                raise ValueError(
                    f"{self._name}: group {index} of the loaded state lacks {', '.join(missing)}; "
                    "it was saved by another kind of optimizer"
                )
            self.check({**saved, "params": []})

    def _restore(self, number: int, param: Tensor, key: str, value: Any) -> Any:
        """A saved value as it was: counts are ints, arrays lie in memory as the parameter they belong to."""
        if not hasattr(value, "shape"):
            return value
        loaded = as_tensor(value)
        if key == "step":  # torch counts in a tensor
            return int(loaded.item())
        if loaded.shape != param.shape:
            raise ValueError(
                f"{self._name}: the loaded {key} of parameter {number} has shape {list(loaded.shape)}, "
                f"the parameter has {list(param.shape)}"
            )
        made = zeros_like(param)
        made.array[...] = loaded.to(param.device).array
        return made

    def __repr__(self) -> str:
        lines = [f"{self._name} ("]
        for index, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {index}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join([*lines, ")"])


def zeros_like(param: Tensor) -> Tensor:
    """State for ``param``: zeros of its shape, dtype and order in memory."""
    return wrap(param.device.xp.zeros_like(param.array), param.device)


def gradient(param: Tensor, group: dict[str, Any]) -> Any:
    """The array to descend along: the gradient, negated to maximize, with weight decay added. Not to be changed."""
    grad = param.grad.array  # type: ignore[union-attr]  # step() skips parameters without a gradient
    if group["maximize"]:
        grad = -grad
    if group["weight_decay"]:
        grad = grad + group["weight_decay"] * param.array
    return grad
