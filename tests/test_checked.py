"""Kernels that check themselves at their first launch; without a GPU those of the CPU are in their place."""

import itertools
import warnings
from types import SimpleNamespace

import families as f
import pytest
import reported as r
import torch
from helpers import OPTIONS, as_rows

import qplayer_gpu as qp
from qplayer_gpu import BackendError, checked, trial
from qplayer_gpu.checked import Checked
from qplayer_gpu.kernels import cpu, reference
from qplayer_gpu.kernels.cache import found
from qplayer_gpu.kernels.interface import Vectors

pytestmark = pytest.mark.usefixtures("compiler")
CPU = torch.device("cpu")


class Kernels:
    """Those of the CPU, which count their calls and may say something else, or have no mixed precision."""

    def __init__(self, spoil=None, mixed=True):
        self.calls, self.spoil, self.mixed = [], spoil or {}, mixed

    def obstacle(self, rows, mixed):
        return "it has no mixed precision" if mixed and not self.mixed else ""

    def variant(self, rows, mixed):
        return rows.n, mixed

    def __getattr__(self, part):
        def call(*arguments):
            self.calls.append(part)
            return self.spoil.get(part, lambda result: result)(getattr(cpu, part)(*arguments))

        return call


@pytest.fixture
def stem(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    checked.verdicts.cache_clear()
    return "checked_here"


def checked_by(kernels, stem):
    return Checked("cuda", kernels, CPU, stem)


def used(kernels, rows):
    """An answer and adjoint vectors."""
    answer = kernels.forward(rows, OPTIONS)
    grad = Vectors(*map(torch.ones_like, answer.point))
    return answer, kernels.adjoint(rows, answer.point, grad, OPTIONS)


MAKERS = {
    "qp": lambda: f.feasible(5, 6, two_sided=True, bounds=True),
    "no-bounds": lambda: f.feasible(5, 6),
    "lp": lambda: f.lp(3, 4),
    "no-rows": lambda: {k: v for k, v in f.feasible(3, 3).items() if k in "Hg"},
    "equalities": lambda: {k: v for k, v in f.feasible(3, 8).items() if k in "HgAb"},
    "infeasible": lambda: f.excluding_halfspaces(3, 4),
    "unbounded": lambda: {"g": torch.ones(2, 3).double(), "C": torch.eye(3)[:1].double(), "u": torch.ones(1).double()},
}


@pytest.mark.parametrize("case", MAKERS)
def test_right_kernels_pass_once(stem, case):
    kernels, rows = Kernels(), as_rows(MAKERS[case]())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answer, _ = used(checked_by(kernels, stem), rows)
    assert torch.equal(answer.x, cpu.forward(rows, OPTIONS, None).x)
    assert kernels.calls.count("forward") == kernels.calls.count("adjoint") == 2  # on the problems and on the sample
    used(checked_by(kernels, stem), rows)
    assert len(kernels.calls) == 6
    checked.verdicts.cache_clear()  # as in another process, which reads the file
    used(checked_by(kernels, stem), rows)
    assert len(kernels.calls) == 8


def nan(result):
    return result._replace(x=torch.full_like(result.x, torch.nan))


def shifted(result):
    return result._replace(x=result.x + 1e-3)


def bent(result):
    return result._replace(b_x=result.b_x + 1e-3)


def unsolved(result):
    return result._replace(status=result.status + 2)


@pytest.mark.parametrize(
    ("part", "spoil", "why"),
    [
        ("forward", nan, "its primal residual is nan"),
        ("forward", shifted, "residual is"),
        ("forward", unsolved, "status"),
        ("adjoint", bent, "b_x is wrong by"),
    ],
)
def test_wrong_kernels_are_never_used_again(stem, part, spoil, why):
    rows = as_rows(MAKERS["qp"]())
    kernels = Kernels({part: spoil})
    one = checked_by(kernels, stem)
    with pytest.warns(UserWarning, match=why):
        answer, adjoint = used(one, rows)
    assert torch.equal(answer.x, (reference if part == "forward" else cpu).forward(rows, OPTIONS, None).x)
    grad = Vectors(*map(torch.ones_like, answer.point))
    torch.testing.assert_close(adjoint.b_x, reference.adjoint(rows, answer.point, grad, OPTIONS).b_x)
    assert why in checked.Verdicts(stem).wrong["cuda"]


def raising(error):
    def raised(result):
        raise error

    return raised


def test_what_does_not_run_is_left_by_this_process_only(stem):
    """A compiler may be missing, or a driver too old: the user will mend that."""
    rows, kernels = as_rows(MAKERS["qp"]()), Kernels({"forward": raising(RuntimeError("no compiler"))})
    with pytest.warns(UserWarning, match=r"backend 'cuda' cannot run on cpu, .* in this process: .*no compiler"):
        answer = checked_by(kernels, stem).forward(rows, OPTIONS)
    assert torch.equal(answer.x, reference.forward(rows, OPTIONS).x)
    assert "no compiler" in checked.verdicts(stem).unable["cuda"]
    assert found(stem, ".json") is None


def test_a_broken_context_is_a_verdict_for_the_next_process(stem, monkeypatch):
    """Nothing runs in this one any more, neither the reference."""
    waits = iter([None, RuntimeError("an illegal memory access")])

    def wait(device):
        if error := next(waits):
            raise error

    monkeypatch.setattr(checked, "wait", wait)
    one = checked_by(Kernels({"forward": raising(RuntimeError("an illegal memory access"))}), stem)
    with pytest.raises(BackendError, match=r"'cuda' has broken the CUDA context .*illegal memory access.*report"):
        one.forward(as_rows(MAKERS["qp"]()), OPTIONS)
    assert "illegal memory access" in checked.Verdicts(stem).wrong["cuda"]


def test_what_was_broken_before_is_not_blamed_on_the_kernels(stem, monkeypatch):
    monkeypatch.setattr(checked, "wait", lambda device: raising(RuntimeError("the user's own kernel"))(None))
    with pytest.raises(RuntimeError, match="the user's own kernel"):
        checked_by(Kernels(), stem).forward(as_rows(MAKERS["qp"]()), OPTIONS)
    assert checked.verdicts(stem).wrong == checked.verdicts(stem).unable == {}


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("out of memory: the driver's")]
)
def test_out_of_memory_is_no_verdict(stem, error):
    with pytest.raises(type(error)):
        used(checked_by(Kernels({"forward": raising(error)}), stem), as_rows(MAKERS["qp"]()))
    assert checked.verdicts(stem).wrong == checked.verdicts(stem).unable == {}
    assert found(stem, ".json") is None


