"""The model of a GPU's time (bench/chip/model.py), and the kernels that measure on a GPU what it assumes."""

import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("cupy_backends.cuda.libs.nvrtc")
pytest.importorskip("triton")
from cupy_backends.cuda.libs import nvrtc
from gpu import consumer, on_cupy, paths, timed

from bench import gpu, table
from bench.chip import consumer as cards
from bench.chip import micro, model
from bench.chip.sass import tool
from bench.rows import environment
from qplayer_gpu.kernels.cuda.source import threads_of

pytestmark = pytest.mark.usefixtures("compiler")

SASS = {  # what the machine's code of a chain consists of; sm_80 names a product otherwise
    "integer": r"IMAD",
    "double": r"DFMA",
    "product": r"DMMA\.884|DMMA\.8x8x4",
    "large_product": r"DMMA\.16x8x8",
    "approximate": r"MUFU\.RSQ64H",
    "shuffle": r"SHFL\.BFLY",
    "barrier": r"BAR\.SYNC\S*",
    "warp_barrier": r"NOP",
    "shared": r"LDS",
    "local": r"LDL\.64",
    "global": r"LDG\.E\.64\.STRONG\.GPU",
}
UNROLLED = 64


def compiled(chains, to):
    """micro.cu as PTX ("compute_90") or the machine's code ("sm_90")."""
    program = nvrtc.createProgram(micro.SOURCE.read_text(), "micro.cu", (), ())
    nvrtc.compileProgram(program, (*micro.options(chains), f"--gpu-architecture={to}"))
    return nvrtc.getCUBIN(program) + b"\0" if to.startswith("sm") else nvrtc.getPTX(program).rstrip(b"\0").decode()


