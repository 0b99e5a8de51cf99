"""The command line as a user meets it: the normal path, wrong calls, Ctrl-C, a second run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from scratchgen.cli import main
from scratchgen.cli.runs import new_folder

QUICK = ["--data", "digits", "--set", "steps=40", "--set", "hidden=16", "--set", "evaluate_every=40", "--quiet"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small trained VAE."""
    folder = tmp_path_factory.mktemp("runs") / "vae"
    assert main(["train", "vae", *QUICK, "--out", str(folder)]) == 0
    return folder


def say(capsys, *arguments):
    """Exit status, stdout and stderr of a call."""
    capsys.readouterr()
    try:
        status = main(list(arguments))
    except SystemExit as stop:  # argparse's own errors
        status = stop.code
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_a_run_folder_holds_what_is_needed_to_know_what_was_run(run):
    config = json.loads((run / "config.json").read_text())
    assert (config["model"], config["data"], config["seed"], config["device"]) == ("vae", "digits", 0, "cpu")
    assert config["config"]["steps"] == 40
    assert config["versions"]["numpy"] == np.__version__
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 40
    assert (run / "loss.png").stat().st_size > 1000
    assert list((run / "samples").glob("*.png"))


def test_evaluate_writes_the_report_and_prints_tables_or_json(run, capsys):
    status, out, _ = say(capsys, "evaluate", str(run))
    assert status == 0
    assert "neg_elbo" in out
    assert "±" in out
    report = json.loads((run / "report.json").read_text())
    assert {"model", "preset", "data", "seed", "seconds", "device", "metrics", "baselines", "reference"} <= set(report)
    assert report["metrics"]["neg_elbo"] > 0
    assert report["baselines"]
    status, out, _ = say(capsys, "evaluate", str(run), "--json")
    assert json.loads(out)["metrics"] == report["metrics"]  # an evaluation is reproducible


def test_samples_as_picture_and_arrays(run, capsys, tmp_path):
    assert say(capsys, "sample", str(run), "-n", "9", "--out", str(tmp_path / "grid.png"))[0] == 0
    assert (tmp_path / "grid.png").stat().st_size > 500
    for name in ("a.npz", "b.npz"):
        assert say(capsys, "sample", str(run), "-n", "9", "--seed", "5", "--out", str(tmp_path / name))[0] == 0
    a, b = (np.load(tmp_path / name)["samples"] for name in ("a.npz", "b.npz"))
    assert (a.shape, a.dtype) == ((9, 1, 8, 8), np.float32)
    assert 0 <= a.min() < a.max() <= 1
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "vea"], "unknown model 'vea'; did you mean 'vae'?"),
        (["train"], "which model? One of: autoencoder, vae, gan"),
        (["train", "vae", "--set", "latnt=3"], "unknown setting 'latnt'; did you mean 'latent'?"),
        (["train", "vae", "--set", "latent=many"], "--set latent=many: expected an integer"),
        (["train", "vae", "--set", "latent"], "--set latent: expected key=value"),
        (["train", "vae", "--set", "steps=0"], "--set: steps must be 1 or more, got 0"),
        (["train", "vit", "--set", "dropout=1.5"], "--set: dropout must be from 0 to 1, got 1.5"),
        (["train", "vit", "--set", "patch=3"], "patches of 3 pixels do not divide an image of 8 x 8"),
        (["train", "vae", "--data", "digitz"], "did you mean 'digits'?"),
        (["train", "vae", "--preset", "tiney"], "did you mean 'tiny'?"),
        (["train", "vae", "--device", "gpu"], "unknown device 'gpu'"),
        (["train", "vae", "--sed", "3"], "unrecognized arguments: --sed"),
        (["train", "vae", "--resume"], "--resume needs --out DIR"),
        (["evaluate", "nowhere"], "nowhere is not a run folder"),
        (["sample", "nowhere", "-n", "0"], "at least one sample"),
        (["kernels", "sofmax"], "did you mean 'softmax'?"),
        (["frobnicate"], "invalid choice: 'frobnicate'"),
    ],
)
def test_wrong_calls_say_what_is_wrong_and_exit_with_2(arguments, message, capsys):
    status, _, err = say(capsys, *arguments)
    assert status == 2
    assert message in err
    assert "Traceback" not in err


