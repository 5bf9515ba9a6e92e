"""What the benchmark asks of a solver."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from ..cases import Case
from ..certificate import Answer
from ..problems import QP


class Adapter(ABC):
    """One solve of a batch of QPs.

    Making one imports the package and converts the data to what it takes; neither is timed, and nor is reading the
    answer. ``forward`` and ``backward`` are.

    Raises:
        ImportError: the package is not installed.
    """

    def __init__(self, qp: QP, gradients: tuple[str, ...], threads: int):
        self.qp = qp
        self.gradients = gradients
        self.threads = threads

    @staticmethod
    @abstractmethod
    def supports(case: Case) -> bool:
        """Whether the solver claims to solve such problems."""

    @staticmethod
    @abstractmethod
    def version() -> str: ...

    @abstractmethod
    def forward(self) -> None: ...

    @abstractmethod
    def answer(self) -> Answer: ...

    def backward(self, grad_x: Tensor) -> None:  # [B, n]
        """From the cotangent of x to the gradients of the arrays asked for."""
        raise NotImplementedError

    def gradient(self, name: str) -> Tensor:
        """Of one array, in its own shape: summed over the batch where it is shared."""
        raise NotImplementedError
