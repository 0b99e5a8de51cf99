"""The script for the first minutes on a GPU, as far as it can be tried without one."""

from __future__ import annotations

import json
import shutil
import sys
from types import SimpleNamespace

import fake_cupy
import numpy as np
import pytest

from benchmarks import results
from benchmarks.__main__ import main
from benchmarks.gpu import beside, command, correct, roofs, training
from benchmarks.gpu.board import GPU, NO_GPU, Board, find
from benchmarks.gpu.rows import ROWS, Draws
from benchmarks.gpu.tasks import Part, Task, work
from benchmarks.networks import Step, Training
from scratchgen import kernels
from scratchgen.device import cuda_is_available
from scratchgen.kernels import gates
from scratchgen.kernels.launch import all_modules

emulates = pytest.mark.skipif(shutil.which("g++") is None, reason="the emulator compiles with g++")


@pytest.mark.skipif(cuda_is_available(), reason="there is a GPU")
def test_without_a_gpu_one_sentence_says_what_is_missing(capsys):
    assert main(["gpu"]) == 2
    assert capsys.readouterr().out == NO_GPU + "\n"
    with pytest.raises(RuntimeError, match="needs an NVIDIA GPU with its driver, and CuPy"):
        find("cuda")


def test_the_emulators_times_do_not_go_among_the_results(capsys):
    assert main(["gpu", "--device", "emu"]) == 2
    assert "is no result" in capsys.readouterr().out


def test_all_parts_take_less_than_eight_minutes_and_miss_no_kernel(capsys):
    assert list(command.PARTS) == ["roofs", "correct", "overhead", "kernels", "steps"]
    assert sum(part.seconds for part in command.PARTS.values()) <= 8 * 60
    assert main(["gpu", "--list", "--device", "emu"]) == 0
    listed = capsys.readouterr().out
    all_modules()
    on_gpu = {op for op in kernels.ops() if any("emu" in k.device for k in kernels.implementations(op).values())}
    tasks = {task.name for task in correct.CORRECT.tasks(Board())}
    # In place, of one array only: their kernels are those of many, or plain loops that tests hold.
    assert on_gpu - tasks == {"accumulate", "adam", "ema", "scale_many"}
    assert all(f"  {name}\n" in listed for name in tasks)
    assert {row.op for row in ROWS} <= on_gpu


# --- resuming


def numbered(ran, *names, fails=()):
    def task(name):
        def run():
            ran.append(name)
            if name in fails:
                raise ValueError("no good")
            return [{"case": name, "value": 1.5, "shows": ["value"]}]

        return Task(name, run)

    return Part("made", "for a test", 60, lambda board: [task(name) for name in names])


@pytest.fixture
def tried(monkeypatch, tmp_path):
    """A function that runs the command on parts of its own; the file of results."""
    path = tmp_path / "found.json"

    def run(part, *arguments):
        monkeypatch.setattr(command, "PARTS", {part.name: part})
        return command.main(["--device", "emu", "--json", str(path), *arguments])

    return run, path


def test_what_is_done_is_not_done_again(tried, capsys):
    run, path = tried
    ran: list[str] = []
    assert run(numbered(ran, "a", "b"), "--hurry", "0") == 0  # its time is over at once
    assert ran == []
    assert run(numbered(ran, "a")) == 0
    assert run(numbered(ran, "a", "b")) == 0
    assert ran == ["a", "b"]
    assert "made: 1 of 2 tasks to do" in capsys.readouterr().out
    assert run(numbered(ran, "a", "b"), "--again") == 0
    assert ran == ["a", "b", "a", "b"]
    found = results.read(path)
    assert [row["case"] for row in found["rows"]] == ["a", "b"]
    assert all({"part", "task", "took", "failed"} <= set(row) for row in found["rows"])


def test_a_task_that_fails_stops_no_other_and_is_tried_again(tried, capsys):
    run, path = tried
    ran: list[str] = []
    assert run(numbered(ran, "a", "b", fails=["a"])) == 1
    assert ran == ["a", "b"]
    assert results.read(path)["rows"][0]["failed"] == "ValueError: no good"
    assert "a: FAIL, ValueError: no good" in capsys.readouterr().out
    assert run(numbered(ran, "a", "b")) == 0
    assert ran == ["a", "b", "a"]
    assert [row["failed"] for row in results.read(path)["rows"]] == [None, None]


