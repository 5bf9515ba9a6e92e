"""The compiled kernels against their readable twin, and how they are built."""

import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import families as f
import pytest
import torch
from helpers import HARD_ROWS, MANY_OPTIMA, OPTIONS, OTHER_OPTIONS, UNKNOWN_GRADIENTS, as_rows, written_numbers
from helpers import KERNEL_CASES as CASES

import qplayer_gpu as qp
from qplayer_gpu import backend as backends
from qplayer_gpu import direct
from qplayer_gpu.kernels import cpu, reference
from qplayer_gpu.kernels.cpu import build, library, running
from qplayer_gpu.kernels.interface import Answer, Status, Vectors

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.usefixtures("compiler")

# Rounding errors of two orders of summation, where the data let an optimum be known; else the tolerance of the solve.
SAME, SAME_MULTIPLIERS, SAME_ADJOINT = 1e-8, 1e-7, 1e-7


def assert_same(ours, theirs, tolerance):
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("case", CASES)
def test_same_as_the_reference(case):
    rows = as_rows(CASES[case]())
    theirs, ours = (kernels.forward(rows, OPTIONS) for kernels in (reference, cpu))
    assert ours.status.tolist() == theirs.status.tolist()
    assert (ours.iterations - theirs.iterations).abs().max() <= 2
    if case in MANY_OPTIMA:
        assert_same((rows.g * ours.x).sum(-1), (rows.g * theirs.x).sum(-1), SAME)
    else:
        assert_same(ours.x, theirs.x, SAME)
    assert_same(ours.s, theirs.s, SAME)
    assert_same(ours.z, theirs.z, SAME_MULTIPLIERS)
    assert max(t.max() for t in (ours.primal, ours.dual)) <= OPTIONS.eps_abs
    if case not in UNKNOWN_GRADIENTS:
        assert_same_adjoints(rows, theirs)


def assert_same_adjoints(rows, answer, options=OPTIONS):
    grad = Vectors(*map(torch.randn_like, answer.point))
    theirs, ours = (kernels.adjoint(rows, answer.point, grad, options) for kernels in (reference, cpu))
    for name, vector in theirs._asdict().items():
        assert (getattr(ours, name) - vector).norm() <= SAME_ADJOINT * (1 + vector.norm()), name


