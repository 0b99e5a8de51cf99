"""The trainer and its files: whatever happens to a run, it can go on, and goes on as if nothing had happened."""

from __future__ import annotations

import builtins
import errno
import json
import math
import multiprocessing
import os
import random
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import data, nn, viz
from scratchgen.cli.main import main
from scratchgen.recipes.base import Config, Recipe
from scratchgen.training import CHECKPOINT, CheckpointError, Diverged, Trainer, checkpoint, files, write_json
from scratchgen.training.files import write_atomically
from scratchgen.training.trainer import METRICS, PREVIOUS


@dataclass(frozen=True)
class ToyConfig(Config):
    steps: int = 40
    evaluate_every: int = 7
    hidden: int = 8


class Toy(Recipe):
    """Small, but with everything that makes resuming hard: dropout, shuffled batches, moments, a schedule, noise."""

    name = paper = "toy"
    default_data = "digits"
    data_names = ("digits",)
    presets: ClassVar = {"tiny": {"*": ToyConfig()}}
    expected = ""

    def __init__(self, config: ToyConfig | None = None) -> None:
        super().__init__(config or ToyConfig(), data.load("digits"), sg.cpu, seed=3)
        rows = self.dataset.train.take(np.arange(100))  # a number that no batch size divides
        self.batches = data.Batches(rows.x.reshape(100, 64), 16, seed=3)
        self.net = nn.Sequential(nn.Linear(64, self.config.hidden), nn.Dropout(0.5), nn.Linear(self.config.hidden, 64))
        self.optimizer = sg.optim.AdamW(self.net.parameters(), lr=1e-2)
        self.schedule = sg.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, self.config.steps)

    def state(self) -> dict[str, Any]:
        names = ("net", "optimizer", "schedule", "batches", "generator")
        return {name: getattr(self, name) for name in names}

    def step(self) -> dict[str, float]:
        x = sg.as_tensor(next(self.batches))
        noisy = x + 0.1 * sg.randn(x.shape, generator=self.generator)
        loss = ((self.net(noisy) - x) ** 2).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return {"loss": loss.item()}

    def validate(self) -> dict[str, float]:
        return {"norm": float(sum((p.detach() ** 2).sum().item() for p in self.net.parameters()))}

    def preview(self, folder: Path, step: int) -> None: ...

    def evaluate(self) -> dict[str, float]:
        return self.validate()

    def baselines(self) -> dict[str, dict[str, float]]:
        return {}

    def references(self) -> list:
        return []

    def sample(self, count: int, generator: sg.Generator) -> dict[str, Any]:
        return {}


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots have tests of their own, and take longer than everything here together."""
    monkeypatch.setattr(viz, "loss_curves", lambda path, history: None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(viz, "loss_curves", lambda path, history: None)
        Trainer(Toy(), folder, quiet=True).run()
    return folder


def resume(folder: Path, config: ToyConfig | None = None) -> Trainer:
    trainer = Trainer(Toy(config), folder, quiet=True)
    trainer.resume()
    return trainer


def flatten(state: Any, path: str = "") -> dict[str, Any]:
    """The leaves of a state by their path."""
    if not isinstance(state, (dict, list)):
        return {path: state}
    items = state.items() if isinstance(state, dict) else enumerate(state)
    return {name: leaf for key, item in items for name, leaf in flatten(item, f"{path}.{key}").items()}


def assert_same_run(folder: Path, other: Path) -> None:
    """Bit-identical metrics, weights, moments and generators; only the seconds may differ."""
    assert (folder / METRICS).read_bytes() == (other / METRICS).read_bytes()
    ours, theirs = (flatten(checkpoint.load(path / CHECKPOINT)) for path in (folder, other))
    assert ours.keys() == theirs.keys()
    for name in ours.keys() - {".seconds"}:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


# --- kill and resume


def child(folder: Path, kill_at: int, where: str) -> None:
    """Train, and be killed the hard way in step ``kill_at`` or in the writing of the first checkpoint after it."""
    viz.loss_curves = lambda path, history: None
    recipe = Toy()
    trainer = Trainer(recipe, folder, quiet=True)

    def killing_schedule(self: Any, *arguments: Any) -> None:
        if trainer.step + 1 == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        advance(self, *arguments)

    def killing_replace(source: Any, target: Any) -> None:
        if trainer.step >= kill_at and Path(target).name == CHECKPOINT:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    if where == "step":  # the optimizer has made its update, the schedule has not
        advance = type(recipe.schedule).step
        type(recipe.schedule).step = killing_schedule
    else:
        replace, os.replace = os.replace, killing_replace
    trainer.run()


@pytest.mark.parametrize("where", ["step", "checkpoint"])
def test_a_killed_run_goes_on_bit_identically(where: str, whole: Path, tmp_path: Path) -> None:
    kill_at = random.randrange(1, 40)  # not seeded: every run of the tests tries another step
    process = multiprocessing.get_context("spawn").Process(target=child, args=(tmp_path, kill_at, where))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    trainer = resume(tmp_path)
    assert trainer.step == (kill_at - 1) // 7 * 7
    trainer.run()
    assert_same_run(tmp_path, whole)


def test_a_run_can_be_stopped_and_resumed_after_any_step(whole: Path, tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGINT)
    trainer = Trainer(Toy(), tmp_path, quiet=True)
    while trainer.step < 40:
        step, stop = trainer.recipe.step, trainer.step + 11

        def interrupted(step: Any = step, stop: int = stop, trainer: Trainer = trainer) -> dict[str, float]:
            if trainer.step + 1 == stop:
                signal.raise_signal(signal.SIGINT)
            return step()

        trainer.recipe.step = interrupted
        if stop <= 40:
            with pytest.raises(KeyboardInterrupt):
                trainer.run()
            assert trainer.step == stop, "Ctrl-C lets the step that runs come to its end"
            assert trainer.seconds > 0
        else:
            trainer.run()
        trainer = resume(tmp_path)
    assert_same_run(tmp_path, whole)
    assert signal.getsignal(signal.SIGINT) is handler


def test_metrics_are_averages_over_the_steps_of_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(Toy(ToyConfig(steps=40)), tmp_path, quiet=True)
    trainer.log_every = 3
    losses: list[float] = []
    step = trainer.recipe.step

    def noting() -> dict[str, float]:
        losses.append(step()["loss"])
        return {"loss": losses[-1]}

    monkeypatch.setattr(trainer.recipe, "step", noting)
    trainer.run()
    lines = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    training = {line["step"]: line["loss"] for line in lines if "loss" in line}
    assert list(training) == [*range(3, 40, 3), 40]
    assert training[6] == pytest.approx(np.mean(losses[3:6]), rel=1e-12)
    assert training[40] == losses[39]
    assert [line["step"] for line in lines if "validation_norm" in line] == [7, 14, 21, 28, 35, 40]


def test_a_metric_of_some_steps_is_averaged_over_those(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(Toy(ToyConfig(steps=8, evaluate_every=8)), tmp_path, quiet=True)
    trainer.log_every = 4
    monkeypatch.setattr(
        trainer.recipe, "step", lambda: {"first": 2.0} if trainer.step < 3 else {"second": float(trainer.step)}
    )  # fmt: skip
    trainer.run()
    lines = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert lines[:2] == [{"step": 4, "first": 2.0, "second": 3.0}, {"step": 8, "second": 5.5}]


def test_reading_a_run_does_not_touch_it(whole: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in whole.iterdir()}
    resume(whole)
    assert {path.name: path.stat().st_mtime_ns for path in whole.iterdir()} == before


# --- what can go wrong


def test_a_nan_stops_training_with_the_last_good_checkpoint_intact(tmp_path: Path) -> None:
    trainer = Trainer(Toy(), tmp_path, quiet=True)
    step = trainer.recipe.step
    trainer.recipe.step = lambda: {"loss": math.nan} if trainer.step == 17 else step()
    with pytest.raises(Diverged, match=rf"step 18: loss is nan.*{CHECKPOINT}.*learning_rate"):
        trainer.run()
    state = checkpoint.load(tmp_path / CHECKPOINT)
    assert state["step"] == 14
    assert checkpoint.first_not_finite(state) is None
    for line in (tmp_path / METRICS).read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)


def test_a_weight_that_is_not_finite_is_never_saved(tmp_path: Path) -> None:
    """A gradient can be NaN while the loss is not; the next step would notice, a checkpoint must not come before it."""
    trainer = Trainer(Toy(), tmp_path, quiet=True)
    step = trainer.recipe.step

    def poisoned() -> dict[str, float]:
        metrics = step()
        if trainer.step + 1 == 14:
            trainer.recipe.net[0].weight.array[2, 3] = np.inf
            trainer.recipe.validate = dict
        return metrics

    trainer.recipe.step = poisoned
    with pytest.raises(Diverged, match=r"step 14: recipe\.net\.0\.weight holds a NaN or an infinity"):
        trainer.run()
    assert checkpoint.load(tmp_path / CHECKPOINT)["step"] == 7


def full_disk(path: Any, mode: str = "r", *rest: Any) -> Any:
    """``open`` on a disk that has no space left: the kernel's own error, from its device for this."""
    return builtins.open("/dev/full" if "w" in mode else path, mode, *rest)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system to fail with ENOSPC")