def test_processes_keep_what_others_have_found(stem):
    here, other = checked.Verdicts(stem), checked.Verdicts(stem)
    other.wrong["triton"] = "why"
    other.right.add("cuda forward (8, False)")
    other.keep()
    here.right.add("cuda forward (32, False)")
    here.keep()
    kept = checked.Verdicts(stem)
    assert (kept.right, kept.wrong) == (here.right | other.right, {"triton": "why"})


def test_a_verdict_that_cannot_be_kept_is_no_error(stem, monkeypatch):
    monkeypatch.setattr(checked, "replaced", lambda *_: raising(OSError("the disk is full"))(None))
    answer, _ = used(checked_by(Kernels(), stem), as_rows(MAKERS["qp"]()))
    assert (answer.status == 0).all()


LOOSE = [
    {"eps_abs": 1e-2},
    {"eps_abs": 1e-4, "eps_rel": 1e-4},
    {"max_iter": 1},
    {"max_iter": 5},
    {"closest_feasible": False},
]


@pytest.mark.parametrize("precision", ["float64", "mixed"])
@pytest.mark.parametrize("settings", LOOSE, ids=str)
@pytest.mark.parametrize(("case", "n"), [("qp", 20), ("lp", 8)])
def test_no_settings_make_right_kernels_wrong(stem, case, n, settings, precision):
    """Where a solve ends early, rounding decides where."""
    args = f.lp(3, n) if case == "lp" else f.feasible(3, n, two_sided=True, bounds=True)
    options = qp.Settings(precision=precision, **settings).options(torch.float64, CPU)
    rows, one = as_rows(args), checked_by(Kernels(), stem)
    answer = one.forward(rows, options)
    one.adjoint(rows, answer.point, Vectors(*map(torch.ones_like, answer.point)), options)
    assert len(one.verdicts.right) == 2


