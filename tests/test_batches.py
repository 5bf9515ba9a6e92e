"""Problems of every kind in one batch: each right, none touched by another."""

import math

import families as f
import hard as h
import pytest
import torch

import qplayer_gpu as qp

pytestmark = pytest.mark.usefixtures("backend")

N, ROWS = 5, 12


def mixed():
    """Feasible, infeasible, unbounded, NaN in each kind of parameter, infinite data, all with rows C x <= u."""
    normal = f.feasible(4, N, seed=1)
    base = {
        "H": normal["H"],
        "g": normal["g"],
        "C": torch.randn(4, ROWS, N).double(),
        "u": torch.rand(4, ROWS).double(),
    }
    halfspaces = f.excluding_halfspaces(3, N, extra=ROWS - N - 1)
    lp = {k: v[:2].clone() for k, v in base.items()} | {"H": torch.zeros(2, N, N).double()}
    lp["C"][..., 0] = -lp["C"][..., 0].abs() - 0.1  # e_1 is a direction of recession
    lp["g"] = torch.zeros(2, N).double()
    lp["g"][:, 0] = -1.0
    broken = []
    for name, value in (("H", math.nan), ("g", math.nan), ("C", math.inf), ("u", math.nan), ("u", -math.inf)):
        one = {k: v[:1].clone() for k, v in base.items()}
        one[name].view(1, -1)[0, 2] = value
        broken.append(one)
    groups = [(base, qp.Status.SOLVED), (halfspaces, qp.Status.SOLVED_CLOSEST_FEASIBLE), (lp, qp.Status.UNBOUNDED)]
    groups += [(one, qp.Status.NONFINITE_INPUT) for one in broken]
    order = torch.randperm(4 + 3 + 2 + 5)
    args = {k: torch.cat([group[k] for group, _ in groups])[order] for k in base}
    status = torch.cat([torch.full((len(group["g"]),), int(status)) for group, status in groups])[order]
    return args, status


def test_each_gets_its_status_and_its_own_answer():
    args, status = mixed()
    sol = qp.solve_qp(**args)
    assert sol.status.tolist() == status.tolist()
    for i in range(len(status)):
        alone = qp.solve_qp(**{k: v[i] for k, v in args.items()})
        assert alone.status == status[i]
        if status[i] in (qp.Status.SOLVED, qp.Status.SOLVED_CLOSEST_FEASIBLE):
            torch.testing.assert_close(sol.x[i], alone.x, rtol=0, atol=1e-9)
            torch.testing.assert_close(sol.s_in[i], alone.s_in, rtol=0, atol=1e-9)


def test_gradients_are_finite_and_each_problem_s_own():
    args, status = mixed()
    leaves = {k: v.clone().requires_grad_() for k, v in args.items()}
    solved = status <= qp.Status.SOLVED_CLOSEST_FEASIBLE
    qp.solve_qp(**leaves).x.square().sum().backward()  # the cotangent of a NaN answer is NaN
    for name, leaf in leaves.items():
        assert leaf.grad.isfinite().all()
        assert (leaf.grad[~solved] == 0).all()
        assert (leaf.grad[solved] != 0).flatten(1).any(1).any(), name
    for i in solved.nonzero().squeeze(-1):
        alone = {k: v[i].clone().requires_grad_() for k, v in args.items()}
        qp.solve_qp(**alone).x.square().sum().backward()
        for k, leaf in leaves.items():
            torch.testing.assert_close(leaf.grad[i], alone[k].grad, rtol=1e-6, atol=1e-6)