def test_results_of_other_sources_are_not_gone_on_with(tried):
    run, path = tried
    ran: list[str] = []
    run(numbered(ran, "a"))
    found = json.loads(path.read_text())
    head = found["header"]
    assert head["gpu"] == {"name": "emulator", "measured": False}
    assert head["sources"] == {file: module.digest for file, module in all_modules().items()}
    assert {"date", "versions", "git", "nvrtc"} <= set(head)
    head["sources"]["softmax/softmax.cu"] = "another"
    path.write_text(json.dumps(found))
    run(numbered(ran, "a"))
    assert ran == ["a", "a"]


def test_a_part_whose_time_is_over_leaves_the_rest():
    ran: list[str] = []
    assert list(work(numbered(ran, "a", "b"), Board(), set(), seconds=-1)) == []
    assert [name for name, _ in work(numbered(ran, "a", "b"), Board(), {"a"}, seconds=60)] == ["b"]


# --- the parts, in the emulator


@emulates
def test_roofs_and_launches_run_and_have_figures():
    for part in (roofs.ROOFS, roofs.OVERHEAD):
        rows = [row for _, rows in work(part, Board(), set(), 60) for row in rows]
        assert all(row["failed"] is None for row in rows)
        assert all(row[name] > 0 for row in rows for name in row["shows"])
    out = np.zeros(64, np.float32)
    roofs.MODULE.launch("multiply_add", 1, 64, roofs.Out(out), np.int32(2), np.float32(0.5))
    np.testing.assert_allclose(out, [sum((t + i) * 0.25 + 1.5 for i in range(16)) for t in range(64)], rtol=1e-6)


@emulates
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_rows_say_the_same_in_torch(row):
    """What PyTorch is asked for beside a kernel, on its CPU, gives what the kernel gives."""
    torch = pytest.importorskip("torch")
    board = Board()
    arrays, attrs = row.make(Draws(board, "float32"))
    kernel = row.kernel("emu", arrays, attrs)
    assert kernel.impl.startswith("cuda")
    assert kernel.cost is None or kernel.cost(*row.arguments(arrays), **attrs).bytes > 0
    if row.random:
        return
    peer = beside.Peer("PyTorch", torch, torch.utils.dlpack.from_dlpack, lambda function: function)
    theirs = [beside._taken(peer, a) for a in arrays]
    if row.setup:  # both change their arguments, so each has its own
        arrays = tuple([a.copy() for a in column] for column in arrays)
        row.peers["torch"](torch, *theirs)()
        kernel.fn(*arrays, **attrs)
        pairs = [(a, b) for mine, other in zip(arrays, theirs) for a, b in zip(mine, other)]
    else:
        first = [v[0] if isinstance(v, (tuple, list)) else v for v in (
            kernel.fn(*row.arguments(arrays), **attrs), row.peers["torch"](torch, *theirs))]  # fmt: skip
        pairs = [tuple(first)]
    for mine, other in pairs:
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-5 * float(np.abs(mine).max()))


@emulates
def test_a_row_is_timed_beside_the_others():
    (row,) = (row for row in ROWS if row.name.startswith("sum of rows"))
    (found,) = beside._measure(row, Board(), "float32")
    assert found["apart"] < 1e-6
    assert [peer["name"] for peer in found["peers"]] == ["NumPy"]
    assert found["bytes"] == 6 * 40 * 4
    assert {"ms", "samples_ms", "of_a_copy"} <= set(found)


@emulates
def test_hoppers_rung_is_checked_where_it_runs_and_timed_beside_the_one_below():
    (row,) = (row for row in ROWS if row.name == "matmul 4096")
    with kernels.use(matmul="cuda-wgmma"):
        (found,) = beside._measure(row, Board(), "float16")
    assert [peer["name"] for peer in found["peers"]] == ["NumPy", "our cuda"]
    assert found["apart"] < 1e-3
    ampere = Board()
    ampere.hopper = False
    checked = [{k.impl for k in correct._implementations("linear", board)} for board in (Board(), ampere)]
    assert checked == [{"cuda", "cuda-tf32", "cuda-wgmma", "cuda-wgmma-tf32"}, {"cuda", "cuda-tf32"}]


@emulates
def test_a_wrong_kernel_is_found(monkeypatch, tried):
    run, path = tried
    right = kernels.implementations("softmax", "emu")["cuda"]
    wrong = SimpleNamespace(**{**vars(right), "fn": lambda x, dim: right.fn(x, dim=dim) * np.float32(1.01)})
    wrong.accepts = right.accepts
    monkeypatch.setattr(correct, "_implementations", lambda op, board: [wrong])
    monkeypatch.setattr(correct, "file_of", lambda kernel: "softmax/softmax.cu")
    part = Part("correct", "", 60, lambda board: [Task("softmax", lambda: correct._check("softmax", board))])
    assert run(part) == 1
    assert all("is above" in row["failed"] for row in results.read(path)["rows"])


