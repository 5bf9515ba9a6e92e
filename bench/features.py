"""What of PyTorch works with a QP layer: each feature is tried on each layer that is installed, and its answer checked.

    python -m bench.features          # a process for each layer, into results/features.csv
    python -m bench.features qpth     # one layer, here

The problems are boxes, ``minimise 1/2 x'x + g'x`` subject to ``-1 <= x <= 1``, given as rows: ``x = clamp(-g, -1, 1)``.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.autograd.function import once_differentiable
from torch.func import grad, jvp, vmap

from .table import write

FILE = Path(__file__).parent / "results" / "features.csv"  # the rows of the table in docs/pytorch.md
N = 3
ACCURACY = 1e-4
SECONDS = 300  # for one layer
Solve = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]  # H, g, C, l, u -> x


def qplayer_gpu() -> Solve:
    """The layer of this library."""
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
        entries = (x for k in (n, m) for x in (torch.arange(0, k * n + 1, n), torch.arange(n).repeat(k)))
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
    layer.__name__: layer for layer in (qplayer_gpu, proxsuite, qpth, qpax, moreau, elastiqp, cvxpylayers, jaxopt)
}


def box(B: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """A batch of boxes: some bounds active, none weakly."""
    g = (1.9 * torch.arange(1, B * N + 1, dtype=torch.float64).sin()).to(dtype).reshape(B, N)
    eye, one = torch.eye(N, dtype=dtype), torch.ones(B, N, dtype=dtype)
    return eye.repeat(B, 1, 1), g, eye.repeat(B, 1, 1), -one, one


H, G, C, L, U = box(4)
X, SLOPE = (-G).clamp(-1, 1), -(G.abs() < 1).double()  # the answer, and its derivatives with respect to g


def near(a: Tensor, b: Tensor, accuracy: float = ACCURACY) -> bool:
    """Whether the two are the same in shape and dtype and to four digits."""
    return a.shape == b.shape and a.dtype == b.dtype and bool((a - b).abs().max() <= accuracy)


def right(solve: Solve, B: int = 4) -> bool:
    """Whether a batch has the right answers and gradients."""
    H, g, C, l, u = box(B)
    x = solve(H, g.requires_grad_(), C, l, u)
    (first,) = torch.autograd.grad(x.sum(), g)
    return near(x, (-g).clamp(-1, 1)) and near(first, -(g.abs() < 1).double())


def recompiled_once(solve: Solve) -> bool:
    """Whether a second batch size is the last for which it is compiled."""
    counter = CompileCounterWithBackend("aot_eager")
    call = torch.compile(solve, fullgraph=True, backend=counter)
    return all(right(call, B) for B in (3, 5, 8, 11)) and counter.frame_count <= 2


def second_derivatives(solve: Solve) -> bool:
    """Whether the second derivative of sum x^2 is right: with H = h I, x is -g / h inside of the box."""
    h = torch.ones((), dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(solve(h * H, G, C, L, U).square().sum(), h, create_graph=True)
    (second,) = torch.autograd.grad(first, h)
    return near(second, 6 * G[G.abs() < 1].square().sum())


def sums(solve: Solve) -> bool:
    """Whether the gradient of an upper bound that the batch shares is the sum over the problems where it is active."""
    shared = U[0].clone().requires_grad_()
    (first,) = torch.autograd.grad(solve(H, G, C, L[0], shared).sum(), shared)
    return near(first, (G < -1).double().sum(0))


def one_bad_problem(solve: Solve) -> bool:
    """Whether a NaN in the first problem leaves the answers and gradients of the others right."""
    g = torch.cat([torch.full_like(G[:1], torch.nan), G[1:]]).requires_grad_()
    x = solve(H, g, C, L, U)
    (first,) = torch.autograd.grad(x[1:].sum(), g)
    return near(x[1:], X[1:]) and near(first[1:], SLOPE[1:])


FEATURES: dict[str, Callable[[Solve], bool]] = {
    "Forward and backward, batched": right,
    "torch.compile without graph breaks, forward and backward": lambda solve: right(
        torch.compile(solve, fullgraph=True, backend="aot_eager")
    ),
    "torch.compile: no recompilation for a new batch size after the first": recompiled_once,
    "torch.func.vmap over an unbatched call": lambda solve: near(
        vmap(lambda g: solve(H[0], g, C[0], L[0], U[0]))(G).reshape(4, N), X
    ),
    "torch.func.grad": lambda solve: near(grad(lambda g: solve(H, g, C, L, U).sum())(G), SLOPE),
    "torch.func.jvp": lambda solve: near(jvp(lambda g: solve(H, g, C, L, U), (G,), (U,))[1], SLOPE),
    "Double backward, of sum x^2 in the size of H": second_derivatives,
    "The gradient of a shared parameter is the sum over the batch": sums,
    "Float32 in, float32 out": lambda solve: near(solve(*box(4, torch.float32)), X.float(), 1e-3),
    "Bfloat16 in a region of torch.autocast": lambda solve: near(
        torch.autocast("cpu", dtype=torch.bfloat16)(solve)(*box(4, torch.bfloat16)).double(), X, 1e-2
    ),
    "H = 0": lambda solve: near(solve(0 * H, G, C, L, U), -G.sign()),
    "A NaN in one problem raises nothing and leaves the gradients of the others": one_bad_problem,
}


def attempt(feature: Callable[[Solve], bool], solve: Solve) -> str:
    """How a feature works with a layer: "yes", "wrong", or "no" with the kind of error."""
    torch._dynamo.reset()
    try:
        return "yes" if feature(solve) else "wrong"
    except Exception as error:  # whatever a layer raises is its answer
        return f"no ({type(error).__name__})"


def column(name: str) -> list[str]:
    """The results of one layer, tried in a process of its own; those missing say how that process ended."""
    command = [sys.executable, "-m", "bench.features", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        cells, rest = done.stdout.splitlines(), "no (crash)"
        if "ModuleNotFoundError" in done.stderr and not cells:
            rest = "not installed"
    except subprocess.TimeoutExpired as late:
        cells, rest = (late.stdout or b"").decode().splitlines(), "no (hangs)"
    return cells + [rest] * (len(FEATURES) - len(cells))


def main() -> None:
    """Tries the layer that is named and prints its results, or tries all layers and writes the table."""
    if len(sys.argv) > 1:
        solve = LAYERS[sys.argv[1]]()
        for feature in FEATURES.values():
            print(attempt(feature, solve), flush=True)
    else:
        rows = zip(FEATURES, *map(column, LAYERS), strict=True)
        columns = ("feature", *LAYERS)
        write(FILE, columns, (dict(zip(columns, row, strict=True)) for row in rows))


if __name__ == "__main__":
    main()
