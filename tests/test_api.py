"""What users call, and what they are told when they call it wrong."""

import families as f
import numpy as np
import pytest
import torch
from certificate import certify
from torch._subclasses import FakeTensorMode
from torch.utils.checkpoint import checkpoint

import qplayer_gpu as qp

N = 6
ARGS = f.feasible(3, N, two_sided=True, bounds=True)


def drop(*names):
    return {k: v for k, v in ARGS.items() if k not in names}


@pytest.mark.parametrize(
    "absent",
    [
        ("H",),
        ("A", "b"),
        ("C", "l", "u"),
        ("l",),
        ("u",),
        ("lb",),
        ("ub",),
        ("lb", "ub"),
        ("A", "b", "C", "l", "u"),
        ("A", "b", "C", "l", "u", "lb", "ub"),
    ],
    ids="-".join,
)
def test_any_part_may_be_absent(absent):
    args = {"H": None, **drop(*absent)}
    sol = qp.solve_qp(**args).check()
    conditions = certify(args, sol)
    assert max(conditions.primal, conditions.dual, conditions.gap) <= 1.1e-9
    n_eq, n_in = (0 if args.get(k) is None else args[k].shape[-2] for k in ("A", "C"))
    shapes = {"x": N, "y": n_eq, "z": n_in, "z_box": N, "s_eq": n_eq, "s_in": n_in, "s_box": N}
    assert {k: getattr(sol, k).shape for k in shapes} == {k: (3, size) for k, size in shapes.items()}
    for t in (sol.status, *vars(sol.info).values()):
        assert t.shape == (3,)


@pytest.mark.parametrize("batched", list(ARGS))
def test_one_batched_parameter_makes_a_batch(batched):
    args = {k: v if k == batched else v[0] for k, v in ARGS.items()}
    args |= {k: args[k] + 1e3 for k in ("u", "ub")} | {k: args[k] - 1e3 for k in ("l", "lb")} | {"A": None, "b": None}
    if batched in "Ab":
        args |= {"A": ARGS["A"] if batched == "A" else ARGS["A"][0], "b": ARGS["b"] if batched == "b" else ARGS["b"][0]}
    sol = qp.solve_qp(**args).check()
    assert sol.x.shape == (3, N)
    for i in range(3):
        alone = qp.solve_qp(**{k: v if v is None or k != batched else v[i] for k, v in args.items()})
        assert alone.x.shape == (N,)
        torch.testing.assert_close(sol.x[i], alone.x, rtol=0, atol=1e-9)


def test_unbatched_answers_have_no_batch_dimension():
    sol = qp.solve_qp(**{k: v[0] for k, v in ARGS.items()})
    assert sol.x.shape == (N,)
    assert sol.status.shape == sol.info.gap.shape == ()
    assert sol.status == qp.Status.SOLVED


def test_a_batch_of_one_stays_a_batch():
    assert qp.solve_qp(**{k: v[:1] for k, v in ARGS.items()}).x.shape == (1, N)


def test_an_empty_batch():
    leaves = {k: v[:0].clone().requires_grad_() if k == "g" else v[0] for k, v in ARGS.items()}
    H = leaves["H"] = leaves["H"].clone().requires_grad_()
    sol = qp.solve_qp(**leaves).check()
    assert sol.x.shape == (0, N)
    sol.x.sum().backward()
    assert leaves["g"].grad.shape == (0, N)
    assert (H.grad == 0).all()


def test_one_variable():
    g = torch.tensor([[2.0], [-6.0]]).double()
    sol = qp.solve_qp(2 * torch.eye(1).double(), g, lb=torch.zeros(1).double(), ub=torch.ones(1).double()).check()
    torch.testing.assert_close(sol.x, torch.tensor([[0.0], [1.0]]).double())
    torch.testing.assert_close(sol.z_box, torch.tensor([[-2.0], [4.0]]).double())


def test_signs_and_shifts_of_a_problem_solved_by_hand():
    """min 1/2 |x|^2 with x_1 + x_2 = 2, and x_1 <= -1 against x_1 >= 1."""
    sol = qp.solve_qp(
        torch.eye(2).double(),
        torch.zeros(2).double(),
        torch.tensor([[0.0, 1.0]]).double(),
        torch.tensor([2.0]).double(),
        C=torch.tensor([[1.0, 0.0], [1.0, 0.0]]).double(),
        l=torch.tensor([-torch.inf, 1.0]).double(),
        u=torch.tensor([-1.0, torch.inf]).double(),
    )
    assert sol.status == qp.Status.SOLVED_CLOSEST_FEASIBLE
    torch.testing.assert_close(sol.x, torch.tensor([0.0, 2.0]).double())
    torch.testing.assert_close(sol.s_in, torch.tensor([1.0, -1.0]).double())
    torch.testing.assert_close(sol.s_eq, torch.zeros(1).double())
    torch.testing.assert_close(sol.y, torch.tensor([-2.0]).double())