@pytest.mark.parametrize("mixed", [False, True], ids=["float64", "mixed"])
@pytest.mark.parametrize(("n", "m"), [(1, 3), (2, 2), (3, 8), (7, 9), (17, 40), (33, 20), (100, 130), (256, 512)])
def test_same_at_every_size(n, m, mixed):
    options = OPTIONS._replace(mixed=mixed)
    args, x, C = f.feasible(2, n), torch.randn(2, n).double(), torch.randn(2, m - n // 4, n).double()
    rows = as_rows(
        {**args, "b": f.times(args["A"], x), "C": C, "u": f.times(C, x) + torch.rand(2, m - n // 4).double()}
    )
    theirs, ours = (kernels.forward(rows, options) for kernels in (reference, cpu))
    assert ours.status.tolist() == theirs.status.tolist() == [Status.SOLVED] * 2
    assert_same(ours.x, theirs.x, SAME)
    assert_same_adjoints(rows, theirs, options)


@pytest.mark.parametrize("case", ["overdetermined-32", "sudoku-lp", "lp-20", "excluding-halfspaces", "ill-scaled"])
def test_same_in_mixed_precision(case):
    rows, mixed = as_rows(CASES[case]()), OPTIONS._replace(mixed=True)
    theirs, ours = (kernels.forward(rows, mixed) for kernels in (reference, cpu))
    exact = cpu.forward(rows, OPTIONS)
    assert ours.status.tolist() == theirs.status.tolist()
    # the rounding errors of two factors in float32 lead an LP along other steps, that of Sudoku most
    share = 0.3 if case == "sudoku-lp" else 0.2
    assert (ours.iterations - theirs.iterations).abs().max() <= share * theirs.iterations.max()
    assert not torch.equal(ours.x, exact.x)  # it is not float64 by another name
    assert_same(ours.x, theirs.x, SAME)
    assert_same(ours.s, theirs.s, SAME)
    assert_same_adjoints(rows, theirs, mixed)


def test_what_mixed_precision_cannot_solve_is_solved_in_double(monkeypatch):
    monkeypatch.setattr(cpu, "MIXED_STEPS", 6)
    rows = as_rows(f.feasible(4, 7))
    exact, answer = (cpu.forward(rows, OPTIONS._replace(mixed=mixed)) for mixed in (False, True))
    assert exact.iterations.tolist() == [4, 8, 5, 7]
    assert answer.iterations.tolist() == [4, 6 + 8, 5, 6 + 7]
    assert (answer.status == Status.SOLVED).all()
    assert_same(answer.x, exact.x, SAME)
    given_up = cpu.forward(rows, OPTIONS._replace(mixed=True, max_iter=6))
    assert given_up.status.tolist() == [Status.SOLVED, Status.MAX_ITERATIONS, Status.SOLVED, Status.MAX_ITERATIONS]


@pytest.mark.parametrize("changes", OTHER_OPTIONS, ids=str)
def test_same_with_other_options(changes):
    options = OPTIONS._replace(**changes)
    for args in (f.feasible(3, 9, bounds=True), f.overdetermined(3, 6), f.positive_equalities(3, 6, 4)):
        rows = as_rows(args)
        theirs, ours = (kernels.forward(rows, options) for kernels in (reference, cpu))
        for name in Answer._fields:
            tolerance = 0 if name in ("status", "iterations") else 1e-7
            assert_same(getattr(ours, name), getattr(theirs, name), tolerance)


@pytest.mark.parametrize(
    ("names", "changes"),
    [
        ("H g A b", {"mu_eq": 10.0, "mu_in": 1e-8}),
        ("H g C l u", {"mu_eq": 1e-8, "mu_in": 10.0}),
        ("H g lb ub", {}),
        ("g lb ub", {}),
    ],
    ids=["mu_eq", "rows and mu_in", "bounds", "bounds and rho"],
)
def test_a_stale_factor_is_not_used(names, changes):
    """Where little of K changes between steps; a factor of another K leads to other steps, or nowhere."""
    args, options = f.feasible(8, 12, two_sided=True, bounds=True), OPTIONS._replace(**changes)
    rows = as_rows({name: args[name] for name in names.split()})
    theirs, ours = (kernels.forward(rows, options) for kernels in (reference, cpu))
    assert ours.status.tolist() == theirs.status.tolist() == [Status.SOLVED] * 8
    assert (ours.iterations - theirs.iterations).abs().max() <= 2
    assert_same(ours.x, theirs.x, SAME)


@pytest.mark.parametrize("shape", [(), (4,)], ids=["shared", "batched"])
def test_same_weights_of_shifts(shape):
    args = f.excluding_halfspaces(4, 5)
    rows = as_rows(args | {"w_in": 0.1 + torch.rand(*shape, args["u"].shape[1]).double()})
    assert_same(cpu.forward(rows, OPTIONS).s, reference.forward(rows, OPTIONS).s, SAME)


@pytest.mark.parametrize("case", HARD_ROWS)
def test_same_with_rows_that_are_never_shifted(case):
    rows = as_rows(HARD_ROWS[case])
    theirs, ours = (kernels.forward(rows, OPTIONS) for kernels in (reference, cpu))
    assert ours.status.tolist() == theirs.status.tolist()
    assert (ours.iterations - theirs.iterations).abs().max() <= 2
    assert_same(ours.x, theirs.x, SAME)
    assert_same(ours.s, theirs.s, SAME)
    if (theirs.status <= Status.SOLVED_CLOSEST_FEASIBLE).all():
        assert_same_adjoints(rows, theirs)


def test_same_from_a_warm_start():
    for args in (f.feasible(4, 9), f.overdetermined(4, 6)):
        first = cpu.forward(as_rows(args), OPTIONS)
        near = as_rows({**args, "g": args["g"] * 1.001})
        theirs, ours = (kernels.forward(near, OPTIONS, first.point) for kernels in (reference, cpu))
        assert ours.iterations.tolist() == theirs.iterations.tolist()
        assert_same(ours.x, theirs.x, SAME)


@pytest.mark.parametrize("name", ["H", "g", "A", "C", "lo", "hi"])
def test_what_is_not_finite_is_not_solved(name):
    rows = as_rows(f.feasible(3, 5, two_sided=True))
    for value in (torch.nan, torch.inf, -torch.inf):
        broken = getattr(rows, name).clone()
        broken.view(3, -1)[1, 2 % broken[1].numel()] = value
        broken_rows = rows._replace(**{name: broken})
        theirs, ours = (kernels.forward(broken_rows, OPTIONS) for kernels in (reference, cpu))
        assert ours.status.tolist() == theirs.status.tolist()
        for k in "xzs":
            assert_same(getattr(ours, k), getattr(theirs, k), SAME)


def test_numbers_that_overflow_end():
    rows = as_rows(f.feasible(3, 5))
    huge = cpu.forward(rows._replace(H=1e200 * rows.H, C=1e250 * rows.C), OPTIONS._replace(max_iter=50))
    solved = huge.status <= Status.SOLVED_CLOSEST_FEASIBLE
    assert huge.x[solved].isfinite().all()


def test_mixed_precision_is_compiled_when_it_is_asked_for():
    """It takes seconds to compile, and few ask for it on a CPU."""
    assert not hasattr(cpu.load(), "qplayer_forward_mixed")
    assert hasattr(library.load_mixed(), "qplayer_forward_mixed")


@pytest.mark.parametrize("how", ["directly", "watched"])
def test_the_answer_does_not_depend_on_the_threads(how, monkeypatch):
    monkeypatch.setattr(running, "LONG", 0.0 if how == "watched" else 100.0)
    rows, threads = as_rows(f.excluding_halfspaces(300, 6)), torch.get_num_threads()
    grad = Vectors(torch.randn(300, 6).double(), torch.randn(300, rows.m).double(), torch.randn(300, rows.m).double())
    answers = []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            answer = cpu.forward(rows, OPTIONS)
            answers.append((*answer, *cpu.adjoint(rows, answer.point, grad, OPTIONS)))
    finally:
        torch.set_num_threads(threads)
    for other in answers[1:]:
        assert all(torch.equal(a, b) for a, b in zip(answers[0], other, strict=True))


def test_any_layout_of_the_arrays():
    rows = as_rows(f.feasible(4, 6, two_sided=True))
    names = ("H", "g", "A", "C", "lo", "hi")
    spread = {k: torch.stack([getattr(rows, k)] * 2, -1)[..., 0] for k in names}  # not contiguous
    assert not spread["H"].is_contiguous()
    assert_same(cpu.forward(rows._replace(**spread), OPTIONS).x, cpu.forward(rows, OPTIONS).x, 0)
    one = {k: getattr(rows, k)[:1] for k in names if k != "g"}
    expanded = {k: t.expand(4, *t.shape[1:]) for k, t in one.items()}
    answers = [cpu.forward(rows._replace(**shared), OPTIONS) for shared in (one, expanded)]
    assert_same(answers[0].x, answers[1].x, 0)


def test_wrong_arrays_are_refused():
    rows = as_rows(f.feasible(2, 4))
    with pytest.raises(TypeError, match=r"float64 on cpu, not torch\.float32"):
        cpu.forward(rows._replace(g=rows.g.float()), OPTIONS)


@pytest.fixture
def without_compiler(compiler, monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", str(tmp_path / "no-compiler"))
    monkeypatch.setattr(direct, "_plans", {})  # which know who solves
    caches = (backends.why_no_cpu, cpu.load, backends._fall_back)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.mark.usefixtures("without_compiler")
def test_without_a_compiler():
    args = f.feasible(2, 4)
    with pytest.raises(
        qp.BackendError, match=r"cannot run here: .*no-compiler does not run.*install a C\+\+17 compiler"
    ):
        qp.solve_qp(**args, backend="cpu")
    with pytest.warns(UserWarning, match=r"batched torch operations, which are slow: .*no-compiler does not run"):
        qp.solve_qp(**args).check()
    with warnings.catch_warnings(action="error"):
        qp.solve_qp(**args).check()  # it is said once
    assert backends.fastest(as_rows(args)) == "torch"


def test_an_unknown_device_has_no_kernels():
    rows = SimpleNamespace(n=3, g=SimpleNamespace(device=torch.device("xpu", 0)))
    backends._fall_back.cache_clear()
    with pytest.warns(UserWarning, match="which are slow: there are no kernels for xpu devices"):
        assert backends.fastest(rows) == "torch"


def test_large_problems_are_not_for_one_thread_each():
    n = backends.CPU_LARGEST + 1
    assert backends.fastest(as_rows({"H": None, "g": torch.zeros(1, n).double()})) == "torch"
    assert backends.fastest(as_rows({"H": None, "g": torch.zeros(1, n - 1).double()})) == "cpu"


BUILD = "import torch, qplayer_gpu as qp; qp.solve_qp(torch.eye(2), torch.ones(2), backend='cpu').check()"


@pytest.mark.slow
def test_processes_may_build_at_the_same_time_and_say_nothing(tmp_path):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", BUILD]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    processes = [subprocess.Popen(command, cwd=ROOT, env=environment, **pipes) for _ in range(3)]
    for process in processes:
        said, _ = process.communicate(timeout=300)
        assert (process.returncode, said) == (0, b"")
    assert len(list((tmp_path / "qplayer_gpu").glob("*.so"))) == 1


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_to_is_no_obstacle(tmp_path):
    (tmp_path / "file").touch()
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "file"), "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", BUILD], cwd=ROOT, env=environment, capture_output=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
    assert len(list(tmp_path.glob("qplayer_gpu_cache.*/*.so"))) == 1


@pytest.mark.slow
def test_sanitizers_have_nothing_to_say():
    """Built with checks of addresses and undefined behaviour, over all cases here."""
    names = ("libasan.so", "libubsan.so")
    command, _ = build._compiler(build._named())
    found = [subprocess.check_output([command[0], f"-print-file-name={name}"], text=True).strip() for name in names]
    environment = {
        **os.environ,
        "LD_PRELOAD": " ".join(found),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python keeps what it has
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        "PYTHONPATH": str(Path(__file__).parent),
    }
    done = subprocess.run(
        [sys.executable, "-m", "sanitized"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.split()[-1] == "clean"


@pytest.mark.slow
def test_threads_do_not_race(tmp_path):
    """A program of its own, as the thread sanitizer does not go with Python."""
    command, _ = build._compiler(build._named())
    program = tmp_path / "threads"
    flags = ["-std=c++17", "-O1", "-g", "-pthread", "-Wno-psabi", "-fsanitize=thread"]
    flags += ["-include", written_numbers(tmp_path)]
    subprocess.run([*command, *flags, "-o", program, Path(__file__).with_name("threads.cpp")], check=True)
    done = subprocess.run([program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "clean\n"), done.stderr[-4000:]


@pytest.mark.parametrize("n", [3, 5, 16, 17, 24, 40])
@pytest.mark.parametrize("batch", [1, 32])
def test_of_h_the_symmetric_part_counts_at_every_size(n, batch):
    args = f.feasible(batch, n)
    skew = torch.randn(n, n, generator=torch.Generator().manual_seed(n), dtype=torch.double)
    bent = qp.solve_qp(**args | {"H": args["H"] + skew - skew.mT}, backend="cpu").check()
    torch.testing.assert_close(bent.x, qp.solve_qp(**args, backend="cpu").x, rtol=0, atol=1e-7)
