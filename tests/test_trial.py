"""The trial of the kernels for GPUs, without one: what it finds, and what it keeps."""

from __future__ import annotations

import sys

import pytest
import torch

from qplayer_gpu import Settings, backend, direct, trial
from qplayer_gpu.kernels import cpu
from qplayer_gpu.kernels.interface import Status

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("n", [3, 16])
def test_its_problems_are_of_both_kinds_and_right_kernels_pass(n, linear):
    arrays = trial.problems(n, linear, CPU)
    status = trial.solve_qp(arrays.pop("H", None), **arrays, backend="torch").status
    assert (status[::2] == Status.SOLVED_CLOSEST_FEASIBLE).all()
    assert (status[1::2] == Status.SOLVED).all()
    assert trial.difference(trial.problems(n, linear, CPU), "cpu", Settings()) < 1e-7


@pytest.mark.parametrize("part", ["forward", "adjoint"])
@pytest.mark.parametrize("wrong", [1e-4, float("nan")])
def test_wrong_kernels_fail(monkeypatch, part, wrong):
    def spoiled(*arguments):
        first, *others = right(*arguments)
        return type(right(*arguments))(first + wrong, *others)

    right = getattr(cpu, part)
    monkeypatch.setattr(cpu, part, spoiled)
    monkeypatch.setattr(direct, "solve", lambda *_: None)  # which does without these two
    with pytest.raises(RuntimeError, match="n = 3, float64, QP: wrong by"):
        trial.try_sizes("cpu", 16, False, CPU)


def test_sizes_before_a_failure_count(monkeypatch):
    def command(script):
        monkeypatch.setattr(trial.subprocess, "run", lambda _, **known: run([sys.executable, "-c", script], **known))

    run = trial.subprocess.run
    command("print(3); print(8); raise SystemExit('n = 16: wrong')")
    assert trial.in_its_own_process("triton") == (8, "n = 16: wrong")
    command("print(3)")
    assert trial.in_its_own_process("triton") == (3, "")
    monkeypatch.setattr(trial, "SECONDS", 1)
    command("import time; print(3, flush=True); time.sleep(60)")
    assert trial.in_its_own_process("triton") == (3, "no answer in 1 s")


def test_what_it_finds_is_kept_for_this_gpu_and_this_code(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "one")
    monkeypatch.setattr(trial, "obstacle", lambda *_: "")
    monkeypatch.setattr(trial, "in_its_own_process", lambda name: (32, "") if name == "triton" else (8, "wrong"))
    monkeypatch.setattr(sys, "argv", ["trial"])
    forget()
    assert backend.passed(CUDA) is None
    assert trial.main() == 1
    forget()
    assert backend.passed(CUDA) == {"triton": 32, "cuda": 8}
    (record,) = tmp_path.rglob("*.json")
    record.write_text(record.read_text().replace("32", "256"))
    backend.passed.cache_clear()
    assert backend.passed(CUDA) is None  # it is not what was written
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "another")
    forget()
    assert backend.passed(CUDA) is None
    forget()


def forget():
    for function in (backend.passed, backend.record):
        function.cache_clear()


def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["trial"])
    assert trial.main() == 0
    assert capsys.readouterr().out == "not tried: no CUDA device\n"
