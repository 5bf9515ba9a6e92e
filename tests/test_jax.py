"""``qplayer_gpu.jax``: the answers and gradients of torch, under grad, vmap and jit, and those of differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from helpers import CASES, EXACT, HARD_ROWS, leaves_of
from jax.test_util import check_grads

import qplayer_gpu as qp
import qplayer_gpu.jax as qj


@pytest.fixture(autouse=True)
def x64():
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


def arrays(args, dtype=None):
    return {k: jnp.asarray(v.numpy(), dtype) if isinstance(v, torch.Tensor) else v for k, v in args.items()}


def close(found, expected, tolerance=1e-12):
    """Whether arrays are those tensors; the same kernels, but sums over a batch may be in another order."""
    size = max(1.0, float(expected.detach().abs().max())) if expected.numel() else 1.0
    np.testing.assert_allclose(np.asarray(found), expected.detach().numpy(), rtol=0, atol=tolerance * size)


def loss_of(sol, outputs, library):
    return sum((library.sin(getattr(sol, name)) + getattr(sol, name) ** 2).sum() for name in outputs)


def differentiable(args, settings):
    """The arguments that are arrays, and a function of them that solves."""
    given = {k: v for k, v in args.items() if isinstance(v, torch.Tensor)}
    rest = {"H": None} | {k: v for k, v in args.items() if k not in given}
    return arrays(given), lambda values: qj.solve_qp(**rest | dict(values), settings=settings)


@pytest.mark.parametrize(
    ("form", "case"), [("eager", "feasible"), ("eager", "excluding"), *(("jit", c) for c in CASES)]
)
def test_answers_and_gradients_are_those_of_torch(case, form):
    args, status, outputs = CASES[case]
    values, solve = differentiable(args, qp.Settings())
    leaves = leaves_of(args)
    expected = qp.solve_qp(**{"H": None} | leaves)
    loss_of(expected, outputs, torch).backward()

    def loss(values):
        sol = solve(values)
        return loss_of(sol, outputs, jnp), sol

    gradient = jax.grad(loss, has_aux=True)
    found, sol = (jax.jit(gradient) if form == "jit" else gradient)(values)
    assert sol.names() == [status.name] * 3
    assert sol.info.iterations.dtype == sol.status.dtype == jnp.int32
    for name in (*outputs, "status"):
        close(getattr(sol, name), getattr(expected, name))
    for name, gradient in found.items():
        close(gradient, leaves[name].grad, 1e-9)  # at an answer that is as good, but not always the same


@pytest.mark.parametrize("case", ["feasible", "positive-qp"])
def test_gradients_are_those_of_differences(case):
    args, _, outputs = CASES[case]
    values, solve = differentiable(args, EXACT)

    def loss(values):
        H = {"H": 0.5 * (values["H"] + values["H"].mT)} if "H" in values else {}
        return loss_of(solve(values | H), outputs[:1], jnp)

    # differences of 1e-5 see the error of the answer, 1e-11, as 1e-6
    check_grads(loss, (values,), order=1, modes=["rev"], eps=1e-5, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("form", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_mapped_problems_are_those_of_the_batch(form):
    args, _, outputs = CASES["feasible"]
    values, solve = differentiable(args, qp.Settings())
    shared = {name: values[name][0] for name in ("H", "C")}
    mapped = {name: v for name, v in values.items() if name not in shared}

    def each(shared, mapped):
        return loss_of(jax.vmap(lambda m: solve(shared | m))(mapped), outputs, jnp)

    def batch(shared, mapped):
        return loss_of(solve(shared | mapped), outputs, jnp)

    gradients = [form(jax.grad(f, argnums=(0, 1)))(shared, mapped) for f in (each, batch)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-9), *gradients)


def test_maps_of_maps_of_batches(monkeypatch):
    """A grid of scales of g and of sides, for a batch of three; what is mapped by neither stays shared."""
    args = {k: v if k in ("g", "u") else v[0] for k, v in CASES["feasible"][0].items()}
    values, solve = differentiable(args, qp.Settings())
    calls = []

    def spied(**given):
        calls.append({name: tuple(given[name].shape) for name in ("H", "g", "C", "u")})
        return qp.solve_qp(**given)

    monkeypatch.setattr(qj.layer, "solve_qp", spied)
    scaled = jax.vmap(lambda s, t: solve(values | {"g": s * values["g"], "u": t + values["u"]}), (None, 0))
    sol = jax.vmap(scaled, (0, None))(jnp.asarray([1.0, 2.0]), jnp.asarray([0.0, 0.1, 0.2, 0.3]))
    n, rows = 6, values["u"].shape[-1]
    assert calls == [{"H": (n, n), "g": (24, n), "C": (rows, n), "u": (24, rows)}]
    assert sol.x.shape == (2, 4, 3, n)
    assert sol.status.shape == (2, 4, 3)
    for i, s in enumerate((1.0, 2.0)):
        for k, t in enumerate((0.0, 0.1, 0.2, 0.3)):
            close(sol.x[i, k], qp.solve_qp(**args | {"g": s * args["g"], "u": t + args["u"]}).x, 1e-9)


def test_jacobians_and_gradients_of_each_sample():
    args, _, _ = CASES["feasible"]
    values, solve = differentiable(args, qp.Settings())
    jacobian = jax.jit(jax.jacrev(lambda g: solve({k: v[0] for k, v in values.items()} | {"g": g}).x))(values["g"][0])
    first = {k: v[0] for k, v in args.items()}
    close(jacobian, torch.func.jacrev(lambda g: qp.solve_qp(**first | {"g": g}).x)(first["g"]), 1e-9)
    each = jax.vmap(jax.grad(lambda v: solve(v).x.sum()))(values)
    whole = jax.grad(lambda v: solve(v).x.sum())(values)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-9), each, whole)


def test_only_gradients_that_are_asked_for_are_computed(monkeypatch):
    values, solve = differentiable(CASES["feasible"][0], qp.Settings())
    needed = []
    backward = qj._Backward.__call__
    monkeypatch.setattr(qj._Backward, "__call__", lambda self, *a: needed.append(self.needed) or backward(self, *a))
    for form in (lambda f: f, jax.jit):
        form(jax.grad(lambda g: solve(values | {"g": g}).x.sum()))(values["g"])
    assert needed == [tuple(name == "g" for name in values)] * 2


@pytest.mark.parametrize("case", ["equalities", "box"])
def test_weights_and_numbers(case):
    values, solve = differentiable(HARD_ROWS[case], qp.Settings())
    close(jax.jit(lambda v: solve(v).x)(values), qp.solve_qp(**{"H": None} | HARD_ROWS[case]).x)


def test_float32_by_default():
    jax.config.update("jax_enable_x64", False)
    args = {k: v.float() for k, v in CASES["feasible"][0].items()}
    values, solve = differentiable(args, qp.Settings())
    found = jax.jit(jax.grad(lambda v: loss_of(solve(v), ("x",), jnp)))(values)
    leaves = leaves_of(args)
    loss_of(qp.solve_qp(**leaves), ("x",), torch).backward()
    for name, gradient in found.items():
        assert gradient.dtype == jnp.float32
        close(gradient, leaves[name].grad, 1e-5)  # sums of float32


@pytest.mark.parametrize("form", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_problems_that_fail_have_no_gradient_and_touch_no_other(form):
    values, solve = differentiable(CASES["feasible"][0], qp.Settings())
    broken = values | {"g": values["g"].at[1].set(jnp.nan)}
    gradient = form(jax.grad(lambda v: solve(v).x.sum()))(broken)
    whole = jax.grad(lambda v: jnp.delete(solve(v).x, 1, axis=0).sum())(values)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-9), gradient, whole)
    assert solve(broken).names() == ["SOLVED", "NONFINITE_INPUT", "SOLVED"]


def test_a_problem_that_its_backward_would_solve_has_no_gradient_either():
    """The steps of the backward's solve begin where those of the forward ended."""
    values, _ = differentiable(CASES["feasible"][0], qp.Settings())
    few = qp.Settings(max_iter=5)
    first = qj.solve_qp(**values, settings=few)
    assert (qj.solve_qp(**values, warm_start=first, settings=few).solved & ~first.solved).any()
    gradient = jax.grad(lambda g: qj.solve_qp(**values | {"g": g}, settings=few).x.sum())(values["g"])
    assert not gradient[~first.solved].any()


