"""The script for machines with a GPU, as far as it goes without one: what it does with parts that fail or hang."""

import csv
import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bench import gpu, run
from bench.cases import CASES
from qplayer_gpu import backend, direct, trial
from qplayer_gpu.kernels import cpu, linear

ROOT = Path(__file__).parents[1]


def bash(script, tmp_path, **environment):
    known = os.environ | {"out": str(tmp_path), "results": str(tmp_path), "budget": "60"} | environment
    return subprocess.run(["bash", "-c", script], cwd=ROOT, env=known, capture_output=True, text=True, timeout=60)


def said(folder):
    """What the summary has of each part, but for the time."""
    return [line.partition(", at ")[0] for line in (folder / "summary.txt").read_text().splitlines()]


def test_a_part_that_fails_or_hangs_does_not_lose_the_others(tmp_path):
    start = time.monotonic()
    done = bash(
        """. bench/parts.sh
        part good 9 echo fine
        part bad 9 bash -c 'echo trouble; exit 3'
        part hung 1 bash -c 'echo begun; sleep 50'
        aside one 9 bash -c 'sleep 1; echo slow'
        aside deaf 1 bash -c 'trap "" INT; for i in {1..50}; do sleep 1; done'
        together
        say 'absent: skipped'
        part last 9 echo fine
        exit $failed""",
        tmp_path,
    )
    assert done.returncode == 1, done.stderr
    assert said(tmp_path) == [
        "good: passed",
        "bad: FAILED (3)",
        "hung: FAILED, out of time",
        "one: passed",
        "deaf: FAILED, out of time",
        "absent: skipped",
        "last: passed",
    ]
    assert (tmp_path / "bad.txt").read_text() == "trouble\n"
    assert (tmp_path / "hung.txt").read_text() == "begun\n"
    assert time.monotonic() - start < 25


def test_a_part_that_is_interrupted_says_what_it_has_found(tmp_path):
    """Once, so that it can; what it had started is ended with it."""
    (tmp_path / "long.py").write_text(
        "import subprocess, time\n"
        "child = subprocess.Popen(['sleep', '50'])\n"
        "print(child.pid, flush=True)\n"
        "try:\n    time.sleep(50)\nexcept KeyboardInterrupt:\n    time.sleep(1)\n    print('two of three failed')\n"
    )
    bash(f". bench/parts.sh; part long 2 {sys.executable} {tmp_path}/long.py", tmp_path)
    child, found = (tmp_path / "long.txt").read_text().splitlines()
    assert found == "two of three failed"
    status = Path("/proc", child, "stat")
    assert not status.exists() or status.read_text().split()[2] == "Z"
    with tarfile.open(tmp_path / "results.tar") as kept:
        assert {"./summary.txt", "./long.txt"} <= set(kept.getnames())


def test_all_parts_together_end_in_time(tmp_path):
    start = time.monotonic()
    done = bash(
        ". bench/parts.sh; part long 50 sleep 50; sleep 1; part later 9 echo never; exit $failed", tmp_path, budget="13"
    )
    assert time.monotonic() - start < 13
    assert (done.returncode, said(tmp_path)) == (1, ["long: FAILED, out of time", "later: left out, no time"])


PYTHON = """#!/usr/bin/env bash
echo "$*" >> "$CALLS"
case "$*" in
    *tests/test_triton.py*) echo 'one test failed'; exit 1 ;;
    *bench.run*quick*) sleep 60 ;;
esac
"""


