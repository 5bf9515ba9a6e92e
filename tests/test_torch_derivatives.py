"""Second derivatives, forward mode and the transforms of torch.func."""

import families as f
import pytest
import torch
from helpers import CASES, EXACT, one_matrix, parts_of
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.autograd.functional import hessian as hessian_by_rows
from torch.autograd.functional import jacobian
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.utils._pytree import tree_leaves

import qplayer_gpu as qp


def small(case):
    """The problems of a case, two of them: arguments without None, outputs with a derivative."""
    args, _, outputs = CASES[case]
    return {k: v[:2] if v.dim() == 2 + (k in "HAC") else v for k, v in args.items() if v is not None}, outputs


def function_of(args, outputs):
    """The outputs as a function of the arguments, in their order; H enters by its symmetric part."""

    def call(*values):
        sol = qp.solve_qp(**{"H": None, **dict(zip(args, values, strict=True))}, settings=EXACT)
        return tuple(getattr(sol, k) for k in outputs)

    return call, tuple(args.values())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shared", [False, True], ids=["batched", "shared"])
def test_forward_mode_is_the_transpose_of_reverse_mode(case, shared):
    args, outputs = small(case)
    call, values = function_of(one_matrix(args) if shared else args, outputs)
    tangents = tuple(torch.randn_like(v) for v in values)
    primal, moved = jvp(call, values, tangents)
    cotangents = tuple(torch.randn_like(t) for t in primal)
    _, pull = vjp(call, *values)
    left = sum((a * b).sum() for a, b in zip(moved, cotangents, strict=True))
    pulled = pull(cotangents)
    right = sum((a * b).sum() for a, b in zip(pulled, tangents, strict=True))
    size = sum((a * b).abs().sum() for a, b in zip(pulled, tangents, strict=True))
    assert abs(left - right) <= 1e-8 * size


@pytest.mark.parametrize("case", CASES)
def test_second_derivatives(case):
    args, outputs = small(case)
    call, values = function_of(args, outputs)
    leaves = tuple(v.clone().requires_grad_() for v in values)
    assert gradgradcheck(call, leaves, atol=1e-4, rtol=1e-4, fast_mode=True)


@pytest.mark.parametrize("case", ["feasible", "only-equalities", "positive-qp"])
def test_second_derivatives_of_shared_parameters(case):
    args, outputs = small(case)
    call, values = function_of(one_matrix(args), outputs)
    leaves = tuple(v.clone().requires_grad_() for v in values)
    assert gradgradcheck(call, leaves, atol=1e-4, rtol=1e-4, fast_mode=True)


@pytest.mark.parametrize("strategy", ["reverse-mode", "forward-mode"])
@pytest.mark.parametrize(("case", "matrix"), [("positive-qp", "A"), ("excluding", "C")])
def test_batched_gradients(case, matrix, strategy):
    """Those of torch.autograd.functional, by rules of PyTorch that are older than torch.func and fewer."""
    args = one_matrix(small(case)[0])

    def call(g, M):
        return qp.solve_qp(**args | {"g": g, matrix: M}, settings=EXACT).x

    def loss(g, M):
        return call(g, M).square().sum()

    values = args["g"], args[matrix]
    for function, of, option in ((jacobian, call, "strategy"), (hessian_by_rows, loss, "outer_jacobian_strategy")):
        fast, slow = function(of, values, vectorize=True, **{option: strategy}), function(of, values)
        for one, other in zip(tree_leaves(fast), tree_leaves(slow), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-7)


def test_second_derivatives_where_the_first_cotangent_is_zero():
    """The gradient is linear in the cotangent; torch.autograd.functional.jvp differentiates it at zero."""
    for case in ("feasible", "only-equalities"):
        args, outputs = small(case)
        call, values = function_of(args, outputs)
        tangents = tuple(torch.randn_like(v) for v in values)
        _, twice = torch.autograd.functional.jvp(call, values, tangents)
        _, once = jvp(call, values, tangents)
        for a, b in zip(once, twice, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-7)


def test_forward_mode_against_differences():
    args, outputs = small("positive-qp")
    call, values = function_of(args, outputs)
    leaves = tuple(v.clone().requires_grad_() for v in values)
    assert gradcheck(call, leaves, atol=1e-4, check_forward_ad=True, check_backward_ad=False, fast_mode=True)


def test_dual_numbers_without_torch_func():
    g = torch.randn(2, 3, dtype=torch.float64)
    with forward_ad.dual_level():
        sol = qp.solve_qp(torch.eye(3).double(), forward_ad.make_dual(g, torch.ones_like(g)))
        assert forward_ad.unpack_dual(sol.info.gap).tangent is None
        torch.testing.assert_close(forward_ad.unpack_dual(sol.x).tangent, -torch.ones_like(g))


def test_unsolved_problems_have_no_derivative_and_touch_no_other():
    args, _ = small("feasible")
    g = args["g"].clone()
    g[0, 0] = torch.nan
    direction = torch.randn_like(g)
    alone = {k: v[1:] for k, v in args.items()}
    (_, moved) = jvp(lambda g: qp.solve_qp(**{**args, "g": g}).x, (g,), (direction,))
    (_, expected) = jvp(lambda g: qp.solve_qp(**{**alone, "g": g}).x, (g[1:],), (direction[1:],))
    assert (moved[0] == 0).all()
    torch.testing.assert_close(moved[1:], expected, rtol=0, atol=1e-10)


