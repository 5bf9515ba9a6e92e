"""``solve_qp`` in JAX, with ``grad``, ``vmap`` and ``jit``: ``pip install 'qplayer_gpu[jax]'``.

The same kernels solve the same rows: outside of ``jit`` on the arrays where they lie, by DLPack; in functions that JAX
traces on the host, by ``jax.pure_callback``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import Array
from jax.custom_derivatives import SymbolicZero
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from . import backend as backends
from . import layer
from .errors import BackendError, ProblemTypeError
from .problem import MATRICES, QP, Number, Sizes, sizes_of
from .settings import Settings
from .solution import Info, Solution

DTYPES = {"float32": torch.float32, "float64": torch.float64}
VECTORS = ("x", "y", "z", "z_box", "s_eq", "s_in", "s_box")  # what is differentiable

for record in (Info, Solution):
    jax.tree_util.register_dataclass(record, [field.name for field in fields(record)], [])


def solve_qp(
    H: Array | None,
    g: Array,
    A: Array | None = None,
    b: Array | Number | None = None,
    *,
    C: Array | None = None,
    l: Array | Number | None = None,
    u: Array | Number | None = None,
    lb: Array | Number | None = None,
    ub: Array | Number | None = None,
    w_eq: Array | Number | None = None,
    w_in: Array | Number | None = None,
    w_box: Array | Number | None = None,
    warm_start: Solution[Array] | None = None,
    settings: Settings | None = None,
    backend: str = "auto",
) -> Solution[Array]:
    """:func:`qplayer_gpu.solve_qp` of arrays of JAX, whose answer JAX differentiates, maps and compiles.

    Arguments, shapes and answers are the same, and so are the gradients, which are reverse-mode: ``grad``, ``vjp``,
    ``jacrev``. Under ``vmap`` all mapped problems are solved in one batch; an argument that is not mapped stays shared,
    but its gradient is summed by JAX, after one for each problem: where memory is short, give batches as such.
    The status and the Newton steps are int32. Settings and backend are static under ``jit``.

    Raises:
        ProblemError: shapes or dtypes do not fit; while tracing, where they are known.
        BackendError: as there. What is raised while solving under ``jit`` comes out as an error of JAX.
    """
    arguments: tuple[Any, ...] = (H, g, A, b, C, l, u, lb, ub, w_eq, w_in, w_box)
    given = QP(*arguments)
    settings = layer.checked(settings)
    backends.check(backend)
    arrays = {name: value for name, value in given._asdict().items() if _is_array(name, value)}
    stand_ins = {name: _stand_in(name, array, g) for name, array in arrays.items()}
    sizes = sizes_of(given._replace(**stand_ins))
    numbers = tuple((name, v) for name, v in given._asdict().items() if v is not None and name not in arrays)
    own = tuple((name, array.ndim) for name, array in arrays.items())
    call = _Call(sizes, own, numbers, settings, backend)
    start = () if warm_start is None else _starting(warm_start, sizes)
    return _solve(call, tuple(map(jnp.asarray, arrays.values())), start)


def _is_array(name: str, value: Any) -> bool:
    """Whether an argument is an array; else it is absent or a number.

    Raises:
        ProblemTypeError: it is none of these, or may not be.
    """
    is_vector = name not in (*MATRICES, "g")
    if isinstance(value, Tensor):
        raise ProblemTypeError(f"{name} is a torch.Tensor: take arrays of JAX, or call qplayer_gpu.solve_qp")
    if isinstance(value, (Array, np.ndarray)):
        return True
    is_absent, is_number = value is None and name != "g", isinstance(value, Real) and is_vector
    if not is_absent and not is_number:
        number = ", or a number" if is_vector else ""
        raise ProblemTypeError(f"{name} must be an array of JAX{number}, not {type(value).__name__}")
    return False


def _stand_in(name: str, array: Any, g: Any) -> Tensor:
    """A tensor of the shape and the dtype of an array, without its memory, to be checked.

    Raises:
        ProblemTypeError: the dtype is no such one, or not that of g.
    """
    like_g = str(g.dtype) in DTYPES and array is not g
    if str(array.dtype) not in DTYPES or (like_g and array.dtype != g.dtype):
        wanted = f"{g.dtype}, like g" if like_g else "float32 or float64"
        raise ProblemTypeError(f"{name} must be {wanted}, not {array.dtype}: convert it with .astype()")
    return torch.zeros((), dtype=DTYPES[str(array.dtype)]).expand(array.shape)


def _starting(start: Solution[Array], sizes: Sizes) -> tuple[Array, ...]:
    if not isinstance(start, Solution):
        raise ProblemTypeError(f"warm_start must be a Solution, not {type(start).__name__}")
    vectors = tuple(getattr(start, name) for name in VECTORS)
    stand_ins = [_stand_in("warm_start", vector, vector) for vector in vectors]
    _solution(stand_ins, None, None).vectors("warm_start", sizes, torch.device("cpu"))
    return vectors


def _solution(vectors: Sequence[Any], status: Any, info: Any) -> Solution[Any]:
    return Solution(**dict(zip(VECTORS, vectors, strict=True)), status=status, info=info)


@dataclass(frozen=True)
class _Call:
    """All of a call but its arrays; what JAX holds as static, and compares."""

    sizes: Sizes
    own: tuple[tuple[str, int], ...]  # the names of the arrays, and how many dimensions each has of its own
    numbers: tuple[tuple[str, Number], ...]
    settings: Settings
    backend: str

    def results(self, dtype: Any) -> list[jax.ShapeDtypeStruct]:
        """The shapes of :meth:`solve` where nothing is mapped."""
        n, n_eq, n_in = self.sizes.n, self.sizes.n_eq, self.sizes.n_in
        vectors = [jax.ShapeDtypeStruct((*self.batch, k), dtype) for k in (n, n_eq, n_in, n, n_eq, n_in, n)]
        counts, residuals = (jax.ShapeDtypeStruct(self.batch, kind) for kind in (jnp.int32, dtype))
        return [*vectors, counts, counts, residuals, residuals, residuals]

    @property
    def batch(self) -> tuple[int, ...]:
        return () if self.sizes.batch is None else (self.sizes.batch,)

    def lead(self, tensors: Sequence[Tensor], *vectors: Tensor) -> tuple[int, ...]:
        """The dimensions that vmap has put before those of the arrays, and of vectors of the answer."""
        own = [*(d for _, d in self.own), *(1 + len(self.batch) for _ in vectors)]
        return torch.broadcast_shapes(*(t.shape[: t.dim() - d] for t, d in zip((*tensors, *vectors), own, strict=True)))

    def solve(self, tensors: Sequence[Tensor], start: Sequence[Tensor], lead: tuple[int, ...]) -> list[Tensor]:
        """The vectors, the status and the info, with all that is mapped as one batch inside."""
        given: dict[str, Any] = dict.fromkeys(QP._fields) | dict(self.numbers)
        for (name, _), t in zip(self.own, tensors, strict=True):
            merge = self._merged if name == "g" else self._shared  # g says how many problems there are
            given[name] = merge(t, 2 if name in MATRICES else 1, lead)
        if start:
            given["warm_start"] = _solution([self._merged(t, 1, lead) for t in start], None, None)
        solution = layer.solve_qp(**given, settings=self.settings, backend=self.backend)
        front = (*lead, *self.batch)
        vectors = [getattr(solution, name) for name in VECTORS]
        info = vars(solution.info).values()
        scalars = [t if t.is_floating_point() else t.int() for t in (solution.status, *info)]
        return [*(t.reshape(*front, t.shape[-1]) for t in vectors), *(t.reshape(front) for t in scalars)]

    def _merged(self, t: Tensor, dimensions: int, lead: tuple[int, ...]) -> Tensor:
        """With one batch dimension for all that is mapped."""
        if not lead:
            return t
        shape, whole = t.shape[-dimensions:], torch.Size((*lead, *(self.batch or (1,))))
        t = t if t.dim() > len(lead) + dimensions else t.unsqueeze(-1 - dimensions)
        return t.expand(*whole, *shape).reshape(whole.numel(), *shape)

    def _shared(self, t: Tensor, dimensions: int, lead: tuple[int, ...]) -> Tensor:
        """Without a batch dimension where all problems have the same, else as above."""
        is_one = bool(lead) and t.shape[:-dimensions].numel() == 1
        return t.reshape(t.shape[-dimensions:]) if is_one else self._merged(t, dimensions, lead)


@dataclass(frozen=True)
class _Forward:
    call: _Call

    @torch.no_grad()
    def __call__(self, tensors: Sequence[Tensor], start: Sequence[Tensor]) -> list[Tensor]:
        return self.call.solve(tensors, start, self.call.lead(tensors, *start))


@dataclass(frozen=True)
class _Backward:
    """The gradients of those arrays that need one; the solve begins at the answer, with next to nothing left to do."""

    call: _Call
    needed: tuple[bool, ...]

    @torch.enable_grad()
    def __call__(self, tensors: Sequence[Tensor], answer: Sequence[Tensor], grads: Sequence[Tensor]) -> list[Tensor]:
        lead = self.call.lead(tensors, *answer, *grads)
        whole = [t.expand(*lead, *t.shape[len(lead) :]).detach() for t in tensors]
        leaves = [t.requires_grad_() for t, need in zip(whole, self.needed, strict=True) if need]
        outputs = self.call.solve(whole, answer, lead)[: len(VECTORS)]
        pairs = [(t, grad.expand_as(t)) for t, grad in zip(outputs, grads, strict=True) if t.requires_grad]
        reached, pulled = zip(*pairs, strict=True)
        return list(torch.autograd.grad(reached, leaves, pulled, allow_unused=True, materialize_grads=True))


@dataclass(frozen=True)
class _OnHost:
    """A function of tensors as one of arrays on the CPU."""

    function: _Forward | _Backward

    def __call__(self, *operands: Any) -> list[Any]:
        return [t.numpy() for t in self.function(*jax.tree.map(from_dlpack, operands))]


def _run(function: _Forward | _Backward, results: list[jax.ShapeDtypeStruct], *operands: Any) -> list[Array]:
    """Where the arrays lie, or, where JAX traces them, on the host."""
    if any(isinstance(array, jax.core.Tracer) for array in jax.tree.leaves(operands)):
        _check_threads()
        return jax.pure_callback(_OnHost(function), results, *operands, vmap_method="expand_dims")
    return [jnp.from_dlpack(t.contiguous()) for t in function(*jax.tree.map(from_dlpack, operands))]


def _check_threads() -> None:
    """On its only thread JAX would wait for ever for the arrays of a callback (seen in 0.10.2).

    Raises:
        BackendError: it has no other.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if int(os.environ.get("NPROC", cores)) < 2:
        raise BackendError("JAX has one thread here and its callbacks need two: set NPROC=2 before JAX starts")


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _solve(call: _Call, arrays: tuple[Array, ...], start: tuple[Array, ...]) -> Solution[Array]:
    *vectors, status, iterations, primal, dual, gap = _run(_Forward(call), call.results(arrays[0].dtype), arrays, start)
    return _solution(vectors, status, Info(iterations, primal, dual, gap))


def _forward(call: _Call, arrays: Any, start: Any) -> tuple[Solution[Array], Any]:
    needed = tuple(() if array.perturbed else None for array in arrays)  # in the structure, as values are traced
    values, begun = (tuple(array.value for array in part) for part in (arrays, start))
    solution = _solve(call, values, begun)
    return solution, (needed, values, begun, solution)


def _backward(call: _Call, kept: Any, grads: Any) -> tuple[Any, Any]:
    needed, arrays, start, solution = kept
    wanted = tuple(need is not None for need in needed)
    vectors, cotangents = ([getattr(of, name) for name in VECTORS] for of in (solution, grads))
    cotangents = [jnp.zeros(t.shape, t.dtype) if isinstance(t, SymbolicZero) else t for t in cotangents]
    if not call.settings.gradient_on_failure:
        cotangents = [jnp.where(solution.solved[..., None], t, 0) for t in cotangents]
    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a, want in zip(arrays, wanted, strict=True) if want]
    found = iter(_run(_Backward(call, wanted), shapes, arrays, vectors, cotangents))
    return tuple(next(found) if want else None for want in wanted), (None,) * len(start)


_solve.defvjp(_forward, _backward, symbolic_zeros=True)
