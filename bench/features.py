"""What of PyTorch works with a QP layer: each feature is tried on each layer that is installed, and its answer checked.

    python bench/features.py          # a process for each layer, a table in Markdown
    python bench/features.py qpth     # one layer, here

The problems are boxes, ``minimise 1/2 x'x + g'x`` subject to ``-1 <= x <= 1``, given as rows: ``x = clamp(-g, -1, 1)``.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.autograd.function import once_differentiable
from torch.func import grad, jvp, vmap

N = 3
ACCURACY = 1e-4
SECONDS = 300  # for one layer
Solve = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]  # H, g, C, l, u -> x


def ours() -> Solve:
    """This library."""
    import qplayer_gpu as qp

    return lambda H, g, C, l, u: qp.solve_qp(H, g, C=C, l=l, u=u).x


def proxsuite() -> Solve:
    """QPLayer of proxsuite."""
    from proxsuite.torch.qplayer import QPFunction

    return lambda H, g, C, l, u: QPFunction()(H, g, torch.empty(0), torch.empty(0), C, l, u)[0]


def qpth() -> Solve:
    """The interior point method of qpth."""
    from qpth.qp import QPFunction

    none = torch.empty(0)
    return lambda H, g, C, l, u: QPFunction(verbose=-1)(H, g, *_one_sided(C, l, u), none, none)


def elastiqp() -> Solve:
    """ElastiQP, its gradients as little smoothed as it allows."""
    from elastiqp.torch import solve

    return lambda H, g, C, l, u: solve(H, g, *_one_sided(C, l, u), 1e4, eps_abs=1e-9, target_kappa=1e-9).x


def moreau() -> Solve:
    """Moreau, its solver made anew for each call, as its sizes and its batch are fixed."""
    from moreau import Cones, Settings
    from moreau.torch import Solver

    def solve(H: Tensor, g: Tensor, C: Tensor, l: Tensor, u: Tensor) -> Tensor:
        G, h = _one_sided(C, l, u)
        m, n = G.shape[-2:]
        entries = (
            torch.arange(0, k * n + 1, n) if i == 0 else torch.arange(n).repeat(k) for k in (n, m) for i in (0, 1)
        )
        settings = Settings(batch_size=len(g) if g.dim() > 1 else 1)
        solver = Solver(n, m, *entries, cones=Cones(num_nonneg_cones=m), settings=settings)
        return solver.solve(H.flatten(-2), G.flatten(-2), g, h.expand(*g.shape[:-1], -1)).x

    return solve


def cvxpylayers() -> Solve:
    """A CvxpyLayer with all arrays as parameters, over Moreau."""
    import cvxpy as cp
    from cvxpylayers.torch import CvxpyLayer

    x = cp.Variable(N)
    H, g, C, l, u = cp.Parameter((N, N), PSD=True), *(cp.Parameter(s) for s in (N, (N, N), N, N))
    problem = cp.Problem(cp.Minimize(0.5 * cp.quad_form(x, H) + g @ x), [C @ x >= l, C @ x <= u])
    layer = CvxpyLayer(problem, [H, g, C, l, u], [x], solver="MOREAU")
    return lambda *arrays: layer(*arrays)[0]


def qpax() -> Solve:
    """Qpax of JAX, in an autograd function; its gradients as little smoothed as it allows."""
    from jax import numpy as jnp
    from qpax import solve_qp_primal

    def solve(H, g, C, l, u):
        G, h = jnp.concatenate([C, -C]), jnp.concatenate([u, -l])
        return solve_qp_primal(H, g, C[:0], u[:0], G, h, solver_tol=1e-6, target_kappa=1e-9)

    return _from_jax(solve)


def jaxopt() -> Solve:
    """BoxOSQP of jaxopt, in JAX, in an autograd function."""
    from jaxopt import BoxOSQP

    solver = BoxOSQP(tol=1e-6)
    return _from_jax(lambda H, g, C, l, u: solver.run(None, (H, g), C, (l, u)).params.primal[0])


def _from_jax(one: Callable) -> Solve:
    """A function of one problem in JAX as a function of a batch in torch; an array may be shared."""
    import jax

    take, give = jax.dlpack.from_dlpack, torch.from_dlpack

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *arrays: Tensor) -> Tensor:
            axes = tuple(0 if a.dim() > d else None for a, d in zip(arrays, (2, 1, 2, 1, 1), strict=True))
            batched = jax.vmap(one, in_axes=axes) if 0 in axes else one
            with jax.enable_x64(arrays[0].dtype == torch.float64):
                x, ctx.pullback = jax.vjp(batched, *(take(a.detach().contiguous()) for a in arrays))
            return give(x)

        @staticmethod
        @once_differentiable
        def backward(ctx, grad_x: Tensor) -> tuple[Tensor, ...]:
            with jax.enable_x64(grad_x.dtype == torch.float64):
                return tuple(give(gradient) for gradient in ctx.pullback(take(grad_x.detach().contiguous())))

    return Function.apply


def _one_sided(C: Tensor, l: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cat([C, -C], -2), torch.cat([u, -l], -1)


LAYERS = {
    "qplayer_gpu": ours,
    "proxsuite": proxsuite,
    "qpth": qpth,
    "qpax": qpax,
    "moreau": moreau,
    "elastiqp": elastiqp,
    "cvxpylayers": cvxpylayers,
    "jaxopt": jaxopt,
}


def box(B: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """A batch of boxes: some bounds active, none weakly."""
    g = (1.9 * torch.arange(1, B * N + 1, dtype=torch.float64).sin()).to(dtype).reshape(B, N)
    eye, one = torch.eye(N, dtype=dtype), torch.ones(B, N, dtype=dtype)
    return eye.repeat(B, 1, 1), g, eye.repeat(B, 1, 1), -one, one


def _near(a: Tensor, b: Tensor, accuracy: float = ACCURACY) -> bool:
    return a.shape == b.shape and bool((a.double() - b.double()).abs().max() <= accuracy)


def _right(solve: Solve, B: int) -> bool:
    H, g, C, l, u = box(B)
    g.requires_grad_()
    x = solve(H, g, C, l, u)
    (first,) = torch.autograd.grad(x.sum(), g)
    return _near(x, (-g).clamp(-1, 1)) and _near(first, -(g.abs() < 1).double())


def values_and_gradients(solve: Solve) -> bool:
    """Forward and backward, batched."""
    return _right(solve, 4)


def compiled(solve: Solve) -> bool:
    """torch.compile without graph breaks, forward and backward."""
    return _right(torch.compile(solve, fullgraph=True, backend="aot_eager"), 4)


def no_recompilation(solve: Solve) -> bool:
    """torch.compile: no recompilation for a new batch size after the first."""
    counter = CompileCounterWithBackend("aot_eager")
    call = torch.compile(solve, fullgraph=True, backend=counter)
    return all(_right(call, B) for B in (3, 5, 8, 11)) and counter.frame_count <= 2


def mapped(solve: Solve) -> bool:
    """torch.func.vmap over an unbatched call."""
    H, g, C, l, u = box(4)
    x = vmap(lambda g: solve(H[0], g, C[0], l[0], u[0]))(g)
    return _near(x.reshape(4, N), (-g).clamp(-1, 1))


def functional_gradient(solve: Solve) -> bool:
    """torch.func.grad."""
    H, g, C, l, u = box(4)
    return _near(grad(lambda g: solve(H, g, C, l, u).sum())(g), -(g.abs() < 1).double())


def forward_mode(solve: Solve) -> bool:
    """torch.func.jvp."""
    H, g, C, l, u = box(4)
    return _near(jvp(lambda g: solve(H, g, C, l, u), (g,), (torch.ones_like(g),))[1], -(g.abs() < 1).double())


def second_derivatives(solve: Solve) -> bool:
    """Double backward, of sum x^2 in the size of H."""
    H, g, C, l, u = box(4)
    h = torch.ones((), dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(solve(h * H, g, C, l, u).square().sum(), h, create_graph=True)
    (second,) = torch.autograd.grad(first, h)
    return _near(second, 6 * g[g.abs() < 1].square().sum())  # inside of the box, x = -g / h


def sums(solve: Solve) -> bool:
    """The gradient of a shared parameter is the sum over the batch."""
    H, g, C, l, u = box(4)
    shared = u[0].clone().requires_grad_()
    solve(H, g, C, l[0], shared).sum().backward()
    assert shared.grad is not None
    return _near(shared.grad, (g < -1).double().sum(0))


def single_precision(solve: Solve) -> bool:
    """Float32 in, float32 out."""
    H, g, C, l, u = box(4, torch.float32)
    x = solve(H, g, C, l, u)
    return x.dtype == torch.float32 and _near(x, (-g).clamp(-1, 1), 1e-3)


def autocast(solve: Solve) -> bool:
    """Bfloat16 in a region of torch.autocast."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        H, g, C, l, u = box(4, torch.bfloat16)
        return _near(solve(H, g, C, l, u), (-g).clamp(-1, 1), 1e-2)


