"""The benchmark itself: statistics, the verdict on results, files, reports, rows measured in this process."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

import numpy as np
import pytest
from contenders import Local

pytest.importorskip("torch", reason="the peer of the benchmark")

from benchmarks import machine, ops, paired, plots, report, results, roof, worker
from benchmarks.__main__ import main
from benchmarks.cases import BOTH, CASES, FORWARD, Bar, Case, Group, constant, integers, normal
from benchmarks.library import Scratchgen, Torch
from benchmarks.networks import STEPS
from benchmarks.running import Bench
from benchmarks.worker import OURS, Worker, WorkerError
from scratchgen.cli import main as scratchgen_main

ROOF = {"bandwidth": [[1 << 20, 1e11], [1 << 28, 2e10]], "flops": 4e11}


def contenders(cases, *peers):
    libraries = {
        OURS: Scratchgen,
        "torch channels-last": lambda: Torch(channels_last=True, threads=1),
        "torch NCHW": lambda: Torch(threads=1),
    }
    return {name: Local(name, Bench(libraries[name](), cases)) for name in (OURS, *peers)}


@pytest.fixture(autouse=True)
def short_turns(monkeypatch):
    monkeypatch.setattr(ops, "TURN", 1e-4)


# --- statistics


def test_drift_of_the_machine_leaves_the_paired_ratio_alone():
    drift = np.exp(np.random.default_rng(0).normal(size=41))  # the machine's speed varies by a factor of ten
    found = paired.ratio(3.0 * drift, 2.0 * drift)
    assert (found.median, found.low, found.high) == pytest.approx((1.5, 1.5, 1.5))
    assert np.median(3.0 * drift[::2]) / np.median(2.0 * drift[1::2]) != pytest.approx(1.5, rel=0.05)


def test_the_interval_holds_the_true_median_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    found = [paired.interval(np.exp(rng.normal(size=31))) for _ in range(200)]
    covered = np.mean([r.low <= 1.0 <= r.high for r in found])
    assert 0.9 <= covered <= 0.99
    assert all(r.low <= r.median <= r.high for r in found)


def test_rounds_give_everyone_a_turn_and_respect_the_budget():
    log = []
    turns = {name: lambda name=name: log.append(name) or 1.0 for name in "abc"}
    samples = paired.rounds(turns, 4)
    assert {name: len(s) for name, s in samples.items()} == {"a": 4, "b": 4, "c": 4}
    assert log[:3] == list("abc")  # the turn that nobody counts
    assert all(sorted(log[i : i + 3]) == list("abc") for i in range(0, len(log), 3))
    assert len({tuple(log[i : i + 3]) for i in range(3, len(log), 3)}) > 1  # in another order each round
    assert len(paired.rounds(turns, 1000, budget=0.0, least=5)["a"]) == 5


def test_geometric_mean_of_a_ratio_and_its_inverse_is_one():
    assert paired.geometric_mean([4.0, 0.25]) == pytest.approx(1.0)
    assert paired.geometric_mean([2.0, 8.0]) == pytest.approx(4.0)


def test_the_roof_is_the_slower_of_copying_and_multiplying():
    assert roof.fraction(ROOF, flops=4e8, moved=1 << 20, seconds=1e-3) == pytest.approx(1.0)
    assert roof.fraction(ROOF, flops=0, moved=1 << 20, seconds=1e-3) == pytest.approx((1 << 20) / 1e8)
    assert roof.fraction(ROOF, flops=0, moved=1e9, seconds=0.1) == pytest.approx(0.5)  # held against the large copy


# --- rows, measured


SMALL = Group("small", {FORWARD: Bar(1e-9), BOTH: Bar(1e-9, 1e-9)})
LOOSE = Group("loose", tolerance=1e-5)


def conv(L, x, w, b):
    return L.F.conv2d(x, w, b, padding=1)


def row_of(case, direction, *peers, budget=0.0):
    given = contenders({case.name: case}, *peers)
    return ops.measure_row(case, direction, given, budget, ROOF), given


@pytest.mark.parametrize("direction", [FORWARD, BOTH])
def test_a_row_from_end_to_end_in_both_layouts(direction):
    shape = (8, 4, 3, 3)
    case = Case("conv", SMALL._replace(tolerance=1e-5), conv, (normal(2, 4, 9, 7), normal(*shape), normal(8)), 1e6,
                images=True)  # fmt: skip
    row, given = row_of(case, direction, "torch channels-last", "torch NCHW")
    assert row["failed"] is None
    assert 0 < row["error"] < 1e-5
    assert [(p["name"], p["layout"]) for p in row["peers"]] == [("torch", "channels-last"), ("torch", "NCHW")]
    assert row["best_ratio"] == min(p["ratio"] for p in row["peers"])
    for peer in row["peers"]:
        ours, theirs = np.array(row["samples_ms"]), np.array(peer["samples_ms"])
        assert len(ours) == len(theirs) >= 5
        assert peer["ratio"] == pytest.approx(np.median(theirs / ours), rel=1e-3)
        assert 0 < peer["error"] < 1e-5
        assert peer["version"] == given["torch NCHW"].version
    inputs, output = 4 * (2 * 4 * 63 + 8 * 36 + 8), 4 * 2 * 8 * 63
    assert row["bytes"] == (inputs + output if direction == FORWARD else 3 * inputs + 2 * output)
    assert row["flops"] == (1e6 if direction == FORWARD else 3e6)


def test_a_wrong_op_fails_and_is_not_timed():
    def wrong(L, x):
        return L.exp(x) * (1.001 if isinstance(L, Scratchgen) else 1.0)

    row, given = row_of(Case("wrong", LOOSE, wrong, (normal(50, 7),)), BOTH, "torch channels-last")
    assert "error 1.0e-03 is above 1e-05, not timed" in row["failed"]
    assert (row["ms"], row["best_ratio"], row["peers"]) == (None, None, [])
    assert all("time" not in contender.asked for contender in given.values())
    assert "FAIL" in report.line(row)
    assert results.broken({"rows": [row]}) == [f"wrong, {BOTH}: FAIL, {row['failed']}"]


def test_a_wrong_gradient_fails_although_the_value_is_right():
    def wrong(L, x):
        return L.exp(x) + 0.5 * (x - x.detach()) if isinstance(L, Scratchgen) else L.exp(x)

    case = Case("wrong gradient", LOOSE, wrong, (normal(50, 7),))
    assert row_of(case, FORWARD, "torch channels-last")[0]["failed"] is None
    assert "not timed" in row_of(case, BOTH, "torch channels-last")[0]["failed"]


def test_an_op_that_raises_fails_and_the_others_go_on():
    class Remote(Local):
        def call(self, method, *arguments):
            try:
                return super().call(method, *arguments)
            except Exception as error:
                raise WorkerError(f"{type(error).__name__}: {error}") from error

    case = Case("raising", LOOSE, lambda L, x: x.no_such_method(), (constant(1.0, 3),))
    row = ops.measure_row(case, BOTH, {OURS: Remote(OURS, Bench(Scratchgen(), {case.name: case}))}, 0.0, ROOF)
    assert row["failed"] == "AttributeError: 'Tensor' object has no attribute 'no_such_method'"


def test_nan_fails():
    case = Case("nan", LOOSE, lambda L, x: L.log(x) if isinstance(L, Scratchgen) else x, (constant(-1.0, 3),))
    with np.errstate(invalid="ignore"):
        assert row_of(case, FORWARD, "torch channels-last")[0]["failed"].startswith("error nan")


def test_what_is_data_gets_no_gradient():
    case = Case("embedding", LOOSE, lambda L, i, w: L.F.embedding(i, w), (integers(5, 6), normal(5, 3)))
    bench = Bench(Torch(), {"embedding": case})
    bench.open("embedding", BOTH)
    assert [r.shape for r in bench.results()] == [(6, 3), (5, 3)]


@pytest.mark.parametrize("library", [Scratchgen, lambda: Torch(channels_last=True), lambda: Torch()])
def test_only_images_are_laid_channels_last(library):
    L, array = library(), np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    side_by_side = (240, 4, 60, 12) if L.channels_last else (240, 80, 20, 4)
    for image, strides in ((True, side_by_side), (False, array.strides)):  # heads of attention are no channels
        t = L.tensor(array, image)
        assert L.numpy(t).strides == strides
        np.testing.assert_array_equal(L.numpy(t), array)
        assert not np.shares_memory(L.numpy(t), array)


def test_dropout_is_compared_by_what_it_keeps():
    case = CASES["dropout (8192, 768)"]
    x, c = (np.random.default_rng(i).standard_normal((500, 2000)).astype(np.float32) for i in (0, 1))
    mask = [np.random.default_rng(i).random(x.shape) < 0.9 for i in (2, 3)]
    good = [case.same([x], [c], [np.where(m, x / 0.9, 0), np.where(m, c / 0.9, 0)]) for m in mask]
    for a, b in zip(*good, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    unscaled = case.same([x], [c], [np.where(mask[0], x, 0), np.where(mask[0], c / 0.9, 0)])
    assert np.abs(unscaled[0] - good[0][0]).max() > 0.1
    leaking = case.same([x], [c], [np.where(mask[0], x / 0.9, 0), c / np.float32(0.9)])
    assert np.abs(leaking[0] - good[0][0]).max() > 0.1
    assert np.isnan(case.same([x], [c], [x / 0.9, c / 0.9])[0]).all()  # nothing dropped


def test_adamw_is_held_against_float64():
    case = CASES["AdamW 10M parameters in 1 tensor"]
    small = Case("adamw", LOOSE, case.function, (normal(30, 4), normal(30, 4)), stateful=True, bytes=1.0)
    row, _ = row_of(small, "update", "torch channels-last")
    assert row["failed"] is None
    assert 0 < row["error"] < 1e-6


# --- the table


def test_the_bars_are_those_that_were_set():
    bars = {(c.group.name, d): c.group.bars[d] for c in CASES.values() for d in c.directions if d in c.group.bars}
    assert bars == {
        ("conv 3x3", FORWARD): (1.8, 2.2),
        ("conv 3x3", BOTH): (1.7, 2.0),
        ("conv 4x4 stride 2", BOTH): (1.2, 1.4),
        ("conv 1x1, first layers, 5x5", BOTH): (1.0, 1.15),
        ("conv 3x3 stride 2", BOTH): (1.0, None),
        ("linear", BOTH): (1.0, 1.15),
        ("attention", FORWARD): (1.15, None),
        ("attention", BOTH): (1.3, None),
        ("softmax, cross-entropy, norms", BOTH): (1.0, 1.4),
        ("fused", BOTH): (1.5, None),
        ("fused", "update"): (1.5, None),
    }
    assert {(name.split()[0], step.bar) for name, step in STEPS.items()} == {
        ("VAE", 1.5), ("DCGAN", 1.4), ("U-Net", 1.8), ("GPT", 1.15),
        ("U-Net", 1.5), ("Glow", 1.2), ("RBM", 1.5),  # the survey's U-Net, and rows of later issues
        ("GPT", 1.0), ("Transformer", 1.0), ("LSTM", 1.0),
    }  # fmt: skip


def test_every_file_of_cases_is_in_the_table():
    groups = [case.group.name for case in CASES.values()]
    assert groups.count("conv 3x3") == 5
    assert groups.count("linear") == 6
    assert groups.count("attention") == 6
    assert groups.count("conv 4x4 stride 2") >= 4
    assert len(CASES) > 60


def test_choosing_by_part_of_a_name_or_wildcard():
    names = ["conv 3x3 N32", "conv 1x1 N32", "softmax (4, 5)"]
    assert ops.choose(["SOFT"], names) == names[2:]
    assert ops.choose(["conv*N32"], names) == names[:2]
    with pytest.raises(SystemExit, match="no case matches gelu"):
        ops.choose(["gelu"], names)


# --- files and reports


def example(**changes):
    row = {
        "case": "conv", "group": "convs", "direction": BOTH, "inputs": ["[2] N(0, 1^2)"], "bar": 1.2, "mean_bar": 1.4,
        "tolerance": 1e-5, "failed": None, "error": 3e-6, "ms": 2.0, "interval_ms": [1.9, 2.1], "best_ratio": 1.5,
        "best_interval": [1.4, 1.6], "roof_fraction": 0.8, "flops": 1e9, "bytes": 1e6, "samples_ms": [2.0],
        "peers": [{"name": "torch", "layout": "NCHW", "setting": "torch NCHW", "version": "2", "ms": 3.0, "ratio": 1.5,
                   "interval": [1.4, 1.6], "error": 1e-7, "samples_ms": [3.0]}],
    }  # fmt: skip
    return row | changes


def collection(*rows):
    return {"suite": "ops", "header": machine.header(2) | {"roof": ROOF}, "rows": list(rows)}


def test_results_survive_the_file(tmp_path):
    path = tmp_path / "deep" / "x.json"
    found = collection(example(), example(case="lost", error=math.nan, failed="error nan"))
    results.write(found, path)
    again = results.read(path)
    assert again["rows"][0] == found["rows"][0]
    assert again["rows"][1]["error"] is None
    assert again["header"] == found["header"]
    assert list(path.parent.iterdir()) == [path]  # nothing temporary is left
    path.write_text("[]")
    with pytest.raises(ValueError, match="not a file of benchmark results"):
        results.read(path)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"best_ratio": 1.19}, "1.19x, the bar is 1.2x"),
        ({"best_ratio": 1.3}, "geometric mean 1.30x, the bar is 1.4x"),
        ({"best_ratio": 0.94, "bar": None, "mean_bar": None}, "0.94x, the bar is 0.95x"),
        ({"memory_mb": 101.0, "peers": [{"memory_mb": 100.0}]}, "101 MB at its peak"),
    ],
)
def test_a_broken_promise_is_named(changes, sentence):
    assert results.broken(collection(example())) == []
    (found,) = [s for s in results.broken(collection(example(**changes))) if sentence in s]
    assert found.startswith("conv")


def test_the_report_has_tables_and_plots(tmp_path, capsys):
    path = tmp_path / "ops-cpu.json"
    found = collection(
        example(),
        example(case="slow", best_ratio=1.1),
        example(case="wrong", failed="error 1", ms=None, best_ratio=None, peers=[], roof_fraction=None),
    )
    results.write(found, path)
    assert main(["report", str(path)]) == 0
    page = (tmp_path / "ops-cpu.md").read_text()
    assert "| conv | forward+backward | 2.000 | 80 % | 3e-06 | 1.50x [1.40, 1.60] | 1.2x | pass |" in page
    assert "| slow |" in page
    assert "| below |" in page
    assert "FAIL" in page
    assert machine.cpu_model() in page
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", page):
        assert (tmp_path / picture).stat().st_size > 5000
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1


def test_a_report_of_steps(tmp_path):
    peer = example()["peers"][0] | {"loss": 1.0, "memory_mb": 80.0}
    row = example(
        case="VAE", direction="step", samples_per_s=99.0, memory_mb=70.0, loss=1.0, roof_fraction=None, peers=[peer]
    )
    page = report.markdown(collection(row) | {"suite": "steps"})
    assert "| VAE | step | 2.000 | 99 |" in page
    assert "| 70 | 80 |" in page
    assert plots.ratios(collection(row), tmp_path / "r.png").stat().st_size > 5000


def test_going_on_needs_the_same_machine_and_commit(tmp_path):
    path = tmp_path / "x.json"
    options = ops.common_arguments("ops", None, 1.0).parse_args(["--json", str(path), "--resume"])
    before = collection(example())
    results.write(before, path)
    found, _ = ops.begin(options, "ops")
    assert [results.key(row) for row in found["rows"]] == [("conv", BOTH)]
    before["header"]["cpu"] = "another"
    results.write(before, path)
    with pytest.raises(SystemExit, match="its cpu was another"):
        ops.begin(options, "ops")


# --- processes and the command line


@pytest.fixture(scope="module")
def process():
    with Worker(OURS, threads=2) as started:
        yield started


def state(process):
    return Path(f"/proc/{process.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks Linux for the state of a process")
def test_a_worker_stands_still_between_its_turns(process):
    process.call("open", "linear (128, 784)->400", BOTH)
    assert all(seconds > 0 for seconds in process.call("time", 1, 3))
    os.waitid(os.P_PID, process.process.pid, os.WSTOPPED | os.WNOWAIT)
    assert state(process) == "T"
    before = process.call("cpu_seconds")
    assert process.call("cpu_seconds") - before < 0.5


def test_what_fails_in_a_worker_is_told_with_its_traceback(process):
    with pytest.raises(WorkerError, match=r"scratchgen: KeyError: 'no such case'\n(.|\n)*Traceback"):
        process.call("open", "no such case", BOTH)
    assert process.call("version") == process.version  # and it goes on


def test_workers_have_the_threads_they_are_given(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    given = worker.environment(3)
    assert {given[f"{name}_NUM_THREADS"] for name in ("OMP", "MKL", "OPENBLAS", "NUMBA", "SCRATCHGEN")} == {"3"}
    assert "OMP_WAIT_POLICY" not in given  # each library keeps its own way of waiting


def test_scratchgen_bench_is_the_same_command(capsys):
    assert scratchgen_main(["bench", "steps", "--list"]) == 0
    assert capsys.readouterr().out.splitlines() == list(STEPS)
    assert scratchgen_main(["bench", "opps"]) == 2
    assert "no benchmark named 'opps'" in capsys.readouterr().err


def test_scratchgen_bench_without_a_checkout_says_so(capsys, monkeypatch):
    monkeypatch.setattr(Path, "is_file", lambda self: False)
    assert scratchgen_main(["bench", "ops"]) == 2
    assert "run this in a checkout" in capsys.readouterr().err


def test_a_peer_that_is_not_there_is_named():
    with pytest.raises(SystemExit, match="unknown peer 'tensorflow'"):
        ops.installed_peers("torch,tensorflow")
    assert ops.installed_peers("torch") == ["torch"]
