"""What the benchmark asks of a solver."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from ..certificate import Answer
from ..problems import QP

LADDER = (1e-6, 1e-8, 1e-10)  # what a solver is asked for, until its answers are what all have to reach


@dataclass(frozen=True)
class Task:
    """A batch of QPs, the arrays whose gradients are asked for, and what the solver is told."""

    qp: QP
    gradients: tuple[str, ...]
    accuracy: float
    feasible: bool = True


class Adapter(ABC):
    """Solves one batch of QPs, over and over.

    Making one imports the package and converts the data to what it takes, the *native* arrays; neither is timed, and
    nor is reading the answer. ``forward`` and ``backward`` are. The conversion is differentiable, so that gradients of
    the native arrays are pulled back to those of the QP.

    Raises:
        ImportError: the package is not installed.
    """

    devices: tuple[str, ...] = ("cpu",)
    differentiable = True
    ladder = LADDER
    on_stream = True  # on a GPU: whether its work is on PyTorch's current stream

    def __init__(self, task: Task):
        self.task, self.qp = task, task.qp
        self.leaves = {k: v.clone().requires_grad_(k in task.gradients) for k, v in self.qp.arrays().items()}
        with torch.enable_grad():
            self.converted = self.convert(self.leaves)
        self.native = {k: v.detach().clone().requires_grad_(v.requires_grad) for k, v in self.converted.items()}

    @staticmethod
    def objection(task: Task) -> str:
        """Why the solver is not asked to solve such problems, empty where it is."""
        return ""

    @staticmethod
    @abstractmethod
    def version() -> str: ...

    def convert(self, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
        """The arrays as the solver takes them."""
        return leaves

    @abstractmethod
    def forward(self, differentiable: bool) -> None:
        """Solves, and where it shall be differentiable keeps what the backward needs."""

    @abstractmethod
    def answer(self) -> Answer: ...

    def backward(self, grad_x: Tensor) -> None:  # [B, n]
        """From the cotangent of x to the gradients of the native arrays."""
        raise NotImplementedError

    def native_gradient(self, name: str) -> Tensor | None:
        """Of one native array, in its own shape: summed over the batch where it is shared."""
        return self.native[name].grad

    def gradient(self, name: str) -> Tensor:
        """Of one array of the QP, in its own shape."""
        leaf = self.leaves[name]
        found = {k: self.native_gradient(k) for k, v in self.converted.items() if v.requires_grad}
        pairs = [(self.converted[k], gradient) for k, gradient in found.items() if gradient is not None]
        pulled = [
            torch.autograd.grad(array, leaf, gradient.to(array), retain_graph=True, allow_unused=True)[0]
            for array, gradient in pairs
        ]
        return sum((p for p in pulled if p is not None), torch.zeros_like(leaf))

    def clear(self) -> None:
        """Drops the gradients of the last backward."""
        for array in self.native.values():
            array.grad = None


def numpy(*tensors: Tensor) -> list:
    """As arrays of float64 on the host."""
    return [t.detach().double().cpu().numpy() for t in tensors]


def below(*parts: tuple[Tensor, int]) -> Tensor:
    """The parts, each with its number of dimensions, below each other; batched where one of them is."""
    batch = max((part.shape[0] for part, dim in parts if part.dim() > dim), default=0)
    at = -parts[0][1]
    if not batch:
        return torch.cat([part for part, _ in parts], at)
    return torch.cat([part.expand(batch, *part.shape[part.dim() - dim :]) for part, dim in parts], at)