def test_fixed_variables_and_free_rows():
    fixed = torch.tensor([1.0, 0.0, -1.0]).double()
    free = {"C": torch.eye(3).double(), "l": torch.full((3,), -torch.inf).double()}
    sol = qp.solve_qp(None, torch.ones(3).double(), **free, lb=fixed, ub=fixed).check()
    torch.testing.assert_close(sol.x, fixed)
    torch.testing.assert_close(sol.z_box, -torch.ones(3).double())
    assert (sol.z == 0).all()


def test_layer_is_the_function():
    layer = qp.QPLayer(qp.Settings(eps_abs=1e-6))
    assert list(layer.parameters()) == []
    assert "eps_abs=1e-06" in repr(layer)
    torch.testing.assert_close(layer(**ARGS).x, qp.solve_qp(**ARGS, settings=layer.settings).x, rtol=0, atol=0)


def test_several_backwards_may_be_pending():
    g = ARGS["g"].clone().requires_grad_()
    args = drop("g")
    first, second = qp.solve_qp(g=g, **args), qp.solve_qp(g=2 * g, **args)
    (a,) = torch.autograd.grad(second.x.sum(), g)
    (b,) = torch.autograd.grad(first.x.sum(), g)
    fresh = qp.solve_qp(g=g, **args)
    torch.testing.assert_close(b, torch.autograd.grad(fresh.x.sum(), g)[0], rtol=0, atol=0)
    assert not torch.equal(a, b)


@pytest.mark.parametrize("name", ["H", "C"])
def test_a_parameter_changed_before_the_backward_is_noticed(name):
    g, M = ARGS["g"].clone().requires_grad_(), ARGS[name].clone()
    x = qp.solve_qp(g=g, **{name: M}, **drop("g", name)).x
    M.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        x.sum().backward()


def test_no_graph_without_gradients():
    assert not qp.solve_qp(**ARGS).x.requires_grad


class Wrapper(torch.Tensor):
    """A tensor without memory, which refuses all that is done to it."""

    @staticmethod
    def __new__(cls, t):
        return torch.Tensor._make_wrapper_subclass(cls, t.shape, dtype=t.dtype)

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        raise NotImplementedError


def wrong(**changes):
    return {**ARGS, **changes}


