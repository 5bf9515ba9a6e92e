"""Gradients against central differences, through every output, for every parameter."""

from functools import partial

import families as f
import pytest
import torch
from helpers import ACCURACY, ALL, CASES, EXACT, FEASIBLE, OVERDETERMINED, STEP, check, one_matrix

import qplayer_gpu as qp

pytestmark = pytest.mark.usefixtures("backend")


@pytest.mark.parametrize("case", CASES)
def test_batched(case):
    check(*CASES[case])


@pytest.mark.parametrize("case", CASES)
def test_shared(case):
    args, status, outputs = CASES[case]
    check(one_matrix(args), status, outputs)


def opposite(c, rest):
    """Rows that exclude each other in pairs, parallel however c changes: x keeps some freedom in an infeasible QP."""
    return {**rest, "C": torch.cat([c, -2 * c], -2)}


def repeated(c, rest):
    """The same row twice as an equality, with two right-hand sides."""
    return {**rest, "A": torch.cat([c, 0.5 * c], -2)}


@pytest.mark.parametrize("build", [opposite, repeated])
def test_infeasible_rows_that_leave_x_some_freedom(build):
    n, pairs = 6, 3
    feasible = f.feasible(2, n)
    c = torch.randn(2, pairs, n, dtype=torch.float64)
    sides = torch.randn(2, 2 * pairs, dtype=torch.float64)
    if build is opposite:
        middle = sides[:, :pairs]
        sides = torch.cat([middle, -2 * middle], -1) - 0.1 - torch.rand(2, 2 * pairs, dtype=torch.float64)
        rest = {"H": feasible["H"], "g": feasible["g"], "u": sides}
    else:
        rest = {k: feasible[k] for k in ("H", "g", "C", "u")} | {"b": sides}
    weights = torch.randn(2, n, dtype=torch.float64), torch.randn(2, 2 * pairs, dtype=torch.float64)

    def loss(c, rest):
        sol = qp.solve_qp(**build(c, rest), settings=EXACT)
        assert (sol.status == qp.Status.SOLVED_CLOSEST_FEASIBLE).all()
        return (weights[0] * sol.x).sum() + (weights[1] * (sol.s_in if build is opposite else sol.s_eq)).sum()

    point = {"c": c, **rest}
    leaves = {k: v.clone().requires_grad_() for k, v in point.items()}
    loss(leaves["c"], {k: leaves[k] for k in rest}).backward()
    assert leaves["H"].grad.norm() > 1e-3
    for name, leaf in leaves.items():
        d = leaf.grad / leaf.grad.norm()
        moved = ({**point, name: point[name] + step * d} for step in (STEP, -STEP))
        ahead, behind = (loss(m["c"], {k: m[k] for k in rest}) for m in moved)
        assert abs((ahead - behind) / (2 * STEP) - leaf.grad.norm()) <= ACCURACY * max(leaf.grad.norm(), 0.1), name