@pytest.mark.parametrize("environment_works", [True, False])
def test_the_whole_script(environment_works, tmp_path):
    """With stand-ins for python and timeout: each part is called, and the results are where they should be."""
    tools, out = tmp_path / "tools", tmp_path / "out"
    tools.mkdir()
    stop = "" if environment_works else "*bench.gpu?environment) exit 1 ;;\n"
    stand_ins = {
        "python3": PYTHON.replace("    *tests/test_triton.py*", stop + "    *tests/test_triton.py*"),
        "timeout": f'#!/usr/bin/env bash\nshift 6\nexec {timeout()} 8 "$@"\n',
        "compute-sanitizer": '#!/usr/bin/env bash\necho "sanitizer $*" >> "$CALLS"\n',
    }
    for name, text in stand_ins.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    calls = tmp_path / "calls"
    path = f"{tools}:{os.environ['PATH']}"
    done = bash(f"bench/gpu.sh {out}", tmp_path, PATH=path, CALLS=str(calls))
    assert done.returncode == 1, done.stdout + done.stderr
    with tarfile.open(out / "results.tar") as kept:
        kept.extractall(tmp_path / "kept", filter="data")
    assert [path.name for path in out.iterdir()] == ["results.tar"]
    kept = tmp_path / "kept"
    summary = dict(line.split(": ") for line in said(kept))
    if not environment_works:
        assert summary == {"environment": "FAILED (1)"}
        return
    assert {name for name, how in summary.items() if how == "passed"} == set(summary) - {"tests-triton", "peers"}
    assert summary["tests-triton"] == "FAILED (1)"
    assert summary["peers"] == "FAILED, out of time"
    assert [name.partition("-")[0] for name in summary if name.count("-") < 2] == [
        *("environment", "answers", "throughput", "throughput", "throughput", "micro", "benchmark", "factor"),
        *("memcheck", "memcheck", "racecheck", "racecheck", "synccheck", "synccheck"),
        *("tests", "tests", "solves", "auto", "trial", "peers"),
    ]
    assert (kept / "tests-triton.txt").read_text() == "one test failed\n"
    made = calls.read_text().splitlines()
    for name, sizes in gpu.SIZES.items():
        asked = [line.split()[4:] for line in made if line.startswith(f"-m bench.gpu answers {name} ")]
        assert set(map(str, sizes)) <= {n for sizes in asked for n in sizes}
    for tool in ("memcheck", "racecheck", "synccheck"):
        commands = sorted(line for line in made if line.startswith(f"sanitizer --tool {tool} --error-exitcode 9 "))
        assert [line.split()[-4] for line in commands] == ["cuda", "triton"]
    assert any(re.search(r"-m bench.run --device cuda --out \S+/gpu.csv", line) for line in made)


def test_what_was_carried_along_is_found(tmp_path):
    checkout, tools = tmp_path / "checkout", tmp_path / "tools"
    shutil.copytree(ROOT / "bench", checkout / "bench")
    carried = checkout / "build" / "gpu"
    inside = carried / "site" / "cmeel.prefix" / "lib" / "python3.12" / "site-packages"
    inside.mkdir(parents=True)
    (carried / "commit").write_text("abc123\n")
    tools.mkdir()
    (tools / "python3").write_text('#!/usr/bin/env bash\necho "$PYTHONPATH $TRITON_CACHE_DIR $BENCH_COMMIT"; exit 1\n')
    (tools / "python3").chmod(0o755)
    path = f"{tools}:{os.environ['PATH']}"
    done = bash(f"{checkout}/bench/gpu.sh {tmp_path / 'out'}", tmp_path, PATH=path, PYTHONPATH="/before")
    paths, cache, commit = done.stdout.splitlines()[1].split()
    assert paths.split(":") == [str(checkout), "/before", str(carried / "site"), str(inside)]
    assert (cache, commit) == (str(carried / "triton"), "abc123")


def timeout():
    return subprocess.check_output(["bash", "-c", "command -v timeout"], text=True).strip()