@emulates
@pytest.mark.parametrize("op", ["norm_many", "adam_many", "ema_many"])
def test_ops_on_many_arrays_are_checked(op):
    rows = list(correct._check_in_place(op, Board()))
    assert [row["failed"] for row in rows] == [None, None]
    assert max(row["error"] for row in rows) > 0


@emulates
def test_a_network_takes_steps_beside_another():
    def build(L):
        net = L.prepared(L.nn.Sequential(L.nn.Linear(4, 5), L.nn.SiLU()))
        rest = L.nn.Linear(5, 1)  # which nothing prepares
        optimizer = L.adamw(L.nn.ModuleList([net, rest]).parameters(), lr=1e-2)

        def step(x):
            optimizer.zero_grad()
            loss = (rest(net(x)) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss

        modules = {"net": net, "rest": rest}
        return Training(modules, lambda rng: (rng.standard_normal((6, 4), np.float32),), step)

    (row,) = training._beside(Step("tiny", build, samples=6, images=False, bar=1.0), Board())
    assert row["failed"] is None
    assert row["losses"]["ours"][2] < row["losses"]["ours"][0]
    assert [peer["name"] for peer in row["peers"]] == ["ours on the CPU"]


# --- on the stand-in for CuPy


@emulates
def test_on_cupys_arrays_the_checks_are_the_same(monkeypatch):
    with fake_cupy.installed() as cupy:
        board = GPU()
        x = np.arange(24.0).reshape(2, 3, 4).transpose(0, 2, 1)
        there = board.array((x, None, 5))[0]
        assert (there.strides, type(there)) == (x.strides, cupy.ndarray)
        np.testing.assert_array_equal(board.host(there), x)
        only = {op: [kernels.implementations(op, "cuda")["cuda"]] for op in ("softmax", "take_rows")}
        monkeypatch.setattr(correct, "_implementations", lambda op, board: only[op])  # Numba's want a driver
        rows = [row for op in only for row in correct._check(op, board)]
        rows += correct._check_in_place("ema_many", board)
        assert len(rows) == 6
        assert all(row["failed"] is None and not row.get("from_emulator") for row in rows)
        properties = {"name": b"NVIDIA H200", "major": 9, "minor": 0, "multiProcessorCount": 132,
                      "totalGlobalMem": 150 << 30, "l2CacheSize": 50 << 20}  # fmt: skip
        monkeypatch.setattr(cupy.cuda.runtime, "getDeviceProperties", lambda number: properties, raising=False)
        for name in ("driverGetVersion", "runtimeGetVersion"):
            monkeypatch.setattr(cupy.cuda.runtime, name, lambda: 13000, raising=False)
        head = command.header(board)
        assert (head["gpu"]["name"], head["gpu"]["measured"], head["gpu"]["driver"]) == ("NVIDIA H200", True, 13000)
        assert command.default_file("NVIDIA H200").name == "gpu-nvidia-h200.json"


def test_kernels_say_where_they_have_run(monkeypatch, tmp_path):
    all_modules()
    copy = tmp_path / "evidence.json"
    evidence = {
        file: {"digest": module.digest, "emulated": "2026-11-24", "gpu": []} for file, module in all_modules().items()
    }
    copy.write_text(json.dumps(evidence))
    monkeypatch.setattr(gates, "EVIDENCE", copy)
    gates.evidence.cache_clear()
    try:
        ops = {op for op in (*kernels.comparable(), *correct.IN_PLACE) for k in correct._implementations(op, Board())
               if correct.file_of(k) == "softmax/softmax.cu"}  # fmt: skip
        rows = [{"part": "correct", "op": op, "file": "softmax/softmax.cu", "failed": None} for op in ops]
        assert correct.note(rows[1:], Board(), "H200") == []  # one op is not done yet
        assert correct.note([*rows, {**rows[0], "failed": "wrong"}], Board(), "H200") == []
        assert correct.note(rows, Board(), "H200") == ["softmax/softmax.cu"]
        gates.evidence.cache_clear()
        digest = all_modules()["softmax/softmax.cu"].digest
        status = gates.status(kernels.implementations("softmax", "emu")["cuda"])
        assert status.startswith("run on H200 (")
        assert status.endswith(f"source {digest})")
        assert gates.status(kernels.implementations("ema", "emu")["cuda"]) == "compiled, emulated"
    finally:
        gates.evidence.cache_clear()
    assert "cupy" not in sys.modules or cuda_is_available()
