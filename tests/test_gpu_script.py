"""The script for machines with a GPU, as far as it goes without one: what it does with parts that fail or hang."""

import os
import re
import shlex
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bench import gpu, run
from bench.cases import CASES
from qplayer_gpu import backend
from qplayer_gpu.kernels import cpu, linear

ROOT = Path(__file__).parents[1]


def bash(script, tmp_path, **environment):
    known = os.environ | {"out": str(tmp_path), "results": str(tmp_path)} | environment
    return subprocess.run(["bash", "-c", script], cwd=ROOT, env=known, capture_output=True, text=True, timeout=60)


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
    assert (tmp_path / "summary.txt").read_text().splitlines() == [
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
    (tmp_path / "long.py").write_text(
        "import time\ntry:\n    time.sleep(50)\nexcept KeyboardInterrupt:\n    print('two of three failed')\n"
    )
    bash(f". bench/parts.sh; part long 2 python3 {tmp_path}/long.py", tmp_path)
    assert (tmp_path / "long.txt").read_text() == "two of three failed\n"
    with tarfile.open(tmp_path / "results.tar") as kept:
        assert {"./summary.txt", "./long.txt"} <= set(kept.getnames())


PYTHON = """#!/usr/bin/env bash
echo "$*" >> "$CALLS"
case "$*" in
    *test_triton.py*) echo 'one test failed'; exit 1 ;;
    *bench.run*quick*) sleep 60 ;;
esac
"""


@pytest.mark.parametrize("environment_works", [True, False])
def test_the_whole_script(environment_works, tmp_path):
    """With stand-ins for python and timeout: each part is called, and the results are where they should be."""
    tools, out = tmp_path / "tools", tmp_path / "out"
    tools.mkdir()
    stop = "" if environment_works else "*--environment) exit 1 ;;\n"
    stand_ins = {
        "python3": PYTHON.replace("    *test_triton.py*", stop + "    *test_triton.py*"),
        "timeout": f'#!/usr/bin/env bash\nshift 5\nexec {timeout()} 2 "$@"\n',
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
    out = tmp_path / "kept"
    said = dict(line.split(": ") for line in (out / "summary.txt").read_text().splitlines())
    if not environment_works:
        assert said == {"environment": "FAILED (1)"}
        return
    assert {name for name, how in said.items() if how == "passed"} == set(said) - {"tests-kernels", "peers"}
    assert said["tests-kernels"] == "FAILED (1)"
    assert said["peers"] == "FAILED, out of time"
    assert list(said)[-2:] == ["benchmark", "peers"]
    assert {"memcheck", "racecheck", "check", "tests-gpu-float64", "tests-gpu-float32"} <= set(said)
    assert (out / "tests-kernels.txt").read_text() == "one test failed\n"
    made = calls.read_text()
    for tool in ("memcheck", "racecheck"):
        assert f"sanitizer --tool {tool} --error-exitcode 9 python3 -m bench.gpu --small" in made
    assert re.search(r"-m bench.run --device cuda --out \S+/gpu.csv", made)


def timeout():
    return subprocess.check_output(["bash", "-c", "command -v timeout"], text=True).strip()


def test_the_limits_add_up_to_less_than_ten_minutes():
    """Those side by side count once, and each ends ten seconds after its limit at the latest."""
    words = [line.split() for line in (ROOT / "bench/gpu.sh").read_text().splitlines()]
    alone = [int(w[2]) for w in words if w[:1] == ["part"]]
    aside = [int(w[2]) for w in words if w[:1] == ["aside"] and w[2].isdigit()]
    assert len(aside) >= 5
    assert sum(alone) + max(aside) + 10 * (len(alone) + 1) < 600


def test_without_a_gpu_it_says_so(tmp_path):
    known = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "bench.gpu", "--environment"]
    done = subprocess.run(command, cwd=ROOT, env=known, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("no CUDA device that PyTorch")


@pytest.fixture
def on_a_cpu(monkeypatch):
    """The compiled kernels of the CPU in the place of a backend for GPUs."""
    monkeypatch.setattr(gpu, "others", lambda: ["cpu"])
    monkeypatch.setattr(gpu, "device", lambda: torch.device("cpu"))


@pytest.mark.parametrize("options", [["--environment"], ["--small"], []])
def test_right_backends_pass(options, on_a_cpu, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gpu", *options])
    assert gpu.main() == 0


def test_a_wrong_backend_is_found(on_a_cpu, monkeypatch, capsys):
    spoiled = SimpleNamespace(**vars(cpu) | {"adjoint": wrong(cpu.adjoint)})
    monkeypatch.setitem(backend.BACKENDS, "cpu", spoiled)
    monkeypatch.setattr(sys, "argv", ["gpu"])
    assert gpu.main() == 1
    assert "cpu, n = 8, torch.float64: error 1." in capsys.readouterr().out


def test_a_wrong_solve_is_found(on_a_cpu, monkeypatch, capsys):
    solve = linear.sweep_solve
    monkeypatch.setattr(linear, "sweep_solve", lambda K, r: solve(1.01 * K, r))
    monkeypatch.setattr(sys, "argv", ["gpu"])
    assert gpu.main() == 1
    assert "sweep_solve, n = 8, torch.float64: error 9.9e-03" in capsys.readouterr().out


def wrong(adjoint):
    def changed(*arguments):
        found = adjoint(*arguments)
        found.b_x.mul_(1.01)
        return found

    return changed


def test_what_is_timed_is_there_and_was_compiled_by_the_check():
    script = (ROOT / "bench/gpu.sh").read_text().replace("\\\n", "")
    (line,) = re.findall(r"^part benchmark .* python3 -m bench.run (.*)", script, re.MULTILINE)
    call = run.parse(shlex.split(line))
    assert {CASES[name].n for name in call.cases} == set(gpu.SIZES)
    assert {CASES[name].family for name in call.cases} == {"mixed", "half_infeasible"}