def test_without_a_gpu_it_says_so():
    known = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "bench.gpu", "environment"]
    done = subprocess.run(command, cwd=ROOT, env=known, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("no CUDA device that PyTorch")


@pytest.fixture
def on_a_cpu(monkeypatch):
    """The compiled kernels of the CPU in the place of a backend for GPUs."""
    monkeypatch.setattr(gpu, "SIZES", gpu.SIZES | {"cpu": (8, 16)})
    monkeypatch.setattr(gpu, "DTYPES", gpu.DTYPES | {"cpu": [torch.float64]})
    monkeypatch.setattr(gpu, "BATCHES", (4, 12))
    monkeypatch.setattr(gpu, "device", lambda: torch.device("cpu"))

    def asked(*words):
        monkeypatch.setattr(sys, "argv", ["gpu", *words])
        return gpu.main()

    return asked


@pytest.mark.parametrize("part", ["environment", "answers cpu 8 16", "answers auto 8", "solves"])
def test_right_backends_pass(part, on_a_cpu):
    assert on_a_cpu(*part.split()) == 0


def test_times_are_lines_of_a_table(on_a_cpu, capsys):
    assert on_a_cpu("throughput", "cpu") == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    expected = itertools.product(("8", "16"), ("4", "12"), ("forward", "both"))
    assert [(row["n"], row["batch"], row["phase"]) for row in rows] == list(expected)
    for row in rows:
        assert float(row["us_per_qp"]) == pytest.approx(1e3 * float(row["ms"]) / int(row["batch"]), rel=1e-3)
        assert (row["backend"], row["dtype"], row["solved"]) == ("cpu", "float64", "1.0")
        assert float(row["residual"]) < 1e-9


def test_a_wrong_backend_is_found(on_a_cpu, monkeypatch, capsys):
    spoiled = SimpleNamespace(**vars(cpu) | {"adjoint": wrong(cpu.adjoint)})
    monkeypatch.setitem(backend.BACKENDS, "cpu", spoiled)
    monkeypatch.setattr(direct, "_plans", {})  # which know who solves
    assert on_a_cpu("answers", "cpu", "8") == 1
    assert "cpu, n = 8, torch.float64: error 1." in capsys.readouterr().out


def test_a_wrong_solve_is_found(on_a_cpu, monkeypatch, capsys):
    solve = linear.sweep_solve
    monkeypatch.setattr(linear, "sweep_solve", lambda K, r: solve(1.01 * K, r))
    assert on_a_cpu("solves") == 1
    assert "sweep_solve, n = 8, torch.float64: error 9.9e-03" in capsys.readouterr().out


def test_a_backend_that_checks_itself_and_is_left_fails(on_a_cpu, monkeypatch):
    monkeypatch.setattr(trial, "solved", lambda *_: warnings.warn("backend 'x' gave a wrong answer", stacklevel=1))
    with pytest.raises(UserWarning, match="gave a wrong answer"):
        on_a_cpu("answers", "auto", "8")


def wrong(adjoint):
    def changed(*arguments):
        found = adjoint(*arguments)
        found.b_x.mul_(1.01)
        return found

    return changed


def test_what_is_timed_is_there_and_was_compiled_by_the_answers():
    script = (ROOT / "bench/gpu.sh").read_text().replace("\\\n", "")
    (line,) = re.findall(r"^part benchmark .* python3 -m bench.run (.*)", script, re.MULTILINE)
    call = run.parse(shlex.split(line))
    assert {CASES[name].n for name in call.cases} == set(gpu.SIZES["triton"])
    assert {CASES[name].family for name in call.cases} == {"mixed", "half_infeasible"}


@pytest.mark.slow
def test_what_is_compiled_ahead_is_what_a_solve_asks_for(tmp_path):
    """By an emulated GPU, whose architecture Triton takes for a true one."""
    pytest.importorskip("triton")
    known = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    known |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}

    def kernels():
        return {path.relative_to(tmp_path) for path in tmp_path.rglob("*.cubin")}

    def python(*words):
        subprocess.run([sys.executable, *words], cwd=ROOT, env=known, check=True)

    python("-m", "bench.chip.ahead", "90", "5")
    ahead = kernels()
    assert len(ahead) == 2
    python("-m", "gpu.script", "answers", "triton", "5")
    assert kernels() == ahead
