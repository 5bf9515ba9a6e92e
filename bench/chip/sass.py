"""Counts the instructions that a kernel issues, from the machine code in its cubin: an estimate, as nothing is run.

A loop is where control goes back to an instruction that it has passed on every path. It runs as often as its extent
divided by the step of its counter. The step is read from the code, as the constant that the loop adds to a register
that it compares, so that a loop that the compiler has unrolled counts as it should; it is 1 where there are loops
within. The extent is told by the caller for each function of Triton, and the line that the loop's last branch stands
for says which one that is. All else counts once: each side of a branch, and what is left over from an unrolled loop,
also where that is a loop of smaller step. So the count is on the high side. A call counts with all that it calls, but
for those that lead to divisions by tiny numbers.
"""

import ast
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import triton

from qplayer_gpu import kernels

LINE = re.compile(r'//## File "(.*?)", line (\d+)')
LABEL = re.compile(r"(\.L_x_\d+|\$\S+):")
CALL = re.compile(r" `\((\$\S*qplayer_gpu\S*)\)")  # of a function that is not inlined
INSTRUCTION = re.compile(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@(!?U?P\d)\s+)?(\S+)(.*?) ;")
DOUBLE = ("DADD", "DMUL", "DFMA", "DSETP")  # for the units of double precision
COUNTING = re.compile(r" (U?R\d+), (?:U?P\d, )?\1, (-?0x[0-9a-f]+)")


class Instruction(NamedTuple):
    """One line of the machine code."""

    predicate: str  # empty where there is none
    name: str
    operands: str
    file: str
    line: int


def tool(name: str, *options: str, cubin: bytes) -> str:
    """What a tool of Triton's wheel prints of a cubin."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(cubin)
        command = [getattr(triton.knobs.nvidia, name).path, *options, str(file)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


class Code:
    """The instructions of a kernel, with the loops among them."""

    def __init__(self, cubin: bytes):
        self.instructions: list[Instruction] = []
        self.labels: dict[str, int] = {}
        file, line = "", 0
        for text in tool("nvdisasm", "-c", "-g", cubin=cubin).splitlines():
            if match := LINE.search(text):
                file, line = match[1], int(match[2])
            elif match := LABEL.match(text):
                self.labels[match[1]] = len(self.instructions)
            elif match := INSTRUCTION.match(text):
                self.instructions.append(Instruction(match[1] or "", match[2], match[3], file, line))

    def counts(
        self, extents: Mapping[str, float], within_loop: bool, skipped: str = "", first: int = 0
    ) -> tuple[int, int]:
        """Instructions of a warp, and those in double precision; of the code, or of a round of its longest loop.

        ``extents`` says, by function, how far the counter of a loop in it runs; calls of ``skipped`` count without what
        they call; the code begins at ``first``.
        """
        reached, loops = self._loops(first)
        longest = max(loops.values(), key=len) if within_loop else frozenset(reached)
        inner = {last: body for last, body in loops.items() if body < longest or not within_loop}
        often = dict.fromkeys(longest, 1.0)
        for last, trips in self._trips(inner, extents).items():
            for i in inner[last]:
                often[i] *= trips
        total = sum(often.values())
        double = sum(n for i, n in often.items() if self.instructions[i].name.startswith(DOUBLE))
        for i, n in often.items():
            call = CALL.match(self.instructions[i].operands) if self.instructions[i].name.startswith("CALL") else None
            if call and not (skipped and f"_$_{skipped}__" in call[1]):
                called = self.counts(extents, within_loop=False, skipped=skipped, first=self.labels[call[1]])
                total, double = total + n * called[0], double + n * called[1]
        return round(total), round(double)

    def _trips(self, loops: Mapping[int, frozenset[int]], extents: Mapping[str, float]) -> dict[int, float]:
        """How often each loop runs, by its last instruction."""
        outer = {last for last, body in loops.items() if any(other < body for other in loops.values())}
        steps = {last: 1 if last in outer else self._step(body) for last, body in loops.items()}
        found = {last: (function_at(*self.instructions[last][-2:]), step) for last, step in steps.items()}
        if unknown := {name for name, _ in found.values()} - extents.keys():
            raise KeyError(f"there are loops in {unknown}: say how far they run")
        largest = {name: max(step for other, step in found.values() if other == name) for name, _ in found.values()}
        return {
            last: extents[name] / step if step == largest[name] else 1.0  # what is left over
            for last, (name, step) in found.items()
        }

    def _step(self, body: frozenset[int]) -> int:
        """What a loop adds to its counter; 1 where it has none."""
        code = [self.instructions[i] for i in body]
        compared = {r for i in code if "SETP" in i.name for r in re.findall(r"U?R\d+", i.operands)}
        counting = (COUNTING.match(i.operands) for i in code)
        steps = (int(match[2], 16) & 0xFFFFFFFF for match in counting if match and match[1] in compared)
        return min((min(step, (1 << 32) - step) for step in steps), default=1)

    def _next(self, i: int) -> list[int]:
        """Where control may go from an instruction."""
        here = self.instructions[i]
        followed = here.name.startswith("BRA") and here.name != "BRA.DIV"  # the warps of these kernels do not diverge
        to = [self.labels[t] for t in re.findall(r"`\((\.L_x_\d+)\)", here.operands) if followed]
        conditional = here.predicate or re.match(r" !?U?P\d", here.operands)
        ends = here.name.startswith(("BRA", "EXIT", "RET")) and here.name != "BRA.DIV" and not conditional
        return to if ends else [*to, i + 1]

    def _loops(self, first: int) -> tuple[set[int], dict[int, frozenset[int]]]:
        """The instructions that control reaches from the first, and those of each loop among them, by its last.

        A loop ends with a branch back to an instruction that every path to the branch passes. Calls are not followed.
        """
        reached = connected({first}, [first], self._next)
        before: dict[int, list[int]] = {}
        for i in reached:
            for j in self._next(i):
                before.setdefault(j, []).append(i)
        loops = {}
        for j, i in ((j, i) for j, sources in before.items() for i in sources if i >= j):
            body = connected({i, j}, [i] * (i != j), before.__getitem__)
            if first not in body - {j}:
                loops[i] = frozenset(body)
        return reached, loops


def connected(found: set[int], waiting: list[int], edges: Callable[[int], Iterable[int]]) -> set[int]:
    """What was found, and all to which the edges lead from what waits."""
    while waiting:
        new = set(edges(waiting.pop())) - found
        found |= new
        waiting += new
    return found


@cache
def function_at(file: str, line: int) -> str:
    """The function of the kernels that a line of a file is in; empty for what is not of them."""
    path = Path(kernels.__file__).with_name("triton") / Path(file).name  # the cache may hold code of another checkout
    tree = ast.parse(path.read_text() if path.exists() else "")
    found = (f for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) and f.lineno <= line <= (f.end_lineno or 0))
    return next((f.name for f in found), "")