@pytest.mark.parametrize("make", [r.missed_bounds, r.gram], ids=["missed-bounds", "gram"])
def test_no_data_make_right_kernels_wrong(make):
    """Their answers leave residuals by design: shifts within the tolerance are left out, and H is bent."""
    rows = as_rows(make(20, 2, 0))
    answer = cpu.forward(rows, OPTIONS, None)
    measured = checked.residuals(rows, answer)
    said = torch.stack([answer.primal, answer.dual, answer.gap])
    assert (measured > 2 * checked.SLACK * said.clamp(min=OPTIONS.eps_abs)).any()
    assert checked.unmet(rows, OPTIONS, answer) == ""
    assert "residual is" in checked.unmet(rows, OPTIONS, shifted(answer))


def test_kernels_without_mixed_precision_solve_in_float64(stem):
    rows, one = as_rows(MAKERS["qp"]()), checked_by(Kernels(mixed=False), stem)
    answer = one.forward(rows, OPTIONS._replace(mixed=True))
    assert torch.equal(answer.x, cpu.forward(rows, OPTIONS, None).x)
    assert one.verdicts.right == {f"cuda forward ({rows.n}, False)"}


def test_the_default_device_is_the_user_s(stem):
    rows, one = as_rows(MAKERS["qp"]()), checked_by(cpu, stem)
    with torch.device("meta"):
        assert one.differs(rows, OPTIONS) == one.bends(rows, OPTIONS) == ""
        assert trial.problems(3, False, CPU)["H"].device == CPU


def test_it_can_be_switched_off_and_waits_in_a_capture(stem, monkeypatch):
    rows, kernels = as_rows(MAKERS["qp"]()), Kernels({"forward": shifted})
    monkeypatch.setenv("QPLAYER_GPU_CHECK", "0")
    checked_by(kernels, stem).forward(rows, OPTIONS)
    monkeypatch.delenv("QPLAYER_GPU_CHECK")
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    Checked("cuda", kernels, SimpleNamespace(type="cuda"), stem).forward(rows, OPTIONS)
    assert len(kernels.calls) == 2
    assert found(stem, ".json") is None


@pytest.mark.parametrize(
    ("H", "n_eq", "n_in", "bounded"), list(itertools.product([True, False], [0, 1, 3], [0, 1, 4], [True, False]))
)
def test_the_sample_has_one_solution_where_it_is_compared(stem, H, n_eq, n_in, bounded):
    """The reference and the kernels of the CPU agree on it, and every other one is infeasible where that can be."""
    n = 5
    args = {"g": torch.zeros(n).double(), "A": torch.zeros(n_eq, n).double(), "b": torch.zeros(n_eq).double()}
    args |= {"C": torch.zeros(n_in, n).double(), "u": torch.zeros(n_in).double()}
    args |= {"H": torch.eye(n).double() if H else None} | ({"lb": torch.zeros(n).double()} if bounded else {})
    rows = as_rows(args)
    some = checked.sample(rows)
    assert (some.n, some.n_eq, some.n_in, some.bounded) == (n, n_eq, n_in, bounded)
    one = checked_by(cpu, stem)
    assert one.differs(rows, OPTIONS) == one.bends(rows, OPTIONS) == ""
    infeasible = (reference.forward(some, OPTIONS).s != 0).any(-1).tolist()
    assert infeasible == ([True, False, True, False] if n_in > 1 or n_eq > 1 else [False] * 4)
