"""The comparison of the factor with those of libraries (bench/factor.py)."""

import importlib
import sys

import pytest
import torch

from bench import factor, table


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(factor, "BATCHES", {5: 3, 8: 4})
    monkeypatch.setattr(factor, "ROUNDS", 1)


@pytest.mark.usefixtures("small")
def test_rows_of_a_machine_without_a_gpu_say_so(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["factor", "--out", str(tmp_path / "rows.csv")])
    assert factor.main() == 0
    rows = table.parsed(tmp_path / "rows.csv", factor.Row)
    assert {(row.device, row.solver, row.n) for row in rows} == {
        *(("cpu", "torch", n) for n in (5, 8)),
        *(("cuda", solver, n) for solver in factor.SOLVERS for n in (5, 8)),
    }
    for row in rows:
        assert (row.us is not None and row.error < 1e-15) == (row.device == "cpu")
        assert row.verdict == ("ok" if row.device == "cpu" else "not measured: no CUDA device")


@pytest.mark.usefixtures("small")
def test_a_wrong_answer_has_no_time_and_fails(tmp_path, monkeypatch):
    def spoiled(K, r):
        x = factor.by_torch(K, r)
        x[1, 0] *= 1 + 1e-10
        return x

    monkeypatch.setitem(factor.SOLVERS, "torch", ("torch", lambda: spoiled))
    monkeypatch.setattr(sys, "argv", ["factor", "--out", str(tmp_path / "rows.csv")])
    assert factor.main() == 1
    row = table.parsed(tmp_path / "rows.csv", factor.Row)[0]
    assert (row.us, row.verdict) == (None, "wrong")


def test_what_is_not_installed_or_fails_is_said(monkeypatch):
    K, r = factor.systems(4, 2, "cpu")
    monkeypatch.setitem(sys.modules, "warp", None)
    assert factor.measured("warp", K, r) == {"verdict": "not installed: warp"}
    monkeypatch.setitem(factor.SOLVERS, "torch", ("torch", lambda: lambda K, r: torch.linalg.cholesky(-K)))
    assert factor.measured("torch", K, r)["verdict"].startswith("failed: linalg.cholesky: ")


def test_cusolver_is_asked_for_and_the_choice_put_back(monkeypatch):
    chosen = ["default"]

    def prefer(library=None):
        chosen.append(library or chosen[-1])
        return chosen[-1]

    monkeypatch.setattr(torch.backends.cuda, "preferred_linalg_library", prefer)
    K, r = factor.systems(7, 3, "cpu")
    torch.testing.assert_close(factor.by_cusolver(K, r), factor.by_torch(K, r))
    assert chosen[-2:] == ["cusolver", "default"]


@pytest.mark.usefixtures("compiler")
def test_the_kernels_are_asked_as_they_should_be(monkeypatch):
    """On the emulator, which takes tensors of the CPU."""
    on_cupy = pytest.importorskip("gpu.on_cupy")
    emulation = on_cupy.emulate(monkeypatch)
    importlib.import_module("qplayer_gpu.kernels.cuda.linear")
    K, r = factor.systems(8, 3, "cpu")
    assert factor.measured("qplayer_gpu_cuda", K, r)["verdict"] == "ok"
    assert {launch.kernel for launch in emulation.launches} == {"qplayer_solve"}
    K, r = factor.systems(129, 1, "cpu")
    assert factor.measured("qplayer_gpu_cuda", K, r) == {"verdict": "failed: takes n <= 128"}
