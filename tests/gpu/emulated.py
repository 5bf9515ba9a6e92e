"""What was launched on the emulator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .opcodes import Site
from .program import Finding, Program

FORWARD, BACKWARD, RANDOM = range(3)  # orders of threads; larger ones are random too


@dataclass
class Launch:
    """A launch, as it was run."""

    kernel: str
    blocks: int
    threads: int
    shared: int
    counts: Counter[tuple[str, str]]
    cycles: float


@dataclass
class Emulation:
    """Runs launches in an order of threads, and keeps what is found."""

    order: int = 0
    removed: Callable[[Site], bool] = lambda site: False  # of barriers
    findings: list[Finding] = field(default_factory=list)
    launches: list[Launch] = field(default_factory=list)

    def run(
        self,
        program: Program,
        kernel: str,
        blocks: int,
        threads: int,
        arguments: Sequence[bytes],
        memory: Sequence[tuple[int, int]],
        shared: int,
    ) -> int:
        """Runs a launch: 1, or 0 where it has ended early."""
        run = program.launch(kernel, blocks, threads, arguments, memory, shared, self.order, self.removed)
        self.findings += run.findings
        self.launches.append(Launch(kernel, blocks, threads, shared, Counter(run.counts), run.cycles))
        return int(run.ended)