def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(Toy(ToyConfig(steps=5)), tmp_path, quiet=True)
    trainer.run()
    before = (tmp_path / CHECKPOINT).read_bytes()
    monkeypatch.setattr(files, "open", full_disk, raising=False)
    trainer.step = 6
    with pytest.raises(OSError, match=rf"could not write .*{CHECKPOINT} \(No space left on device\).*intact") as raised:
        trainer.save()
    assert raised.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert (tmp_path / CHECKPOINT).read_bytes() == before
    assert not list(tmp_path.glob(".*.part"))
    assert resume(tmp_path, ToyConfig(steps=5)).step == 5


def test_a_write_that_fails_half_way_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, lambda file: file.write(b"old"))

    def half(file: Any) -> None:
        file.write(b"ne")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, half)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_written_files_have_ordinary_permissions(tmp_path: Path) -> None:
    write_json(tmp_path / "ours", {"a": np.float32(0.5), "b": np.arange(2), "c": tmp_path})
    (tmp_path / "usual").touch()
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode
    assert json.loads((tmp_path / "ours").read_text()) == {"a": 0.5, "b": [0, 1], "c": str(tmp_path)}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "ours", {"a": math.nan})
    with pytest.raises(TypeError, match="set cannot be written"):
        write_json(tmp_path / "ours", {1, 2})
    assert json.loads((tmp_path / "ours").read_text())["a"] == 0.5