SINGLE = {k: v[0] for k, v in CASES["feasible"][0].items()}
INFEASIBLE = {k: v[0] for k, v in CASES["positive-qp"][0].items()}
EQUALITIES = {k: v[0] for k, v in CASES["only-equalities"][0].items()}  # infeasible, y has derivatives


@pytest.mark.parametrize("problem", [SINGLE, INFEASIBLE], ids=["feasible", "infeasible"])
def test_jacobians_agree(problem):
    call, values = function_of(problem, ("x", "s_eq"))
    where = tuple(range(len(values)))
    for one, other in zip(jacrev(call, where)(*values), jacfwd(call, where)(*values), strict=True):
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", ["A", "g"])
@pytest.mark.parametrize(
    ("problem", "outputs"),
    [(SINGLE, "xyz"), (INFEASIBLE, "x"), (EQUALITIES, "xy")],
    ids=["feasible", "infeasible", "equalities"],
)
def test_hessians_agree(problem, outputs, name):
    def loss(value):
        sol = qp.solve_qp(**{**problem, name: value}, settings=EXACT)
        return sum(getattr(sol, k).pow(3).sum() for k in outputs)  # squares of y would have cotangents in its range

    forward_over_reverse = hessian(loss)(problem[name])
    torch.testing.assert_close(forward_over_reverse, jacrev(jacrev(loss))(problem[name]), rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(forward_over_reverse, jacrev(jacfwd(loss))(problem[name]), rtol=1e-7, atol=1e-7)
    with pytest.raises(NotImplementedError, match="forward mode over forward mode"):
        jacfwd(jacfwd(loss))(problem[name])


@pytest.mark.parametrize("shared", [(), ("g",), ("A", "b"), ("H", "C", "l", "u", "lb", "ub")], ids="-".join)
def test_vmap_is_the_batch(shared):
    args = {k: v[0] if k in shared else v for k, v in CASES["feasible"][0].items()}
    if shared == ("g",):
        args = f.shared(CASES["feasible"][0], "g")
    names = list(args)
    mapped = vmap(
        lambda *values: qp.solve_qp(**dict(zip(names, values, strict=True))),
        in_dims=tuple(None if k in shared else 0 for k in names),
    )(*args.values())
    for a, b in zip(*(parts_of(sol).values() for sol in (mapped, qp.solve_qp(**args))), strict=True):
        if isinstance(a, torch.Tensor):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


def test_vmap_of_batches_at_any_dimension():
    torch.manual_seed(1)
    H, rest = CASES["feasible"][0]["H"], {k: CASES["feasible"][0][k] for k in ("C", "u", "l")}
    g = torch.randn(3, 6, 4).double()  # [B, n, V]
    lb = -5 - torch.rand(6, 4).double()  # [n, V], shared by each batch
    mapped = vmap(lambda g, lb: qp.solve_qp(H, g, **rest, lb=lb), in_dims=(2, 1), out_dims=1)(g, lb)
    assert mapped.x.shape == (3, 4, 6)
    assert mapped.status.shape == (3, 4)
    for v in range(4):
        torch.testing.assert_close(mapped.x[:, v], qp.solve_qp(H, g[..., v], **rest, lb=lb[:, v]).x, rtol=0, atol=1e-9)


def test_vmap_of_vmap():
    g, H = torch.randn(2, 3, 4, 5).double(), torch.eye(5).double()
    bounds = {"lb": -torch.ones(5).double(), "ub": torch.ones(5).double()}
    x = vmap(vmap(lambda g: qp.solve_qp(H, g, **bounds).x, in_dims=1), in_dims=0)(g)
    assert x.shape == (2, 4, 3, 5)
    torch.testing.assert_close(x, (-g).clamp(-1, 1).transpose(1, 2), rtol=0, atol=1e-7)


def test_vmap_of_a_warm_start():
    args = CASES["feasible"][0]
    sol = qp.solve_qp(**args)
    again = vmap(lambda start, args: qp.solve_qp(**args, warm_start=start))(sol, args)
    assert (again.info.iterations < sol.info.iterations).all()
    torch.testing.assert_close(again.x, sol.x, rtol=0, atol=1e-8)


def test_gradients_per_sample():
    """The gradient of a shared parameter for each sample, as vmap over grad gives it."""
    args = CASES["feasible"][0]
    A = args["A"][0]
    rest = {k: v for k, v in args.items() if k != "A"}

    def loss(A, rest):
        return qp.solve_qp(A=A, **rest, settings=EXACT).x.square().sum()

    each = vmap(grad(loss), in_dims=(None, 0))(A, rest)
    torch.testing.assert_close(each.sum(0), grad(loss)(A, rest), rtol=1e-8, atol=1e-8)


def test_a_step_of_meta_learning():
    """The gradient through a step of gradient descent on the parameters of a layer, against differences."""

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.A = torch.nn.Parameter(torch.rand(2, 4).double() + 0.5)
            self.layer = qp.QPLayer(EXACT)

        def forward(self, g):
            n = self.A.new_zeros(4)
            return self.layer(torch.eye(4).double(), g, self.A, self.A.new_tensor([1.0, -1.0]), lb=n).x

    model = Model()
    g = torch.randn(5, 4).double()

    def adapted(A):
        inner = grad(lambda A: functional_call(model, {"A": A}, (g,)).square().sum())(A)
        return functional_call(model, {"A": A - 0.1 * inner}, (g,)).cos().sum()

    assert gradcheck(adapted, (model.A.detach().requires_grad_(),), atol=1e-5)
