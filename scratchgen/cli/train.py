"""``scratchgen train``."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from ..device import Device
from ..recipes import RECIPES, find
from ..training import CHECKPOINT, Trainer
from .errors import UserError, unknown
from .options import describe_settings, field_types, parse_settings
from .runs import CONFIG, Run, new_folder, restore


def train(options: argparse.Namespace) -> int:
    """Start a run, or go on with one."""
    if options.help:
        print(_help(options))
        return 0
    if options.resume:
        return _resume(options)
    if options.model is None:
        raise UserError(f"which model? One of: {', '.join(RECIPES)}")
    run = _describe(options)
    folder: Path = options.out or new_folder(run.model, run.data, run.preset)
    if (folder / CONFIG).exists():
        raise UserError(f"{folder} already holds a run; go on with it by --resume, or choose another folder by --out")
    trainer = Trainer(run.build(options.download), folder, options.quiet)
    run.write(folder)
    return _train(run, trainer)


def _describe(options: argparse.Namespace) -> Run:
    kind = _find(options.model)
    preset, data = options.preset or "tiny", options.data or kind.default_data
    if preset not in kind.presets:
        raise unknown(f"preset of {options.model}", preset, kind.presets)
    if data not in kind.data_names:
        raise unknown(f"data for {options.model}", data, kind.data_names)
    try:
        device = str(Device(options.device))
    except ValueError as error:
        raise UserError(f"--device {options.device}: {error}") from None
    base = kind.configure(preset, data)
    try:
        config = kind.configure(preset, data, **parse_settings(field_types(type(base)), options.settings))
    except ValueError as error:
        raise UserError(f"--set: {error}") from error
    command = shlex.join(["scratchgen", *sys.argv[1:]])
    data_dir = None if options.data_dir is None else str(Path(options.data_dir).resolve())
    return Run.describe(options.model, preset, data, data_dir, options.seed, device, config, command)


def _find(model: str):  # type: ignore[no-untyped-def]
    if model not in RECIPES:
        raise unknown("model", model, RECIPES)
    return find(model)


def _resume(options: argparse.Namespace) -> int:
    if options.out is None:
        raise UserError("--resume needs --out DIR: the run folder to go on with")
    given = [name for name in ("preset", "data", "settings") if getattr(options, name)]
    if given:
        names = ", ".join("--set" if name == "settings" else f"--{name}" for name in given)
        raise UserError(f"a resumed run keeps its own settings: leave out {names}")
    run, _, trainer = restore(options.out)
    if options.model not in (None, run.model):
        raise UserError(f"the run in {options.out} is of model {run.model!r}, not {options.model!r}")
    trainer.quiet = options.quiet
    return _train(run, trainer)


def _train(run: Run, trainer: Trainer) -> int:
    folder, steps = trainer.folder, trainer.recipe.config.steps
    if trainer.step >= steps:
        print(f"{folder}: all {steps} steps are done; `scratchgen evaluate {folder}` gives the metrics")
        return 0
    if not trainer.quiet:
        at = f"from step {trainer.step} " if trainer.step else ""
        print(
            f"{run.model} on {run.data}, preset {run.preset}, seed {run.seed}, {run.device}: {at}in {folder}",
            file=sys.stderr,
        )
    try:
        trainer.run()
    except KeyboardInterrupt:
        kept = (folder / CHECKPOINT).exists()
        go_on = f"; go on with: scratchgen train --resume --out {shlex.quote(str(folder))}" if kept else ""
        raise KeyboardInterrupt(f"stopped at step {trainer.step} of {steps}{go_on}") from None
    print(f"{steps} steps in {trainer.seconds:.0f} s: {folder}")
    print(f"next: scratchgen evaluate {folder}")
    return 0


def _help(options: argparse.Namespace) -> str:
    text: str = options.help_of.format_help()
    if options.model is None:
        return text
    kind = _find(options.model)
    preset, data = options.preset or "tiny", options.data or kind.default_data
    settings = describe_settings(kind.configure(preset, data))
    return (
        f"{text}\nsettings of {options.model} for --set, with the values of preset {preset} on {data}:\n{settings}\n\n"
        f"data: {', '.join(kind.data_names)}; presets: {', '.join(kind.presets)}"
    )