def test_a_warm_start_goes_through_a_loop():
    args = {"H": jnp.eye(3), "C": jnp.ones((1, 3)), "u": -1.0, "lb": -2.0}
    g = jnp.asarray(np.random.default_rng(0).normal(size=3))

    def step(last, scale):
        sol = qj.solve_qp(g=scale * g, **args, warm_start=last)
        return sol, sol.info.iterations

    first = qj.solve_qp(g=g, **args)
    last, steps = jax.jit(lambda s: jax.lax.scan(step, s, jnp.asarray([1.0, 1.0, 1.001])))(first)
    assert (steps < first.info.iterations).all()
    assert steps[0] == 0
    close(
        last.x,
        qp.solve_qp(
            torch.eye(3).double(), torch.tensor(1.001 * np.array(g)), C=torch.ones(1, 3).double(), u=-1.0, lb=-2.0
        ).x,
        1e-8,
    )


def test_compiled_once():
    values, solve = differentiable(CASES["feasible"][0], qp.Settings())
    traced = []
    fast = jax.jit(lambda v: traced.append(1) or solve(v).x)
    for scale in (1.0, 2.0, 3.0):
        fast(values | {"g": scale * values["g"]})
    assert len(traced) == 1


WRONG = {
    "shape": ({"u": np.ones(4)}, qp.ProblemError, r"u must have shape \(6,\)"),
    "dtype": (
        {"g": np.ones(6, np.int32)},
        TypeError,
        "g must be float32 or float64, not int32: convert it with .astype",
    ),
    "two dtypes": (
        {"u": np.ones(6, np.float32)},
        TypeError,
        "u must be float64, like g, not float32: convert .* .astype",
    ),
    "list": ({"u": [1.0] * 6}, TypeError, "u must be an array of JAX, or a number, not list"),
    "number": ({"C": 1.0}, TypeError, "C must be an array of JAX, not float"),
    "no g": ({"g": None}, TypeError, "g must be an array of JAX, not NoneType"),
    "tensor": ({"u": torch.ones(6)}, TypeError, "u is a torch.Tensor"),
    "backend": ({"backend": "fpga"}, qp.BackendError, "backend 'fpga' is not available"),
    "settings": ({"settings": 1e-6}, qp.SettingsError, "settings must be"),
    "start": ({"warm_start": 1.0}, TypeError, "warm_start must be a Solution"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_calls_raise_while_they_are_traced(case):
    change, error, message = WRONG[case]
    values = arrays(CASES["feasible"][0])
    with pytest.raises(error, match=message):
        jax.eval_shape(lambda g: qj.solve_qp(**values | {"g": g} | change), values["g"])


def test_traced_arrays_outside_of_this_module_are_told_where_to_go():
    with pytest.raises(TypeError, match=r"where JAX traces, call qplayer_gpu\.jax\.solve_qp"):
        jax.jit(lambda g: qp.solve_qp(None, g, lb=0.0).x)(jnp.ones(3))


def test_arrays_of_jax_in_arrays_of_jax_out():
    args, _, _ = CASES["feasible"]
    sol = qp.solve_qp(**arrays(args))
    assert isinstance(sol.x, jax.Array)
    close(sol.x, qp.solve_qp(**args).x, 0)
    assert sol.names() == ["SOLVED"] * 3
    assert str(sol).startswith("Solution of 3 problems")


def test_one_thread_is_refused_as_callbacks_would_wait_for_ever(monkeypatch):
    monkeypatch.setenv("NPROC", "1")
    with pytest.raises(qp.BackendError, match="set NPROC=2"):
        jax.jit(lambda g: qj.solve_qp(None, g, lb=0.0).x)(jnp.ones(3))