@pytest.mark.parametrize("keep", [0, 0.5, 0.999])
def test_a_truncated_checkpoint_is_named_and_the_one_before_it_still_good(
    keep: float, whole: Path, tmp_path: Path
) -> None:
    for name in (CHECKPOINT, PREVIOUS, METRICS):
        (tmp_path / name).write_bytes((whole / name).read_bytes())
    blob = (tmp_path / CHECKPOINT).read_bytes()
    (tmp_path / CHECKPOINT).write_bytes(blob[: int(keep * len(blob))])
    with pytest.raises(CheckpointError, match=rf"{CHECKPOINT}: truncated or damaged") as raised:
        resume(tmp_path)
    assert PREVIOUS in raised.value.__notes__[0]
    (tmp_path / PREVIOUS).replace(tmp_path / CHECKPOINT)
    trainer = resume(tmp_path)
    assert trainer.step == 35
    trainer.run()
    assert_same_run(tmp_path, whole)


def test_what_is_not_a_checkpoint_is_named(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    with pytest.raises(CheckpointError, match="no such checkpoint"):
        checkpoint.load(tmp_path / "missing")
    save_file({"w": np.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="not a checkpoint of format scratchgen-1 but None"):
        checkpoint.load(tmp_path / "other.safetensors")


def test_a_checkpoint_of_another_configuration_is_refused(whole: Path) -> None:
    with pytest.raises(CheckpointError, match=r"(?s)does not fit toy as configured.*0\.weight.*\[8, 64\].*\[9, 64\]"):
        resume(whole, ToyConfig(hidden=9))


def test_a_checkpoint_of_another_recipe_is_refused(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = Toy.state
    monkeypatch.setattr(Toy, "state", lambda self: {k: v for k, v in state(self).items() if k != "schedule"})
    with pytest.raises(CheckpointError, match="differ in: schedule"):
        resume(whole)


def test_a_resumed_run_keeps_its_settings(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """--set with --resume would make a run that no command line describes."""
    assert main(["train", "vae", "--resume", "--out", str(tmp_path), "--set", "steps=7"]) == 2
    assert "a resumed run keeps its own settings: leave out --set" in capsys.readouterr().err


# --- the file format


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    state = {
        "arrays": {"f": np.float32([[1.5, -0.0], [np.nan, np.inf]]), "i": np.arange(3), "b": np.array([True])},
        "views": [np.arange(6).reshape(2, 3).T, np.arange(6)[::-2], np.broadcast_to(np.float64(2), (2, 2))],
        "sizes": [np.array(3.0), np.zeros((0, 4))],
        "tensor": sg.tensor([1.0, 2.0]),
        "plain": {
            "n": 3,
            "x": 0.1 + 0.2,
            "none": None,
            "text": "a b",
            "yes": True,
            "big": 2**64 - 1,
            "f4": np.float32(0.1),
        },
        "keys": {0: {"step": 1}, 7: {}},
        "empty": {"list": [], "dict": {}},
    }
    path = tmp_path / "state.safetensors"
    checkpoint.save(path, state)
    loaded = checkpoint.load(path)
    assert list(loaded) == list(state)
    for name in ("arrays", "views", "sizes"):
        pairs = zip(flatten(state[name]).values(), flatten(loaded[name]).values(), strict=True)
        for given, found in pairs:
            assert np.asarray(given).dtype == np.asarray(found).dtype
            np.testing.assert_array_equal(given, found)
    assert np.signbit(loaded["arrays"]["f"][0, 1])
    np.testing.assert_array_equal(loaded["tensor"], np.float32([1, 2]))
    assert loaded["plain"] == state["plain"]
    assert loaded["keys"] == state["keys"]
    assert loaded["empty"] == state["empty"]


def test_what_cannot_be_saved_is_named(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"a\.b\.1: a function cannot be saved in a checkpoint"):
        checkpoint.save(tmp_path / "x", {"a": {"b": [1, flatten]}})
    assert not list(tmp_path.iterdir())
