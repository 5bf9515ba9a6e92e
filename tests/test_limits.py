"""The smallest and the largest problems, and those for which there is no memory."""

import pytest
import torch
from certificate import certify

import qplayer_gpu as qp
from qplayer_gpu import memory
from qplayer_gpu.kernels import cpu
from qplayer_gpu.problem import QP, rows_of, sizes_of

HUGE = 10**7  # problems; no machine has memory for so many of 2000 variables
EPS = 1.1e-9
in_linux = pytest.mark.skipif(not memory.MEMINFO.exists(), reason="the system does not say how much memory is free")


def box(n, m):
    """Two problems of n variables and m rows, of which some are active."""
    C = torch.randn(m, n).double()
    return {
        "H": torch.eye(n).double(),
        "g": torch.randn(2, n).double(),
        "C": C,
        "u": C @ torch.randn(n).double() + 0.1,
        "lb": torch.full((n,), -10.0).double(),
    }


def assert_solved(args, **options):
    conditions = certify(args, qp.solve_qp(**args, **options).check())
    assert max(conditions.primal, conditions.dual, conditions.gap) <= EPS


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 10_000), (2, 3), (20, 10_000), (500, 10)])
def test_sizes(backend, n, m):
    assert_solved(box(n, m))


@pytest.mark.slow
@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize(("n", "m"), [(1000, 50), (2000, 2000), (500, 10_000)])
def test_large_sizes(n, m):
    """Of the kernels in C++; their twin takes minutes, and is compared with them at smaller ones in test_cpu.py."""
    assert_solved(box(n, m), backend="cpu")


@in_linux
@pytest.mark.parametrize("backend", ["cpu", "torch", "auto"])
def test_what_has_no_room_is_refused_before_work(backend):
    g = torch.zeros(1, 2000).double().expand(HUGE, -1)
    with pytest.raises(
        qp.OutOfMemoryError, match=r"take \d{3,}\.\d GiB at least, and .* are free: solve fewer at once"
    ):
        qp.solve_qp(None, g, lb=0.0, backend=backend)


@in_linux
def test_a_shared_matrix_that_was_expanded_counts_as_many():
    H = torch.eye(2000).double().expand(HUGE, -1, -1)
    with pytest.raises(MemoryError, match="or share what is the same in all"):
        qp.solve_qp(H, torch.zeros(2000).double())


def test_the_torch_operations_take_a_factor_for_each_problem(monkeypatch):
    n, count = 300, 1000
    args = {"H": torch.eye(n).double(), "g": torch.zeros(count, n).double()}
    monkeypatch.setattr(memory, "available", lambda: 2.0**30)
    with pytest.raises(qp.OutOfMemoryError, match=r"take 1\.4 GiB at least, and 1\.0 GiB are free"):
        qp.solve_qp(**args, backend="torch")
    qp.solve_qp(**args, backend="cpu").check()


def test_memory_is_what_the_system_and_the_groups_leave(monkeypatch, tmp_path):
    (tmp_path / "meminfo").write_text("MemFree: 1 kB\nMemAvailable:  4096 kB\nSwapFree:   1024 kB\n")
    (tmp_path / "own").write_text("4:memory:/old\n0::/job/step\n")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "OWN_GROUP", tmp_path / "own")
    monkeypatch.setattr(memory, "GROUPS", tmp_path)
    assert memory.available() == 5120 * 1024
    (tmp_path / "job" / "step").mkdir(parents=True)
    for folder, limit in ((tmp_path / "job", "3000"), (tmp_path / "job" / "step", "max")):
        (folder / "memory.max").write_text(limit)
        (folder / "memory.current").write_text("1500")
        (folder / "memory.stat").write_text("anon 1000\ninactive_file 400\n")
    assert memory.available() == 3000 - (1500 - 400)
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "none")
    monkeypatch.setattr(memory, "OWN_GROUP", tmp_path / "none")
    assert memory.available() == float("inf")


def test_a_matrix_beyond_int32_is_not_for_the_cpu():
    rows = torch.zeros(1, 1).double().expand(2**21, 2**10)
    qp_ = QP(None, torch.zeros(2**10).double(), None, None, rows, None, 1.0, None, None)
    assert "less than 2147483648 entries" in cpu.obstacle(rows_of(qp_, sizes_of(qp_))[0], False)
