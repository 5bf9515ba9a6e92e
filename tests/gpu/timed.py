"""The emulator with a clock: translated PTX that also keeps when each instruction issues (timing.h has the rules)."""

from __future__ import annotations

import ctypes
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import reduce

from .opcodes import Instruction, identifier
from .program import SPACES, VERBS, Program, machine
from .ptx import Function, Variable
from .translate import Writer

UNITS = (
    "integer",  # and all else
    "double",
    "product",  # of matrices
    "division",  # and roots, but for approximate ones
    "approximate",
    "shuffle",  # votes and reductions too
    "barrier",
    "warp_barrier",
    "shared",
    "local",
    "global",
)
TOGETHER = {"shfl": "shuffle", "vote": "shuffle", "redux": "shuffle", "mma": "product"}
BARRIERS = {"bar.sync": "barrier", "bar.warp.sync": "warp_barrier"}
COPIES = ("mov", "neg", "abs", "cvta")  # another name of a register, or a modifier of an operand
OF_DIVISION = 12  # instructions of the machine, but for rare cases
COUNTED = ("instructions", "double", "product", "division", "accesses")
MOST_UNITS = 16  # as in timing.h
NAME = re.compile(r"%[\w$]+")


def unit_of(opcode: str) -> str:
    """What executes an instruction that is not an access to memory."""
    name, *modifiers = opcode.split(".")
    if opcode in BARRIERS:
        return BARRIERS[opcode]
    if name in TOGETHER:
        return TOGETHER[name]
    if name in ("rcp", "sqrt", "rsqrt", "div", "ex2", "lg2") and modifiers[-1] in ("f64", "f32"):
        return "approximate" if "approx" in modifiers or modifiers[-1] == "f32" else "division"
    arithmetic = ("add", "sub", "mul", "fma", "min", "max", "setp", "cvt")
    return "double" if "f64" in modifiers and name in arithmetic else "integer"


def slots_of(opcode: str) -> int:
    """The instructions of the machine that stand for one of PTX."""
    name, *modifiers = opcode.split(".")
    if name in COPIES or "param" in modifiers:
        return 0
    if unit_of(opcode) == "division":
        return OF_DIVISION
    is_wide = bool(modifiers) and modifiers[-1] in ("s64", "u64", "b64", "f64")
    return 2 if is_wide and unit_of(opcode) == "integer" and name not in VERBS else 1


class TimedWriter(Writer):
    """Writes a module with its times."""

    def body(self, function: Function) -> str:
        registers = [v for v in function.body if isinstance(v, Variable) and v.space == "reg"]
        text = super().body(function)
        head, opened, rest = text.partition("{\n")
        names = ", ".join(f"{name} = 0" for name in dict.fromkeys(when(v.name) for v in registers))
        return f"{head}{opened}{f'double {names};' if names else ''}\n{rest}"

    def begin_block(self) -> str:
        return f"{super().begin_block()} t.times.go_on();"

    def guarded(self, i: Instruction) -> str:
        text, name = super().guarded(i), i.opcode.split(".")[0]
        targets, sources = self.parts(i, name)
        ready, slots = self.ready(i, sources), slots_of(i.opcode)
        if name in COPIES:
            return " ".join([text, *(f"{when(r)} = {ready};" for r in targets)])
        if name in ("bra", "ret", "call"):
            before, after = "t.times.go_on();", "t.times.go_on();" * (name == "call")
        elif name == "bar":
            before, after = "t.times.arrive();", "t.times.leave(unit);"
        else:
            before, after = "", " ".join(f"{when(r)} = t.times.result(unit);" for r in targets)
        if name in TOGETHER:
            before, after = "t.times.bring();", f"t.times.take(); {after}"
        if name in VERBS and name != "ld" and "param" not in i.opcode:
            after += " t.times.stored = t.times.at;"
        issued = f"const int unit = {self.unit(i, name)}; t.times.issue(unit, {ready}, {slots});"
        return f"{{ {issued} {before} {text} {after} }}"

    def parts(self, i: Instruction, name: str) -> tuple[list[str], list[str]]:
        """The registers that an instruction writes, and those that it reads."""
        has_target = name not in ("st", "bar", "red", "stmatrix")
        found = [[r for r in NAME.findall(x) if r in self.registers] for x in i.operands]
        targets = found[0] if has_target and found else []
        return targets, [r for registers in found[has_target:] for r in registers]

    def ready(self, i: Instruction, sources: list[str]) -> str:
        """When all is there that an instruction reads."""
        times = [when(r) for r in dict.fromkeys([*filter(None, [i.guard.lstrip("!")]), *sources])]
        if i.opcode.startswith("ld") and "param" not in i.opcode:
            times.append("t.times.stored")
        return reduce(lambda a, b: f"later({a}, {b})", times or ["0.0"])

    def unit(self, i: Instruction, name: str) -> str:
        """The number of the unit, as C++."""
        if name not in VERBS:
            return str(UNITS.index(unit_of(i.opcode)))
        if "param" in i.opcode.split("."):
            return "0"
        address = next(x for x in i.operands if x.startswith("["))
        space = next((s for s in ("shared", "local", "global") if s in i.opcode.split(".")), "")
        if space:
            return str(UNITS.index(space))
        at = self.address(address, "generic")
        shared, local, far = (UNITS.index(s) for s in ("shared", "local", "global"))
        return f"{at} - t.block->window() < t.block->shared_size ? {shared} : {at} - t.stack < STACK ? {local} : {far}"


def when(register: str) -> str:
    """The variable with the time at which a register is there."""
    return f"at{identifier(register)}"


class TimedProgram(Program):
    """A module that keeps its times, and counts what keeps the machine busy."""

    writer = TimedWriter

    def executed(self, counts: Sequence[int], accesses: Sequence[int]) -> Counter[tuple[str, str]]:
        """By function: instructions of the machine, those of some units among them, and accesses to memory."""
        total: Counter[tuple[str, str]] = Counter()
        for count, (function, instructions) in zip(counts, self.translation.blocks, strict=True):
            for opcode, often in instructions.items():
                total[function, "instructions"] += count * often * slots_of(opcode)
                if (unit := unit_of(opcode)) in COUNTED:
                    total[function, unit] += count * often
        for (function, kind), count in super().executed(counts, accesses).items():
            if kind.split()[-1] in SPACES:
                total[function, "accesses"] += count
        return +total


def assume(name: str, values: Mapping[str, float]) -> None:
    """Sets the ``latency`` of each unit, or the cycles that an instruction keeps it ``busy``, 0 if not given."""
    array = (ctypes.c_double * MOST_UNITS).in_dll(machine(), f"gpu_{name}")
    array[: len(UNITS)] = [values.get(unit, 0.0) for unit in UNITS]