t = torch.zeros
WRONG = {
    "g is no tensor": (wrong(g=[0.0] * N), TypeError, "g must be a torch.Tensor, not list"),
    "g is missing": (wrong(g=None), TypeError, "g must be a torch.Tensor"),
    "integers": (wrong(g=t(3, N, dtype=torch.long)), TypeError, "g must be torch.float64 or torch.float32"),
    "mixed dtypes": (wrong(H=ARGS["H"].float()), TypeError, "H must be torch.float64, like g"),
    "H not square": (wrong(H=t(3, N, N + 1).double()), ValueError, r"H must have shape \(6, 6\)"),
    "g has too many dimensions": (wrong(g=t(1, 3, N).double()), ValueError, "g must have 1 dimension, or 2"),
    "b of another length": (wrong(b=t(3, 5).double()), ValueError, r"b must have shape \(1,\)"),
    "C of another width": (wrong(C=t(3, N, 4).double()), ValueError, r"C must have shape \(6, 6\)"),
    "lb of another length": (wrong(lb=t(N + 1).double()), ValueError, "lb must have shape"),
    "batches differ": (wrong(u=t(4, N).double()), ValueError, "u has a batch of 4, H one of 3"),
    "A without b": (wrong(b=None), ValueError, "A and b go together: b is missing"),
    "b without A": (wrong(A=None), ValueError, "A and b go together: A is missing"),
    "C without sides": (wrong(l=None, u=None), ValueError, "C and l or u go together: l or u is missing"),
    "no variables": ({"H": None, "g": t(3, 0).double()}, ValueError, "g must have at least one entry"),
    "another device": (wrong(H=t(N, N, device="meta").double()), ValueError, "move all arguments to one device"),
    "warm start of others": (
        wrong(warm_start=qp.solve_qp(None, t(3, N).double())),
        ValueError,
        "warm_start answers problems with",
    ),
    "warm start of other rows, as many": (
        wrong(
            warm_start=qp.solve_qp(
                **wrong(A=t(2, N).double(), b=t(2).double(), C=t(5, N).double(), l=None, u=t(5).double())
            )
        ),
        ValueError,
        "warm_start answers problems with",
    ),
    "warm start without an index": (wrong(warm_start=qp.WarmStart(3)), TypeError, "must be a Solution, not WarmStart"),
    "settings in a dict": (wrong(settings={"max_iter": 3}), ValueError, "must be a qplayer_gpu.Settings, not dict"),
    "meta tensors": ({"H": None, "g": t(3, N, device="meta").double()}, ValueError, "g is on the meta device"),
    "sparse": (wrong(H=ARGS["H"][0].to_sparse()), TypeError, "H must be dense, not torch.sparse_coo: convert it"),
    "a number for a matrix": (wrong(C=1.0), TypeError, "C must be a torch.Tensor, not float"),
    "nested": (
        {"H": None, "g": torch.nested.nested_tensor([t(2).double(), t(3).double()], layout=torch.jagged)},
        TypeError,
        "g must be dense, not nested",
    ),
    "fake": (wrong(u=FakeTensorMode().from_tensor(ARGS["u"])), TypeError, "u is a FakeTensor without memory"),
    "a wrapper": (wrong(C=Wrapper(ARGS["C"])), TypeError, "C is a Wrapper without memory of its own: pass the tensor"),
    "mkldnn": (
        {"H": None, "g": t(3, N).to_mkldnn()},
        TypeError,
        r"g must be dense, not torch\._mkldnn",
    ),
    "complex": (wrong(A=ARGS["A"].cdouble()), TypeError, "A must be torch.float64, like g, not torch.complex128"),
    "g is a column": (
        {"H": t(N, N).double(), "g": t(N, 1).double()},
        ValueError,
        r"g must have shape \(6,\) or .*squeeze",
    ),
    "b is a column": (wrong(A=t(2, N).double(), b=t(1, 1).double()), ValueError, r"b must have shape \(2,\)"),
    "a side beyond float64": (wrong(ub=10**400), ValueError, "ub does not fit into float64: use inf for an absent"),
    "weights of no bounds": (
        {"H": None, "g": t(3, N).double(), "w_box": t(N).double()},
        ValueError,
        "w_box weighs rows that are not given: pass lb or ub too",
    ),
    "a number in a tensor": (
        wrong(b=torch.tensor(1.0).double()),
        ValueError,
        r"b must have 1 dimension, .*: give a number",
    ),
    "an empty warm start": (wrong(warm_start=qp.Solution(*[None] * 9)), TypeError, "warm_start must hold tensors"),
    "an array of backends": (wrong(backend=np.array(["cpu", "torch"])), qp.BackendError, "backend array.* is not"),
    "no backend": (wrong(backend=None), qp.BackendError, "backend None is not available"),
    "unknown backend": (
        wrong(backend="opencl"),
        qp.BackendError,
        "'opencl' is not available; this version has 'auto', 'torch'",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_calls_say_what_to_do(case):
    args, error, message = WRONG[case]
    with pytest.raises(error, match=message) as caught:
        qp.solve_qp(**args)
    assert isinstance(caught.value, qp.QPError)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")  # it will go, and is there still
def test_quantized_tensors_are_refused():
    with pytest.raises(qp.ProblemError, match=r"g must be .*, not torch\.quint8"):
        qp.solve_qp(None, torch.quantize_per_tensor(t(3, N), 0.1, 0, torch.quint8))


@pytest.mark.parametrize(
    "setting",
    [
        {"eps_abs": 0.0},
        {"eps_abs": float("nan")},
        {"eps_abs": "a"},
        {"eps_rel": -1.0},
        {"eps_rel": None},
        {"max_iter": -1},
        {"max_iter": 2.5},
        {"max_iter": 2**63},
        {"max_iter": np.float64(3)},
        {"rho": 0.0},
        {"rho": "0.1"},
        {"mu_in": 10**400},
        {"mu_eq": torch.ones(2)},
        {"equilibrate": "no"},
        {"closest_feasible": None},
        {"gradient_on_failure": np.ones(2)},
        {"precision": np.array(["mixed", "float64"])},
    ],
    ids=str,
)
def test_settings_are_checked(setting):
    (name,) = setting
    with pytest.raises(qp.SettingsError, match=f"{name} must be"):
        qp.Settings(**setting)


def test_settings_take_the_numbers_of_other_libraries():
    settings = qp.Settings(eps_abs=np.float64(1e-6), rho=torch.tensor(0.5), equilibrate=np.False_, max_iter=np.int64(7))
    assert settings == qp.Settings(eps_abs=1e-6, rho=0.5, equilibrate=False, max_iter=7)
    assert type(settings.max_iter) is int


def test_sides_may_be_numbers():
    sol = qp.solve_qp(torch.eye(2).double(), torch.tensor([1.0, -3.0]).double(), lb=0, ub=2.0)
    torch.testing.assert_close(sol.x, torch.tensor([0.0, 2.0]).double())
    args = f.feasible(3, N)
    for name, value in (("b", 0.5), ("l", -1.5), ("u", 2.0)):
        whole = torch.full_like(args["u"] if name in "lu" else args["b"], value)
        ours, theirs = (qp.solve_qp(**args | {name: side}) for side in (value, whole))
        assert torch.equal(ours.x, theirs.x)


@pytest.mark.parametrize("number", [np.float32(0.5), np.int64(1), 10**19, np.inf], ids=repr)
def test_sides_may_be_any_number(number):
    sol = qp.solve_qp(torch.eye(2).double(), torch.tensor([1.0, -3.0]).double(), ub=number)
    torch.testing.assert_close(sol.x, torch.tensor([-1.0, min(3.0, number)]).double())


def test_sides_of_1e20_are_absent():
    args, huge = f.feasible(3, N), torch.full((3, N), 1e20, dtype=torch.float64)
    none = qp.solve_qp(**args)
    for far in (huge, 1e10 * huge):
        l, lb, ub = (t.clone().requires_grad_() for t in (-far, -far, far))
        sol = qp.solve_qp(**args, l=l, lb=lb, ub=ub).check()
        torch.testing.assert_close(sol.x, none.x, rtol=0, atol=1e-8)
        sol.x.sum().backward()
        assert all((side.grad == 0).all() for side in (l, lb, ub))
    assert qp.solve_qp(None, torch.ones(2).double(), lb=-1e20).status == qp.Status.UNBOUNDED


@pytest.mark.parametrize("call", [qp.solve_qp, qp.QPLayer()])
def test_rows_and_sides_have_names(call):
    """solve_qp(H, g, None, None, C, u), as in qpth, is not taken for a lower side."""
    with pytest.raises(TypeError, match="positional"):
        call(torch.eye(N).double(), torch.zeros(N).double(), None, None, torch.eye(N).double(), torch.ones(N).double())


def test_a_layer_wants_a_backend():
    with pytest.raises(qp.BackendError, match="backend 'opencl' is not available"):
        qp.QPLayer(backend="opencl")


def test_a_layer_wants_settings():
    with pytest.raises(qp.SettingsError, match="not str"):
        qp.QPLayer("torch")


@pytest.mark.parametrize("other", [f.feasible(2, N, two_sided=True, bounds=True), drop("A", "b"), drop("C", "l", "u")])
def test_a_certificate_is_of_the_problems_that_were_solved(other):
    with pytest.raises(qp.ProblemError, match="the solution answers problems with"):
        qp.certificate(qp.solve_qp(**ARGS), **other)


@pytest.mark.parametrize(
    ("solution", "message"),
    [
        (None, "solution must be a Solution, not NoneType"),
        (ARGS["g"], "solution must be a Solution, not Tensor"),
        (qp.solve_qp(None, np.zeros((3, N)), lb=0.0), "of torch, solution of numpy: convert"),
    ],
)
def test_a_certificate_is_of_a_solution(solution, message):
    with pytest.raises(qp.ProblemError, match=message):
        qp.certificate(solution, **ARGS)


def test_settings_are_frozen():
    with pytest.raises(AttributeError):
        qp.Settings().eps_abs = 1.0


def test_check_says_what_to_do():
    assert qp.solve_qp(**ARGS).check().x.shape == (3, N)
    with pytest.raises(qp.SolveError, match=r"of 3 problems 3 MAX_ITERATIONS: raise Settings\.eps_abs"):
        qp.solve_qp(**ARGS, settings=qp.Settings(max_iter=1)).check()


def test_mixed_precision_is_for_float32_on_a_gpu_or_asked_for():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    single, double = torch.float32, torch.float64
    assert [qp.Settings().options(*of).mixed for of in ((single, gpu), (double, gpu), (single, cpu))] == [
        True,
        False,
        False,
    ]
    assert qp.Settings(precision="mixed").options(double, cpu).mixed
    assert not qp.Settings(precision="float64").options(single, gpu).mixed
    assert not qp.Settings().options(single, gpu, "triton").mixed  # which has no other


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints(reentrant):
    """The backward reads what it has saved once, as torch.utils.checkpoint asks."""
    names = list(ARGS)
    leaves, again = ([t.clone().requires_grad_() for t in ARGS.values()] for _ in range(2))

    def answer(*tensors):
        return qp.solve_qp(**dict(zip(names, tensors, strict=True))).x

    checkpoint(answer, *leaves, use_reentrant=reentrant).square().sum().backward()
    answer(*again).square().sum().backward()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(leaves, again, strict=True))