def linear_programs(solve: Solve) -> bool:
    """H = 0."""
    H, g, C, l, u = box(4)
    return _near(solve(0 * H, g, C, l, u), -g.sign())


def one_bad_problem(solve: Solve) -> bool:
    """A NaN in one problem raises nothing and leaves the gradients of the others."""
    H, g, C, l, u = box(4)
    g[0] = torch.nan
    g.requires_grad_()
    x = solve(H, g, C, l, u)
    (first,) = torch.autograd.grad(x[1:].sum(), g)
    return _near(x[1:], (-g[1:]).clamp(-1, 1)) and _near(first[1:], -(g[1:].abs() < 1).double())


FEATURES = (
    values_and_gradients,
    compiled,
    no_recompilation,
    mapped,
    functional_gradient,
    forward_mode,
    second_derivatives,
    sums,
    single_precision,
    autocast,
    linear_programs,
    one_bad_problem,
)


def attempt(feature: Callable[[Solve], bool], solve: Solve) -> str:
    """What came of it: yes, wrong, or the kind of error."""
    torch._dynamo.reset()
    try:
        return "yes" if feature(solve) else "wrong"
    except Exception as error:  # whatever a layer raises is its answer
        return f"no ({type(error).__name__})"


def main() -> None:
    """Tries one layer, or all in processes of their own."""
    if len(sys.argv) > 1:
        solve = LAYERS[sys.argv[1]]()
        for feature in FEATURES:
            print(attempt(feature, solve), flush=True)
        return
    columns = {name: column(name) for name in LAYERS}
    print("| feature |", " | ".join(LAYERS), "|\n|---|" + "---|" * len(LAYERS))
    for i, feature in enumerate(FEATURES):
        title = (feature.__doc__ or "").split("\n")[0].rstrip(".")
        print("|", title, "|", " | ".join(cells[i] for cells in columns.values()), "|")


def column(name: str) -> list[str]:
    """What one layer printed, and why it printed no more."""
    command = [sys.executable, __file__, name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        cells, rest = done.stdout.splitlines(), "no (crash)"
        if "ModuleNotFoundError" in done.stderr and not cells:
            rest = "not installed"
    except subprocess.TimeoutExpired as late:
        cells, rest = (late.stdout or b"").decode().splitlines(), "no (hangs)"
    return cells + [rest] * (len(FEATURES) - len(cells))


if __name__ == "__main__":
    main()
