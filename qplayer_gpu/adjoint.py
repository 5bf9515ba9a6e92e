"""Parameter gradients from the adjoint vectors: outer products, summed over the batch for a shared parameter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from .kernels.interface import Adjoint, Answer, Kernels, Seeds, Status
from .problem import Parameters, Problem
from .settings import Settings


def gradients(
    parameters: Parameters,
    needed: Sequence[bool],
    problem: Problem,
    answer: Answer,
    seeds: Seeds,
    settings: Settings,
    kernels: Kernels,
) -> list[Tensor | None]:
    """The gradient of each parameter that needs one, in its shape and dtype; zero where a problem was not solved."""
    solved = answer.status <= Status.SOLVED_CLOSEST_FEASIBLE
    if settings.gradient_on_failure:
        solved = answer.x.isfinite().all(-1)
    x, z, s = (_where(solved, t) for t in (answer.x, answer.z, answer.s))
    answer = replace(answer, x=x, z=z, s=s)
    seeds = Seeds(*(_where(solved, t) for t in (seeds.x, seeds.z, seeds.s)))
    adjoint = kernels.adjoint(problem.rows, answer, seeds, settings.options(problem.dtype))
    return [
        _gradient(name, parameter, problem, answer, adjoint) if need and parameter is not None else None
        for name, parameter, need in zip(Parameters._fields, parameters, needed, strict=True)
    ]


def _where(solved: Tensor, t: Tensor) -> Tensor:
    return torch.where(solved.unsqueeze(-1), t, 0.0)


def _gradient(name: str, parameter: Tensor, problem: Problem, answer: Answer, adjoint: Adjoint) -> Tensor:
    rows = problem.rows
    part = {"A": slice(0, rows.n_eq), "C": slice(rows.n_eq, rows.n_eq + rows.n_in)}
    part |= {"b": part["A"], "l": part["C"], "u": part["C"]}
    part |= dict.fromkeys(("lb", "ub"), slice(rows.n_eq + rows.n_in, rows.m))
    if name == "H":
        halves = 0.5 * torch.stack([adjoint.b_x, answer.x], 1)
        return _outer(halves, halves.flip(1) * 2, parameter)
    if name == "g":
        return _vector(-adjoint.b_x, parameter)
    if name in ("A", "C"):
        left = torch.stack([adjoint.z, adjoint.p, adjoint.ws, -adjoint.q_z], 1)[..., part[name]]
        right = torch.stack([adjoint.b_x, answer.x, adjoint.b_s, adjoint.b_z], 1)
        terms = 4 if (answer.status == Status.SOLVED_CLOSEST_FEASIBLE).any() else 2
        return _outer(left[:, :terms], right[:, :terms], parameter)
    p = adjoint.p if name == "b" else adjoint.p * _share(name, problem, answer, adjoint)
    return _vector(p[..., part[name]], parameter)


def _share(name: str, problem: Problem, answer: Answer, adjoint: Adjoint) -> Tensor:
    """How much of a row's gradient its side takes: all where it is the active side, half where lo = hi."""
    upper = torch.where(adjoint.ws != 0, adjoint.ws, answer.z) > 0
    active = upper if name in ("u", "ub") else ~upper
    return torch.where(problem.rows.lo == problem.rows.hi, 0.5, active.to(answer.z.dtype))


def _outer(left: Tensor, right: Tensor, parameter: Tensor) -> Tensor:
    """``-sum_r left_r right_r'``, for a shared parameter summed over the batch by one matrix product."""
    if parameter.dim() == 3 and parameter.shape[0] == len(left):
        gradient = left.mT @ right
    else:
        gradient = left.flatten(0, 1).mT @ right.flatten(0, 1)
    return -gradient.reshape(parameter.shape).to(parameter.dtype)


def _vector(gradient: Tensor, parameter: Tensor) -> Tensor:
    if parameter.dim() == 1 or parameter.shape[0] != len(gradient):
        gradient = gradient.sum(0)
    return gradient.reshape(parameter.shape).to(parameter.dtype)