def launcher(kind):
    """Runs the kernels on the emulator."""
    programs = {}

    def launch(kernel, chains, threads):
        if chains not in programs:
            programs[chains] = kind(compiled(chains, "compute_90"))
        arrays = [np.zeros(size, np.uint64) for size in (threads // 32, threads, micro.RING * micro.STRIDE)]
        arguments = [a.ctypes.data.to_bytes(8, "little") for a in arrays]
        memory = [(a.ctypes.data, a.nbytes) for a in arrays]
        run = programs[chains].launch(kernel, 1, threads, arguments, memory)
        assert [str(finding) for finding in run.findings] == []
        return micro.Ran(arrays[0].tolist(), arrays[1].tolist())

    return launch


def test_the_emulators_clock_is_measured_to_be_what_it_goes_by():
    """All that a GPU is asked for, of a machine that is known; what the kernels compute is right, too."""
    busy = model.CARDS[90].busy
    timed.assume("latency", model.LATENCY)
    timed.assume("busy", busy)
    launch = launcher(timed.TimedProgram)
    for unit in micro.units(90):
        latency, kept = micro.measured(unit, launch)
        assert latency == pytest.approx(model.LATENCY.get(unit, model.LATENCY["product"]), abs=1.5), unit  # of a loop
        if unit in ("double", "product"):
            assert kept == pytest.approx(busy[unit] / model.QUARTERS, rel=0.02)  # each warp has units of its own


@pytest.mark.slow
def test_what_is_measured_is_written_and_compared(tmp_path, monkeypatch, capsys):
    """The whole of it on the emulator, whose latencies lead to the modelled times that the assumed ones do."""
    timed.assume("latency", model.LATENCY)
    timed.assume("busy", model.CARDS[90].busy)
    monkeypatch.setattr(micro, "on_device", launcher(timed.TimedProgram))
    monkeypatch.setattr(micro, "environment", lambda device: environment("cpu"))
    monkeypatch.setattr(micro, "QPS", {8: 4})
    monkeypatch.setattr(gpu, "device", lambda: torch.device("cpu"))
    monkeypatch.setattr(gpu, "ROUNDS", 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(sys, "argv", ["micro", "--out", str(tmp_path / "micro.csv")])
    emulation = on_cupy.emulate(monkeypatch)
    assert micro.main() == 0
    assert [str(finding) for finding in emulation.findings] == []
    rows = table.parsed(tmp_path / "micro.csv", micro.Row)
    assert [row.unit for row in rows] == micro.units(90)
    printed = capsys.readouterr().out
    (times,) = re.findall(r"^\| 8 \| 8 \| (\S+) \| (\S+) \| (\S+) \|$", printed, re.MULTILINE)
    by_model, by_measured, measured = map(float, times)
    assert by_measured == pytest.approx(by_model, rel=0.1)
    assert measured > 0
    assert "| H100 | 128 | 128 |" in printed


def test_a_wrong_result_is_no_measurement():
    ran = micro.Ran([10], [micro.expected("double", 1, k) + (k == 7) for k in range(32)])
    with pytest.raises(ArithmeticError, match="measure_double with 1 chains of 32 threads"):
        micro.measured("double", lambda *_: ran)


@pytest.mark.parametrize("architecture", [80, 90])
@pytest.mark.parametrize("chains", [micro.LATENCY[0], micro.RATE[0]])
def test_the_machines_code_is_what_is_to_be_measured(architecture, chains):
    text = tool("nvdisasm", "-c", cubin=compiled(chains, f"sm_{architecture}"))
    parts = re.split(r"^\.text\.measure_(\w+):", text, flags=re.MULTILINE)
    functions = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert functions.keys() == set(micro.units(architecture))
    for unit, code in SASS.items():
        if unit in functions and (chains == 1 or unit in micro.RATED):
            found = re.findall(rf"\s{code}\s", functions[unit])
            assert 0 <= len(found) - UNROLLED * chains < 20, (unit, len(found))


# Where the kernels are launched otherwise than the model would have it, and why.
OTHERWISE = {
    (80, 8): "one table for all cards: 8 threads are the model's choice on sm_90, and 1.1 times as slow here",
    (80, 128): "the same: 128 threads are the model's choice on sm_90, and 1.2 times as slow here",
}


def test_the_kernels_are_launched_as_the_model_says():
    for architecture, card in model.CARDS.items():
        for n, path in model.launch_table(card).items():
            if (architecture, n) not in OTHERWISE:
                assert path.threads == threads_of(n), (architecture, n)
        for path in model.paths(card):
            assert path.launched == (path.threads == threads_of(path.n))
    for architecture, n in OTHERWISE:
        card = model.CARDS[architecture]
        best, ours = model.launch_table(card)[n], model.launched(card)[n]
        assert best != ours, "it is as the model says: not to be listed"
        assert model.time(ours, card).worst <= 1.25 * model.time(best, card).worst


def test_a_time_lies_between_its_bounds():
    """As many problems as fit by registers; alone, and where a unit is always busy, both bounds are known."""
    card = model.CARDS[90]
    path = model.launched(card)[64]
    found = model.time(path, card)
    assert found.resident == 65536 // (128 * 64)
    cycle = 1e-3 / card.gigahertz / card.multiprocessors  # microseconds of all multiprocessors
    assert found.busiest == "latency"
    assert found.best == pytest.approx(path.cycles / 8 * cycle)
    assert found.worst == pytest.approx((path.cycles + 7 * 2 * path.accesses) / 8 * cycle)
    assert found.floor == pytest.approx(path.operations / (128 * card.multiprocessors * card.gigahertz * 1e3))
    busy = model.time(replace(path, instructions=1e7), card)
    assert busy.busiest == "issue"
    assert busy.best == pytest.approx(2.5e6 * cycle)
    slower = model.time(path, card, model.LATENCY | {"global": model.LATENCY["global"] + 8})
    assert slower.best - found.best == pytest.approx(path.on_global * cycle)


def test_latencies_account_for_the_time_of_a_problem():
    """Times are homogeneous in latencies and slots, so that what is no latency is slots, and not negative."""
    for path in (path for card in model.CARDS.values() for path in model.paths(card)):
        of_latencies = path.alone(dict.fromkeys(model.LATENCY, 0))
        assert -0.02 * path.cycles <= of_latencies <= 0.25 * path.cycles, path


@pytest.mark.slow
def test_the_rows_are_of_these_kernels(monkeypatch):
    """A step may take 5 % more than in the table until it is to be written anew."""
    card = model.CARDS[90]
    emulation = on_cupy.emulate(monkeypatch, card.architecture)
    monkeypatch.setattr(on_cupy, "Program", timed.TimedProgram)
    monkeypatch.setattr(on_cupy, "compiled", on_cupy.compiled.__wrapped__)
    now, then = paths.path(32, 32, card, emulation), model.launched(card)[32]
    assert now.cycles == pytest.approx(then.cycles, rel=0.05)
    assert now.instructions == pytest.approx(then.instructions, rel=0.05)


@pytest.mark.slow
def test_the_rows_of_consumer_cards_are_of_these_kernels(monkeypatch):
    emulation = on_cupy.emulate(monkeypatch, consumer.ARCHITECTURE)
    monkeypatch.setattr(on_cupy, "Program", consumer.Counted)
    monkeypatch.setattr(on_cupy, "compiled", on_cupy.compiled.__wrapped__)
    now = consumer.step(16, "float32", emulation)
    then = next(
        part
        for part in table.parsed(cards.FILE, cards.Part)
        if (part.n, part.precision, part.what) == (now.n, now.precision, now.what)
    )
    assert now.double == pytest.approx(then.double, rel=0.05)
    assert now.instructions == pytest.approx(then.instructions, rel=0.05)
