"""ADMM: solved, with the statuses of the augmented Lagrangian, to the tolerances asked for; its iteration is OSQP's."""

import itertools
import math

import families as f
import hard
import pytest
import torch
from certificate import certify
from helpers import HARD_ROWS, KERNEL_CASES, admm_paying, as_rows, leaves_of, one_matrix

import qplayer_gpu as qp
from qplayer_gpu.kernels import numbers
from qplayer_gpu.kernels.reference import splitting
from qplayer_gpu.kernels.reference.admm import State
from qplayer_gpu.kernels.reference.products import Matrices
from qplayer_gpu.kernels.reference.scaling import measure_scaling
from qplayer_gpu.kernels.reference.splitting import Metric, iterate, operators

# What ADMM solves in some hundreds of iterations, or some thousand; LPs at random vertices are not among it.
CASES = [name for name in KERNEL_CASES if name not in ("lp-20", "netlib-like", "netlib-like-qp")]
ROUNDING = 1e-8  # of the certificate, which sums in another order, in the units of data of up to 1e4


def shared(B, n, m, decades=2.0, bounds=False, seed=0):
    """Feasible problems with one H, A and C: n / 4 equalities, m inequalities."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def uniform(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    Q = torch.linalg.qr(normal(n, n)).Q
    A, C, x = normal(n // 4, n) / n**0.5, normal(m, n) / n**0.5, normal(B, n)
    args = {"H": (Q * torch.logspace(0, -decades, n).double()) @ Q.mT, "g": normal(B, n), "A": A, "b": x @ A.mT}
    args |= {"C": C, "u": x @ C.mT + uniform(B, m)}
    return args | ({"lb": x - uniform(B, n), "ub": x + uniform(B, n)} if bounds else {})


def admm(eps=1e-4, precision="float64", **more):
    return qp.Settings(eps_abs=eps, method="admm", precision=precision, **{"max_iter": 5000, **more})


@pytest.mark.parametrize(("eps", "precision"), [(1e-2, "float64"), (1e-4, "mixed"), (1e-6, "float64")])
@pytest.mark.parametrize("case", CASES)
def test_case(case, eps, precision):
    args = KERNEL_CASES[case]()
    sol = qp.solve_qp(**args, settings=admm(eps, precision)).check()
    exact = qp.solve_qp(**args, settings=qp.Settings(eps_abs=eps))
    assert sol.status.tolist() == exact.status.tolist()
    conditions = certify(args, sol)
    give = numbers.SHIFT_FLOOR * eps * (exact.status == 1).any()  # by so much sides give way without a word
    assert conditions.primal <= eps + give + ROUNDING
    assert conditions.dual <= eps + ROUNDING
    assert conditions.gap <= eps + give * sum(t.abs().sum(-1).max() for t in (sol.y, sol.z, sol.z_box)) + ROUNDING
    for mine, other in ((sol.s_eq, exact.s_eq), (sol.s_in, exact.s_in), (sol.s_box, exact.s_box)):
        torch.testing.assert_close(mine, other, rtol=0, atol=eps)


@pytest.mark.parametrize("precision", ["float64", "mixed"])
@pytest.mark.parametrize(
    ("args", "most"),
    [
        (shared(64, 8, 8), 100),
        (shared(64, 33, 40), 120),
        (shared(32, 64, 64), 100),
        (shared(64, 17, 17, bounds=True), 400),
    ],
    ids=["8", "33", "64", "17-bounds"],
)
def test_shared_matrices(args, most, precision):
    sol = qp.solve_qp(**args, settings=admm(1e-6, precision)).check()
    exact = qp.solve_qp(**args)
    torch.testing.assert_close(sol.x, exact.x, rtol=0, atol=1e-4)  # eps times the condition of H
    assert sol.info.iterations.double().mean() <= most


def test_shared_matrices_have_one_inverse():
    for args, batch in ((shared(5, 8, 8), 1), (f.feasible(5, 8), 5)):
        rows = as_rows(args)
        matrices = Matrices.of(rows, False)
        scaling = measure_scaling(matrices, rows.g, rows.lo, rows.hi, True)
        rho = State.begin(rows, matrices, scaling, None).rho
        assert len(operators(matrices, Metric.of(rows.lo, rows.hi, scaling, rows.share_matrices), rho).inverse) == batch


def textbook(rows, rho, counts):
    """The iteration as the paper has it, by its quasi-definite system, without scaling: x, z and y.

    But for the proximal term, which draws x to where the last count of iterations has ended.
    """
    H, G = rows.H, torch.cat([rows.A, rows.C], 1)
    B, m, n = *G.shape[:2], rows.n
    r = rho * (1 + 999 * (rows.lo == rows.hi).double())
    eye = torch.eye(n).double().expand(B, n, n)
    K = torch.cat([torch.cat([H + 1e-6 * eye, G.mT], 2), torch.cat([G, -torch.diag_embed(1 / r)], 2)], 1)
    x, z, y = torch.zeros(B, n).double(), torch.zeros(B, m).double().clamp(rows.lo, rows.hi), torch.zeros(B, m).double()
    for k in range(sum(counts)):
        if k in (0, *itertools.accumulate(counts)):
            centre = x
        found = torch.linalg.solve(K, torch.cat([1e-6 * centre - rows.g, z - y / r], 1))
        tilde = z + (found[:, n:] - y) / r
        x = 1.6 * found[:, :n] - 0.6 * x
        moved = 1.6 * tilde - 0.6 * z
        z = (moved + y / r).clamp(rows.lo, rows.hi)
        y = y + r * (moved - z)
    return x, z, y


@pytest.mark.parametrize("by_rows", [True, False], ids=["by rows", "by columns"])
@pytest.mark.parametrize("precision", [torch.float64, torch.float32])
def test_the_iteration_is_the_textbook_s(monkeypatch, precision, by_rows):
    """Also where it is interrupted and told anew from the point that it has reached."""
    monkeypatch.setattr(splitting, "by_rows", lambda matrices: by_rows)
    rows = as_rows(f.feasible(4, 9, two_sided=True))
    matrices = Matrices.of(rows, precision == torch.float32)
    scaling = measure_scaling(matrices, rows.g, rows.lo, rows.hi, False)
    by = operators(
        matrices,
        Metric.of(rows.lo, rows.hi, scaling, rows.share_matrices),
        torch.full((4, 1), 0.1, dtype=torch.float64),
    )
    x, z = torch.zeros(4, 9).double(), torch.zeros_like(rows.lo)
    v = z.clamp(rows.lo, rows.hi)
    counts = (7, 1, 12)
    for count in counts:
        Gx = matrices.rows(x)
        told = (matrices.hessian(x) + rows.g + matrices.columns(z), z, v - Gx, rows.lo - Gx, rows.hi - Gx)
        way = iterate(matrices.single or matrices, by, *(t.to(precision) for t in told), count)
        x, z, v = x + way.dx, z + way.dz, Gx + way.v
    accuracy = {torch.float64: 1e-10, torch.float32: 1e-2}[precision]  # its proximal weight is another in float32
    for mine, theirs in zip((x, v, z), textbook(rows, 0.1, counts), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=accuracy)


def test_float32_iterations_reach_what_float64_measures():
    sol = qp.solve_qp(**shared(32, 24, 24), settings=admm(1e-10, "mixed")).check()
    double = qp.solve_qp(**shared(32, 24, 24), settings=admm(1e-10)).check()
    assert sol.info.iterations.double().mean() <= 1.2 * double.info.iterations.double().mean()


@pytest.mark.parametrize("case", ["feasible-17-bounds", "shared", "overdetermined-32", "positive-equalities-qp"])
def test_gradients_are_those_of_the_augmented_lagrangian(case):
    args = shared(6, 9, 9, bounds=True) if case == "shared" else KERNEL_CASES[case]()

    def gradients(settings):
        leaves = leaves_of(args)
        sol = qp.solve_qp(**leaves, settings=settings).check()
        torch.manual_seed(1)
        loss = (sol.x * torch.randn_like(sol.x)).sum() + sol.s_in.sum() + sol.s_eq.square().sum()
        return torch.autograd.grad(loss, [v for v in leaves.values() if isinstance(v, torch.Tensor)])

    mine, exact = gradients(admm(1e-8)), gradients(qp.Settings(eps_abs=1e-10))
    for a, b in zip(mine, exact, strict=True):
        assert (a - b).norm() <= 1e-4 * (1 + b.norm())  # eps_abs times the conditioning of the problems


DIFFERENTIATED = {
    "feasible-shared": shared(6, 9, 9, bounds=True),
    "feasible-own": f.feasible(6, 9, two_sided=True, bounds=True),
    "infeasible-shared": one_matrix(f.excluding_halfspaces(6, 8)),
    "infeasible-own": f.overdetermined(6, 9),
}


@pytest.mark.parametrize("eps", [1e-4, 1e-5, 1e-6])
@pytest.mark.parametrize("case", DIFFERENTIATED)
def test_gradients_have_the_digits_of_the_answer(case, eps):
    """Beside central differences of exact answers, in random directions of all arguments."""
    args = DIFFERENTIATED[case]
    generator = torch.Generator().manual_seed(2)
    weights = torch.randn(args["g"].shape, generator=generator, dtype=torch.float64)

    def loss(problem, settings):
        sol = qp.solve_qp(**problem, settings=settings).check()
        return (sol.x * weights).sum() + sol.s_in.square().sum() + sol.s_eq.square().sum()

    leaves = leaves_of(args)
    tensors = {name: t for name, t in leaves.items() if isinstance(t, torch.Tensor)}
    gradients = torch.autograd.grad(loss(leaves, admm(eps)), list(tensors.values()))
    found, expected = [], []
    for _ in range(10):
        ways = [torch.randn(t.shape, generator=generator, dtype=torch.float64) for t in tensors.values()]
        there, back = (
            {n: t.detach() + h * d for (n, t), d in zip(tensors.items(), ways, strict=True)} for h in (1e-6, -1e-6)
        )
        exact = qp.Settings(eps_abs=1e-12)
        expected.append((loss(args | there, exact) - loss(args | back, exact)) / 2e-6)
        found.append(sum((g * d).sum() for g, d in zip(gradients, ways, strict=True)))
    found, expected = torch.stack(found), torch.stack(expected)
    assert (found - expected).norm() <= 10 * eps * expected.norm()


@pytest.mark.parametrize("case", HARD_ROWS)
def test_hard_rows_and_weights(case):
    args = HARD_ROWS[case]
    sol, exact = (qp.solve_qp(**args, settings=s) for s in (admm(1e-6), qp.Settings()))
    assert sol.status.tolist() == exact.status.tolist()
    for name in ("s_eq", "s_in", "s_box"):
        torch.testing.assert_close(getattr(sol, name), getattr(exact, name), rtol=0, atol=1e-6)
    if (exact.status == qp.Status.INFEASIBLE).all():
        ray = f.times(args["C"].mT, sol.z) + (f.times(args["A"].mT, sol.y) if "A" in args else 0) + sol.z_box
        assert ray.abs().max() <= 1e-6 * torch.cat([sol.z, sol.y], 1).abs().max()


def test_shifted_rows_weigh_as_the_equalities_that_they_are():
    sol = qp.solve_qp(**f.excluding_halfspaces(64, 8), settings=admm()).check()
    assert sol.info.iterations.double().mean() <= 100  # 212 with the weight of inequalities


@pytest.mark.parametrize("precision", ["float64", "mixed"])
def test_excluding_rows_are_found_beside_others(precision):
    """Whose multipliers still fall, towards no side, while those of the excluding rows grow."""
    args = shared(8, 9, 9)
    args["C"] = torch.cat([args["C"], -args["C"][:1]])
    args["u"] = torch.cat([args["u"], -args["u"][:, :1] - 1], 1)
    sol, exact = (qp.solve_qp(**args, settings=s).check() for s in (admm(1e-6, precision), qp.Settings()))
    assert (sol.status == qp.Status.SOLVED_CLOSEST_FEASIBLE).all()
    assert sol.info.iterations.max() <= 250  # some thousand where they are overlooked
    torch.testing.assert_close(sol.z, exact.z, rtol=0, atol=1e-4)


def test_a_start_from_the_answer_takes_no_iteration():
    for args in (shared(8, 12, 12), f.overdetermined(4, 6)):
        first = qp.solve_qp(**args, settings=admm(1e-6)).check()
        again = qp.solve_qp(**args, settings=admm(1e-6), warm_start=first)
        assert again.status.tolist() == first.status.tolist()
        assert (again.info.iterations <= 1).all()  # one Newton step says whether the shift still is one
        torch.testing.assert_close(again.x, first.x, rtol=0, atol=1e-5)


def test_a_start_nearby_saves_iterations():
    args = shared(64, 16, 16)
    first = qp.solve_qp(**args, settings=admm(1e-6)).check()
    near = args | {"g": args["g"] * (1 + 1e-3)}
    cold, warm = (qp.solve_qp(**near, settings=admm(1e-6), warm_start=w).check() for w in (None, first))
    assert warm.info.iterations.double().mean() < 0.7 * cold.info.iterations.double().mean()
    torch.testing.assert_close(warm.x, cold.x, rtol=0, atol=1e-4)


def test_other_endings():
    refused = qp.solve_qp(**f.overdetermined(4, 6), settings=admm(closest_feasible=False))
    assert (refused.status == qp.Status.INFEASIBLE).all()
    assert (qp.solve_qp(**hard.unbounded(6, 6, 3), settings=admm()).status == qp.Status.UNBOUNDED).all()
    early = qp.solve_qp(**f.feasible(4, 12), settings=admm(1e-9, max_iter=13))
    assert (early.status == qp.Status.MAX_ITERATIONS).all()
    assert (early.info.iterations == 13).all()
    args = shared(3, 6, 6)
    args["g"][1, 0] = math.nan
    assert qp.solve_qp(**args, settings=admm()).status.tolist() == [0, qp.Status.NONFINITE_INPUT, 0]
    indefinite = shared(3, 6, 6) | {"H": -torch.eye(6).double()}
    assert (qp.solve_qp(**indefinite, settings=admm()).status > qp.Status.SOLVED_CLOSEST_FEASIBLE).all()


def test_feasible_and_infeasible_in_one_batch_with_shared_matrices():
    args = one_matrix(f.overdetermined(6, 6))
    args["b"] = args["b"].repeat(6, 1) if args["b"].dim() == 1 else args["b"].clone()
    x = torch.randn(3, 6).double()
    args["b"][::2], args["u"] = x @ args["A"].mT, (x @ args["C"].mT).amax(0) + 1
    sol, exact = (qp.solve_qp(**args, settings=s).check() for s in (admm(1e-6), qp.Settings()))
    assert sol.status.tolist() == exact.status.tolist() == [0, 1] * 3
    torch.testing.assert_close(sol.x, exact.x, rtol=0, atol=1e-4)


def test_the_batch_may_be_empty_and_problems_without_rows():
    assert len(qp.solve_qp(**shared(0, 6, 6), settings=admm()).x) == 0
    free = qp.solve_qp(torch.eye(3).double(), torch.ones(2, 3).double(), settings=admm(1e-6)).check()
    torch.testing.assert_close(free.x, -torch.ones(2, 3).double(), rtol=0, atol=1e-5)


def test_a_backend_without_it_says_so():
    with pytest.raises(qp.BackendError, match="'cpu' has no ADMM: take 'torch'"):
        qp.solve_qp(**shared(2, 4, 4), settings=admm(), backend="cpu")
    with pytest.raises(qp.SettingsError, match='method must be "alm"'):
        qp.Settings(method="osqp")


def test_auto_is_the_augmented_lagrangian_on_a_cpu():
    args = shared(16, 8, 8)
    sol, alm = (qp.solve_qp(**args, settings=qp.Settings(method=m)).check() for m in ("auto", "alm"))
    assert torch.equal(sol.x, alm.x)
    assert torch.equal(sol.info.iterations, alm.info.iterations)


@pytest.fixture
def paying():
    with admm_paying():
        yield


@pytest.mark.usefixtures("paying")
@pytest.mark.parametrize(("n", "m"), [(8, 8), (32, 32), (64, 64)])
def test_auto_saves_newton_steps(n, m):
    args = shared(32, n, m)
    sol, cold = (qp.solve_qp(**args, settings=qp.Settings(method=name)).check() for name in ("auto", "alm"))
    assert sol.info.iterations.double().mean() <= 0.4 * cold.info.iterations.double().mean()
    torch.testing.assert_close(sol.x, cold.x, rtol=0, atol=1e-6)


@pytest.mark.usefixtures("paying")
def test_auto_has_the_statuses_of_the_augmented_lagrangian():
    mixed = one_matrix(f.overdetermined(6, 6)) | {"g": torch.randn(6, 6).double()}
    mixed["g"][2, 1] = math.nan
    unbounded = one_matrix(hard.unbounded(6, 6, 3))
    for args in (mixed, unbounded, one_matrix(f.lp(6, 8)) | {"H": None}, HARD_ROWS["box"]):
        sol, alm = (qp.solve_qp(**args, settings=qp.Settings(method=name)) for name in ("auto", "alm"))
        assert sol.status.tolist() == alm.status.tolist()
        torch.testing.assert_close(sol.s_eq, alm.s_eq, rtol=0, atol=1e-7, equal_nan=True)