@pytest.mark.parametrize("case", ["feasible", "overdetermined", "excluding"])
def test_gradient_of_a_shared_parameter_is_the_sum(case):
    args, _, outputs = CASES[case]
    args = one_matrix(args)

    def gradients(problem):
        leaves = {k: v.clone().requires_grad_() for k, v in problem.items()}
        sol = qp.solve_qp(**leaves, settings=EXACT)
        sum(getattr(sol, k).square().sum() for k in outputs).backward()
        return {k: v.grad for k, v in leaves.items()}

    whole = gradients(args)
    copied = gradients({k: v if k == "g" else v.expand(3, *v.shape) for k, v in args.items()})
    kept = gradients({k: v if k == "g" else v.unsqueeze(0) for k, v in args.items()})
    for k in args:
        expected = copied[k] if k == "g" else copied[k].sum(0)
        torch.testing.assert_close(whole[k], expected, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(kept[k].reshape(whole[k].shape), expected, rtol=1e-9, atol=1e-10)


def test_unbatched():
    args = {k: v[0] for k, v in FEASIBLE.items()}
    check(args, qp.Status.SOLVED, ALL)


def test_only_the_symmetric_part_of_h_counts():
    args = dict(FEASIBLE)
    skew = torch.randn(3, 6, 6)
    bent = {**args, "H": args["H"] + skew - skew.mT}
    torch.testing.assert_close(qp.solve_qp(**bent).x, qp.solve_qp(**args).x, rtol=0, atol=1e-10)


def test_float32_gradients_are_those_of_float64_rounded():
    for args in (FEASIBLE, OVERDETERMINED):
        single = {k: v.float().requires_grad_() for k, v in args.items()}
        double = {k: v.detach().double().requires_grad_() for k, v in single.items()}
        for leaves in (single, double):
            qp.solve_qp(**leaves).x.square().sum().backward()
        for k in args:
            assert single[k].grad.dtype == torch.float32
            error = (single[k].grad.double() - double[k].grad).norm() / double[k].grad.norm().clamp(min=1e-3)
            assert error <= 1e-5, k  # x is rounded before it is squared


def test_crossed_sides_share_the_gradient_of_their_middle():
    """With l > u the row is the equality halfway, and both sides give way by half of what they cross by."""
    C, g = torch.tensor([[1.0, 2.0]]).double(), torch.tensor([0.3, -0.4]).double()
    H = torch.eye(2).double()
    l, u = torch.tensor([3.0]).double().requires_grad_(), torch.tensor([1.0]).double().requires_grad_()
    sol = qp.solve_qp(H, g, C=C, l=l, u=u)
    assert sol.status == qp.Status.SOLVED_CLOSEST_FEASIBLE
    torch.testing.assert_close(C @ sol.x, torch.tensor([2.0]).double())
    sol.x.sum().backward()
    middle = torch.tensor([2.0]).double().requires_grad_()
    qp.solve_qp(H, g, C, middle).x.sum().backward()
    torch.testing.assert_close(l.grad, 0.5 * middle.grad)
    torch.testing.assert_close(u.grad, 0.5 * middle.grad)
    torch.testing.assert_close(sol.s_in, torch.tensor([1.0]).double())
    by_l, by_u = torch.autograd.grad(qp.solve_qp(H, g, C=C, l=l, u=u).s_in.sum(), (l, u))
    assert (by_l.item(), by_u.item()) == (0.5, -0.5)


def test_directions_without_a_derivative_get_none():
    """An LP with a face of optima: x may move along it, and the gradient says nothing of that."""
    g = torch.tensor([[1.0, 0.0]]).double().requires_grad_()
    box = {"lb": torch.zeros(2).double(), "ub": torch.ones(2).double()}
    sol = qp.solve_qp(None, g, **box)
    sol.x.sum().backward()
    assert g.grad.abs().max() <= 1e-6


@pytest.mark.parametrize("angle", [1e-1, 1e-2, 1e-3])
@pytest.mark.parametrize("rows", ["equalities", "inequalities"])
def test_active_rows_that_are_nearly_parallel(rows, angle, backend):
    """Two rows that fix x: it moves with their sides by the inverse of their matrix, whose entries are large."""
    G, h = torch.tensor([[1.0, 0.0], [1.0, angle]]).double(), torch.ones(2).double().requires_grad_()
    sides = {"A": G, "b": h} if rows == "equalities" else {"C": G, "u": h}
    g = -G.mT @ torch.tensor([2.0, 3.0]).double() - torch.tensor([1.0, 0.0]).double()  # multipliers 2 and 3 at (1, 0)
    x = qp.solve_qp(torch.eye(2).double(), g, **sides).check().x
    jacobian = torch.stack([torch.autograd.grad(x[i], h, retain_graph=True)[0] for i in range(2)])
    inverse = torch.linalg.inv(G)
    assert (jacobian - inverse).norm() <= 1e-9 * inverse.norm()


PRECISE = {
    f"{family.__name__}-{n}": partial(family, 8, n) for family in (f.feasible, f.overdetermined, f.lp) for n in (6, 33)
} | {"many excluding_halfspaces": partial(f.excluding_halfspaces, 1000, 5)}  # in some, shifted rows nearly depend


@pytest.mark.parametrize("case", PRECISE)
def test_mixed_precision_has_the_gradients_of_double(case, backend):
    gradients = []
    for precision in ("float64", "mixed"):
        leaves = {k: v.clone().requires_grad_() for k, v in PRECISE[case]().items() if v is not None}
        qp.solve_qp(**{"H": None, **leaves}, settings=qp.Settings(precision=precision)).x.square().sum().backward()
        gradients.append(torch.cat([leaf.grad.flatten() for leaf in leaves.values()]))
    exact, mixed = gradients
    assert (mixed - exact).norm() <= 1e-7 * exact.norm()  # eps_abs through the conditioning of the problems