def test_no_command_shows_the_help(capsys):
    status, out, _ = say(capsys)
    assert status == 2
    assert "train a model" in out


def test_help_of_a_model_lists_its_typed_settings(capsys):
    status, out, _ = say(capsys, "train", "vae", "--help")
    assert status == 0
    assert "latent" in out
    assert "integer" in out


def test_a_second_run_does_not_overwrite_the_first(run, capsys):
    status, _, err = say(capsys, "train", "vae", *QUICK, "--out", str(run))
    assert status == 2
    assert "already holds a run" in err
    status, out, _ = say(capsys, "train", "vae", "--resume", "--out", str(run))
    assert status == 0
    assert "all 40 steps are done" in out
    status, _, err = say(capsys, "train", "vae", "--resume", "--out", str(run), "--set", "steps=50")
    assert status == 2
    assert "keeps its own settings: leave out --set" in err


def test_new_folders_are_numbered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        folder = new_folder("vae", "digits", "tiny")
        assert folder == Path("runs") / f"vae-digits-tiny-{number}"
        folder.mkdir(parents=True)


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "scratchgen", "train", "vae", "--data", "digits", "--out", str(folder)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ) as process:
        deadline = time.monotonic() + 120
        while not (folder / "checkpoint.safetensors").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "stopped at step" in err
    assert f"scratchgen train --resume --out {folder}" in err
    assert "Traceback" not in err
    assert (folder / "checkpoint.safetensors").exists()


def test_a_damaged_checkpoint_is_one_clear_line(run, tmp_path, capsys):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    whole = (copy / "checkpoint.safetensors").read_bytes()
    (copy / "checkpoint.safetensors").write_bytes(whole[: len(whole) // 2])
    status, _, err = say(capsys, "evaluate", str(copy))
    assert status == 1
    assert "checkpoint.safetensors: truncated or damaged" in err
    assert "checkpoint-previous.safetensors" in err


@pytest.mark.parametrize("command", ["models", "data", "info", "kernels"])
def test_lists(command, capsys):
    status, out, _ = say(capsys, command)
    assert status == 0
    assert {"models": "Kingma", "data": "stacked-digits", "info": "numba threads", "kernels": "philox_bits"}[
        command
    ] in out


def test_kernels_of_one_op_are_shown_with_their_ladder(capsys, monkeypatch):
    from scratchgen.cli import tools
    from scratchgen.kernels.launch import all_modules

    entry = {"digest": all_modules()["softmax/softmax.cu"].digest, "columns": ["registers", "resident warps"]}
    entry["resources"] = {"sm_80": {"softmax_tree<float>": [20, 64]}}
    monkeypatch.setattr(tools, "evidence", lambda: {"softmax/softmax.cu": entry})
    status, out, _ = say(capsys, "kernels", "softmax")
    assert status == 0
    assert "The CUDA ladder" in out
    assert "| 6 softmax_online |" in out
    assert "cuda-1-thread-per-row" in out
    assert out.splitlines()[-1].split() == ["softmax_tree<float>", "20", "64"]


def test_check_passes_for_an_op(capsys):
    status, out, _ = say(capsys, "check", "philox_bits")
    assert status == 0
    assert "pass" in out


def test_help_shows_kinds_in_words_and_values_as_they_are_typed(capsys):
    status, out, _ = say(capsys, "train", "vae", "--help")
    lines = {line.split()[0]: " ".join(line.split()) for line in out.splitlines() if line.strip()}
    assert status == 0
    assert lines["network"].startswith("network dense or conv dense ")
    assert lines["hidden"].startswith("hidden integers with commas between 256,256 ")
    assert lines["conditional"].startswith("conditional true or false false ")