def test_the_shared_gradient_takes_only_the_solved():
    args, status = mixed()
    ok = status <= qp.Status.SOLVED_CLOSEST_FEASIBLE
    target = torch.zeros(N, dtype=torch.float64)

    def gradient(keep):
        shift = target.clone().requires_grad_()
        sol = qp.solve_qp(**{k: v[keep] + (shift if k == "g" else 0) for k, v in args.items()})
        sol.x.square().sum().backward()
        return shift.grad

    torch.testing.assert_close(gradient(torch.ones_like(ok)), gradient(ok), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("twice", [False, True], ids=["first", "second"])
def test_what_is_not_finite_stays_out_of_shared_gradients(twice):
    args = f.excluding_halfspaces(5, N)
    args["H"][0, 0, 0], args["C"][2, 1, 1] = math.inf, math.nan
    args["w_in"] = torch.ones_like(args["u"])
    args["w_in"][3, 2] = 0.0  # no weight may be zero
    shared = {"w_in": torch.rand(args["u"].shape[1]).double() + 0.5, "g": torch.zeros(N).double()}

    def gradients(keep):
        kept = {k: v[keep] for k, v in args.items()}
        leaves = {k: v.clone().requires_grad_() for k, v in shared.items()}
        sol = qp.solve_qp(**kept | {k: kept[k] * v if k == "w_in" else kept[k] + v for k, v in leaves.items()})
        found = torch.autograd.grad(sol.x.square().sum(), list(leaves.values()), create_graph=twice)
        return torch.autograd.grad(sum(t.square().sum() for t in found), list(leaves.values())) if twice else found

    solved = torch.tensor([1, 4])
    for one, other in zip(gradients(torch.arange(5)), gradients(solved), strict=True):
        assert (other != 0).any()
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-8)


def test_gradient_on_failure_is_a_setting():
    g = torch.randn(3, 8, dtype=torch.float64, requires_grad=True)
    args = {k: v for k, v in f.feasible(3, 8).items() if k != "g"}
    for wanted in (False, True):
        sol = qp.solve_qp(g=g, **args, settings=qp.Settings(max_iter=4, gradient_on_failure=wanted))
        assert (sol.status == qp.Status.MAX_ITERATIONS).all()
        (gradient,) = torch.autograd.grad(sol.x.sum(), g)
        assert (gradient != 0).any() == wanted
        assert gradient.isfinite().all()


def test_a_bad_shared_parameter_spoils_all():
    args = f.shared(f.feasible(3, 6), "C")
    args["C"] = args["C"].clone()
    args["C"][0, 0] = math.nan
    assert (qp.solve_qp(**args).status == qp.Status.NONFINITE_INPUT).all()


@pytest.mark.parametrize("B", [1, 2, 65])
def test_the_answer_does_not_depend_on_the_batch(B):
    args = f.feasible(B, 9, two_sided=True)
    whole, first = qp.solve_qp(**args), qp.solve_qp(**{k: v[:1] for k, v in args.items()})
    torch.testing.assert_close(whole.x[:1], first.x, rtol=0, atol=1e-11)


UNBOUNDED = {
    "no-rows": lambda: {"H": None, "g": torch.randn(4, 6).double()},
    "rows": lambda: {
        "H": None,
        "g": torch.randn(4, 6).double(),
        "C": torch.randn(3, 6).double(),
        "u": torch.ones(3).double(),
    },
    "equalities": lambda: {
        "H": None,
        "g": torch.randn(4, 6).double(),
        "A": torch.randn(2, 6).double(),
        "b": torch.ones(2).double(),
    },
    "random": lambda: h.unbounded(32, 9, 4),
    "random-lp": lambda: h.unbounded(32, 7, 0),
    "semidefinite": lambda: {
        "H": torch.diag(torch.tensor([1.0, 1, 0, 0])).double(),
        "g": -torch.ones(4, 4).double(),
        "lb": torch.zeros(4).double(),
    },
}


@pytest.mark.parametrize("case", UNBOUNDED)
def test_unbounded_problems_end_soon(case):
    sol = qp.solve_qp(**UNBOUNDED[case]())
    assert (sol.status == qp.Status.UNBOUNDED).all()
    assert (sol.info.iterations <= 50).all()
