"""Arguments in, exit status out."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .. import __version__
from ..recipes import RECIPES
from .errors import UserError


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="scratchgen", description="Generative AI from the silicon up: train, evaluate and sample every model."
    )
    top.add_argument("--version", action="version", version=f"scratchgen {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")

    def command(name: str, help: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=help, description=help, allow_abbrev=False)

    command("models", "list the models: paper, presets, expected result")

    train = commands.add_parser(
        "train",
        help="train a model",
        description="Train a model. `scratchgen train MODEL --help` lists the model's settings.",
        add_help=False,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    train.add_argument("model", nargs="?", metavar="MODEL", help=f"one of: {', '.join(RECIPES)}")
    train.add_argument("-h", "--help", action="store_true", help="show this help, with the settings of MODEL")
    train.add_argument("--preset", default=None, help="tiny (minutes on two cores) or full (the published setting)")
    train.add_argument("--data", default=None, metavar="NAME", help="a dataset; `scratchgen data` lists them")
    train.add_argument("--data-dir", default=None, metavar="DIR", help="where to look for the dataset's files first")
    train.add_argument("--download", action="store_true", help="fetch the dataset if it is not on this machine")
    train.add_argument("--device", default="cpu", metavar="DEVICE", help="cpu, cuda, cuda:N or emu (default: cpu)")
    train.add_argument("--seed", type=int, default=0, metavar="N", help="seed of everything random (default: 0)")
    train.add_argument("--out", type=Path, default=None, metavar="DIR", help="run folder (default: a new one in runs/)")
    train.add_argument("--resume", action="store_true", help="go on with the run in --out from its last checkpoint")
    train.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings", help="change a setting; repeatable"
    )
    train.add_argument("--quiet", action="store_true", help="no progress, only the result")
    train.set_defaults(help_of=train)

    evaluate = command("evaluate", "final metrics of a run beside trivial baselines and reference figures")
    evaluate.add_argument("run", type=Path, metavar="RUN_DIR")
    evaluate.add_argument("--json", action="store_true", help="print report.json instead of tables")

    sample = command("sample", "draw samples from a trained model")
    sample.add_argument("run", type=Path, metavar="RUN_DIR")
    sample.add_argument("-n", "--count", type=int, default=None, metavar="N", help="how many (default: 64; of texts 1)")
    sample.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the samples (default: 0)")
    sample.add_argument(
        "--out", type=Path, default=None, metavar="FILE",
        help=".png: a picture; .npz: arrays `samples` in [0,1] NCHW and `labels`; .txt: text "
        "(default: samples.png in the run folder; text is shown in the terminal)",
    )  # fmt: skip
    sample.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
        help="an option of the model's sampler, such as label=3 or temperature=0.7",
    )  # fmt: skip

    chat = command("chat", "type a beginning or a question, and a text model goes on from it")
    chat.add_argument("run", type=Path, metavar="RUN_DIR")
    chat.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the text (default: 0)")
    chat.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
        help="an option of the model's sampler, such as temperature=0.7 or length=200",
    )  # fmt: skip

    bench = command("bench", "run the benchmarks (same as `python -m benchmarks`)")
    bench.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="see `python -m benchmarks --help`")

    kernels = command("kernels", "list the kernels of all ops, or of one")
    kernels.add_argument("op", nargs="?", metavar="OP")

    check = command("check", "test ops: every derivative, and every implementation against its specification")
    check.add_argument("ops", nargs="*", metavar="OP", help="ops, kernels or functions (default: all)")
    check.add_argument(
        "--profile", choices=("quick", "ci", "nightly"), default="quick", help="how thorough (default: quick)"
    )

    command("data", "list the datasets, and which are on this machine")
    command("info", "versions, devices, threads: what to put into a bug report")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0, 1 (failed), 2 (wrong call), 130 (Ctrl-C)."""
    top = parser()
    options = top.parse_args(arguments)
    if options.command is None:
        top.print_help()
        return 2
    try:
        return _run(options)
    except UserError as error:
        print(f"scratchgen {options.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"\n{stop}" if str(stop) else "\nstopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        from ..data import DataError
        from ..training import CheckpointError, Diverged

        expected = (CheckpointError, DataError, Diverged, OSError)
        if not isinstance(error, expected) or os.environ.get("SCRATCHGEN_TRACEBACK"):
            raise
        notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
        print(f"scratchgen {options.command}: {error}{notes}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    """Import and call the command; each loads only what it needs."""
    if options.command == "train":
        from .train import train

        return train(options)
    if options.command == "evaluate":
        from .evaluate import evaluate

        return evaluate(options.run, options.json)
    if options.command == "sample":
        from .sample import sample

        return sample(options.run, options.count, options.seed, options.out, options.settings)
    if options.command == "chat":
        from .chat import chat

        return chat(options.run, options.seed, options.settings)
    if options.command == "bench":
        from .tools import bench

        return bench(options.arguments)
    if options.command == "kernels":
        from .tools import list_kernels

        return list_kernels(options.op)
    if options.command == "check":
        from .tools import check

        return check(options.ops, options.profile)
    from .lists import list_data, list_info, list_models

    return {"models": list_models, "data": list_data, "info": list_info}[options.command]()
