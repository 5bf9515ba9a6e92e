"""What the benchmark asks of a solver."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
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

    package: str
    devices: tuple[str, ...] = ("cpu",)
    differentiable = True
    infeasible = True  # whether it is asked for answers to infeasible problems
    single = True  # whether it takes float32
    averages = False  # whether gradients of shared arrays are means over the batch: they are multiplied by its size
    on_stream = True  # on a GPU: whether its work is on PyTorch's current stream
    seconds: float | None = None  # of the last forward, where not the clock but the solver says

    def __init__(self, task: Task):
        self.task, self.qp = task, task.qp
        self.leaves = {k: v.clone().requires_grad_(k in task.gradients) for k, v in self.qp.arrays().items()}
        with torch.enable_grad():
            self.converted = self.convert(self.leaves)
        self.native = {k: v.detach().clone().requires_grad_(v.requires_grad) for k, v in self.converted.items()}

    @classmethod
    def objection(cls, task: Task) -> str:
        """Why the solver is not asked to solve such problems, empty where it is."""
        if not (task.feasible or cls.infeasible):
            return "feasible problems only"
        return "" if cls.single or task.qp.g.dtype == torch.float64 else "float64 only"

    @classmethod
    def version(cls) -> str:
        return version(cls.package)

    def convert(self, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
        """The arrays as the solver takes them."""
        return leaves

    def solve(self) -> Tensor:
        """The x of the native arrays, as torch differentiates it; keeps what the answer needs."""
        raise NotImplementedError

    def forward(self, differentiable: bool) -> None:
        """Solves, and where it shall be differentiable keeps what the backward needs."""
        with torch.set_grad_enabled(differentiable):
            self.x = self.solve()

    @abstractmethod
    def answer(self) -> Answer: ...

    def backward(self, grad_x: Tensor) -> None:  # [B, n]
        """From the cotangent of x to the gradients of the native arrays."""
        self.x.backward(grad_x)

    def shares(self, name: str) -> bool:
        """Whether one native array stands for all problems."""
        return self.native[name].dim() == 1 + (name in "HPACG")

    def problems(self) -> list[dict[str, np.ndarray]]:
        """The native arrays of each problem, on the host."""
        arrays = {name: array.contiguous().numpy() for name, array in self.native.items()}
        return [{k: v if self.shares(k) else v[i] for k, v in arrays.items()} for i in range(self.qp.batch)]

    def native_gradient(self, name: str) -> Tensor | None:
        """Of one native array, in its own shape: summed over the batch where it is shared."""
        found = self.native[name].grad
        return found * self.qp.batch if self.averages and self.shares(name) and found is not None else found

    def gradient(self, name: str) -> Tensor:
        """Of one array of the QP, in its own shape."""
        leaf = self.leaves[name]
        found = ((v, self.native_gradient(k)) for k, v in self.converted.items() if v.requires_grad)
        pulled = [
            torch.autograd.grad(array, leaf, gradient.to(array), retain_graph=True, allow_unused=True)[0]
            for array, gradient in found
            if gradient is not None
        ]
        return sum((p for p in pulled if p is not None), torch.zeros_like(leaf))

    def clear(self) -> None:
        """Drops the gradients of the last backward."""
        for array in self.native.values():
            array.grad = None


def numpy(*tensors: Tensor) -> list:
    """As arrays of float64 on the host."""
    return [t.detach().double().cpu().numpy() for t in tensors]
