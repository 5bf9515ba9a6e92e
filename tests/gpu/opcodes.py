"""Writes instructions of PTX as C++: calls of what instructions.h or warp.h has under their names.

Unknown instructions, or modifiers that would change what one does, raise an error: nothing is left out silently.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from .ptx import SIZES, Instruction, Place

TYPES = {*SIZES, "pred"}
NO_MATTER = {"rn", "lo", "uni", "aligned", "volatile", "relaxed", "weak", "cta", "gpu", "sys", "nc"}
FLOATS = {"f32", "f64"}
ARITHMETIC = {"add", "sub", "mul", "mul.hi", "mul.wide", "mad", "mad.wide", "fma", "div", "rem", "neg", "abs"}
REAL = {"min", "max", "copysign", "sqrt", "rcp"}
APPROXIMATE = {"rcp.approx", "sqrt.approx", "rsqrt.approx", "div.full", "ex2.approx", "lg2.approx"}
RESERVED = {"and", "or", "xor", "not"}  # words of C++
ELEMENTWISE = {*ARITHMETIC, *REAL, *APPROXIMATE, *RESERVED, "shl", "shr", "bfe", "bfi", "prmt", "popc"}
ORDERED = {"eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs", "num"}
COMPARISONS = {*ORDERED, "nan", "equ", "neu", "ltu", "leu", "gtu", "geu"}
ROUNDINGS = {"rzi", "rni", "rmi", "rpi"}
OWN = ("param", "local")  # memory that belongs to one thread
SPACES = {"global", "shared", "local", "param", "const"}
UPDATES = {"add": "gpu::add(old, v)", "exch": "v", "min": "gpu::min(old, v)", "max": "gpu::max(old, v)"}
VOTES = {"ballot": "Ballot", "any": "AnyVote", "all": "AllVote"}
REDUCTIONS = {"add": "add", "min": "min", "max": "max", "and": "and_", "or": "or_", "xor": "xor_"}
SPECIAL = {
    "%tid.x": "t.rank",
    "%ntid.x": "t.block->threads",
    "%ctaid.x": "t.block->index",
    "%nctaid.x": "t.block->count",
    "%laneid": "t.lane",
    "%clock64": "uint64_t(t.times.now())",
    **{f"%{name}.{axis}": "0" for name in ("tid", "ctaid") for axis in "yz"},
    **{f"%{name}.{axis}": "1" for name in ("ntid", "nctaid") for axis in "yz"},
}


class UnsupportedError(ValueError):
    """An instruction that the emulator does not know."""


@dataclass(frozen=True)
class Site:
    """An instruction that findings may name."""

    opcode: str
    place: Place
    function: str


@dataclass
class Instructions:
    """Writes the instructions of a module's functions."""

    sites: list[Site] = field(default_factory=list)
    symbols: dict[str, str] = field(default_factory=dict)  # addresses of static memory
    registers: set[str] = field(default_factory=set)  # of the function
    function: str = ""

    def site(self, i: Instruction) -> int:
        """The number by which findings name the instruction."""
        self.sites.append(Site(i.opcode, i.place, self.function))
        return len(self.sites)

    def instruction(self, i: Instruction) -> str:
        """The statements of one instruction."""
        name, *modifiers = i.opcode.split(".")
        writer = getattr(self, f"write_{name}", None)
        if writer:
            return writer(i, modifiers)
        return self.elementwise(i, name, modifiers)

    # ---- operands

    def value(self, operand: str) -> str:
        """A register, an immediate, or the address of a name."""
        if operand.startswith("!"):
            return f"!{self.value(operand[1:])}"
        if operand in SPECIAL:
            return SPECIAL[operand]
        if number := re.fullmatch(r"0[dDfF]([0-9a-fA-F]+)", operand):
            return f"0x{number[1]}ull"
        if re.fullmatch(r"-?(0x)?[0-9a-fA-F]*U?", operand) and operand.lstrip("-")[:1].isdigit():
            return f"{operand.rstrip('U')}ll" if len(operand) < 18 else f"{operand.rstrip('U')}ull"
        if operand in self.symbols:
            return self.symbols[operand]
        if operand in self.registers:
            return identifier(operand)
        if operand.startswith("%"):
            raise UnsupportedError(f"the register {operand} is not known")
        return f"uint64_t({identifier(operand)})"

    def address(self, operand: str, space: str) -> str:
        """Of the host's memory; one in shared memory has 32 bits."""
        found = re.fullmatch(r"\[\s*([%\w$]+)\s*(?:\+\s*(-?\w+))?\s*\]", operand)
        if not found:
            raise UnsupportedError(f"the address {operand} is not known")
        at = f"{self.value(found[1])} + {found[2] or 0}"
        return f"t.block->window() + uint32_t({at})" if space == "shared" else f"uint64_t({at})"

    def list_of(self, operand: str) -> list[str]:
        """The parts of a vector, or one."""
        return [part.strip() for part in operand.strip("{} ").split(",")]

    def targets(self, operand: str) -> tuple[str, list[str]]:
        """Registers to be written; for ``_``, which is none, declarations of others."""
        parts = self.list_of(operand)
        sinks = [f"_{k}" for k, part in enumerate(parts) if part == "_"]
        return "".join(f"Nowhere {s}; " for s in sinks), [
            f"_{k}" if part == "_" else self.value(part) for k, part in enumerate(parts)
        ]

    # ---- one number in, one out

    def elementwise(self, i: Instruction, name: str, modifiers: list[str]) -> str:
        kind, (modifiers, kinds) = "", parted(modifiers)
        if len(kinds) != 1:
            raise UnsupportedError("its types are not known")
        kind = kinds[0]
        if "ftz" in modifiers and kind == "f32":
            kind = "f32z"
        modifiers = [m for m in modifiers if m != "ftz"]
        full = ".".join([name, *modifiers])
        if full not in ELEMENTWISE:
            raise UnsupportedError("it is not known")
        function = f"{name}_" if name in RESERVED else full.replace(".", "_")
        of = ["u32" if k > 0 and name in ("shl", "shr", "bfe") else kind for k in range(len(i.operands) - 1)]
        result = "u32" if name == "popc" else kind
        if modifiers == ["wide"]:
            result = f"Wide<{kind}>"
            of[2:] = [result] * len(of[2:])
        given = ", ".join(f"get<{k}>({self.value(x)})" for k, x in zip(of, i.operands[1:], strict=True))
        sinks, (target,) = self.targets(i.operands[0])
        return f"{sinks}put<{result}>({target}, gpu::{function}({given}));"

    def write_setp(self, i: Instruction, modifiers: list[str]) -> str:
        *modifiers, kind = modifiers
        kind = "f32z" if "ftz" in modifiers else kind
        comparison, *more = [m for m in modifiers if m != "ftz"]
        if comparison not in COMPARISONS or more or "|" in i.operands[0]:
            raise UnsupportedError("it is not known")
        a, b = (f"get<{kind}>({self.value(x)})" for x in i.operands[1:])
        return f"put<pred>({self.value(i.operands[0])}, gpu::{comparison}({a}, {b}));"

    def write_selp(self, i: Instruction, modifiers: list[str]) -> str:
        kind = untyped(modifiers[-1])
        target, a, b, condition = map(self.value, i.operands)
        return f"put<{kind}>({target}, {condition} ? get<{kind}>({a}) : get<{kind}>({b}));"

    def write_mov(self, i: Instruction, modifiers: list[str]) -> str:
        (kind,) = modifiers
        to, source = i.operands
        if source.startswith("{"):
            parts = self.list_of(source)
            bits = 8 * SIZES[kind] // len(parts)
            joined = " | ".join(f"(uint64_t(uint{bits}_t({self.value(p)})) << {bits * k})" for k, p in enumerate(parts))
            return f"put<{kind}>({self.value(to)}, {joined});"
        if to.startswith("{"):
            sinks, targets = self.targets(to)
            bits = 8 * SIZES[kind] // len(targets)
            parts = [f"put<b{bits}>({r}, b{bits}(v >> {bits * k}));" for k, r in enumerate(targets)]
            return f"{sinks}const uint64_t v = {self.value(source)}; {' '.join(parts)}"
        kind = untyped(kind)
        return f"put<{kind}>({self.value(to)}, get<{kind}>({self.value(source)}));"

    def write_cvt(self, i: Instruction, modifiers: list[str]) -> str:
        modifiers, (to, source) = parted(modifiers)
        if "ftz" in modifiers:
            to, source = (f"{kind}z" if kind == "f32" else kind for kind in (to, source))
        rounding = [m for m in modifiers if m != "ftz"]
        if rounding and not (len(rounding) == 1 and rounding[0] in ROUNDINGS):
            raise UnsupportedError("it is not known")
        name = "_".join(["cvt", *rounding])
        return f"put<{to}>({self.value(i.operands[0])}, {name}<{to}>(get<{source}>({self.value(i.operands[1])})));"

    def write_cvta(self, i: Instruction, modifiers: list[str]) -> str:
        to, address = map(self.value, i.operands)
        window = "t.block->window()" if "shared" in modifiers else "0"
        return f"{to} = {address} {'-' if 'to' in modifiers else '+'} {window};"

    # ---- memory

    def write_ld(self, i: Instruction, modifiers: list[str]) -> str:
        space, kind = memory_kind(modifiers)
        sinks, targets = self.targets(i.operands[0])
        at = self.address(i.operands[1], space)
        if space in OWN:
            return f"{sinks}load_own<{kind}>({at}, {', '.join(targets)});"
        return f"{sinks}load<{kind}>(t, {at}, {self.site(i)}, {', '.join(targets)});"

    def write_st(self, i: Instruction, modifiers: list[str]) -> str:
        space, kind = memory_kind(modifiers)
        at, values = self.address(i.operands[0], space), ", ".join(map(self.value, self.list_of(i.operands[1])))
        if space in OWN:
            return f"store_own<{kind}>({at}, {values});"
        return f"store<{kind}>(t, {at}, {self.site(i)}, {values});"

    def write_stmatrix(self, i: Instruction, modifiers: list[str]) -> str:
        at = self.address_of_matrices(i.operands[0], modifiers)
        return f"store_matrices(t, {at}, {self.site(i)}, {', '.join(map(self.value, self.list_of(i.operands[1])))});"

    def write_ldmatrix(self, i: Instruction, modifiers: list[str]) -> str:
        sinks, targets = self.targets(i.operands[0])
        at = self.address_of_matrices(i.operands[1], modifiers)
        return f"{sinks}load_matrices(t, {at}, {self.site(i)}, {', '.join(targets)});"

    def address_of_matrices(self, operand: str, modifiers: list[str]) -> str:
        if not re.fullmatch(r"sync\.aligned\.m8n8\.x[124]\.shared\.b16", ".".join(modifiers)):
            raise UnsupportedError("it is not known")
        return self.address(operand, "shared")

    def write_atom(self, i: Instruction, modifiers: list[str]) -> str:
        modifiers, (kind,) = parted(modifiers)
        space = next((m for m in modifiers if m in SPACES), "generic")
        synchronizes = str("acq_rel" in modifiers).lower()
        (update,) = [m for m in modifiers if m not in (*SPACES, "acq_rel")]
        if update not in (*UPDATES, "cas"):
            raise UnsupportedError("it is not known")
        *given, last = (f"get<{kind}>({self.value(x)})" for x in i.operands[2:])
        code = UPDATES[update].format(T=kind) if update in UPDATES else f"old == {given[0]} ? v : old"
        sinks, (target,) = self.targets(i.operands[0])
        done = f"[&]({kind} old) {{ const {kind} v = {last}; return {code}; }}"
        at = self.address(i.operands[1], space)
        return f"{sinks}put<{kind}>({target}, atomic<{kind}, {synchronizes}>(t, {at}, {self.site(i)}, {done}));"

    def write_red(self, i: Instruction, modifiers: list[str]) -> str:
        operands = ("_", *i.operands)
        return self.write_atom(Instruction(i.guard, i.opcode, operands, i.place), modifiers)

    # ---- control

    def write_bra(self, i: Instruction, modifiers: list[str]) -> str:
        return f"goto {identifier(i.operands[0])};"

    def write_ret(self, i: Instruction, modifiers: list[str]) -> str:
        return "return;"

    def write_call(self, i: Instruction, modifiers: list[str]) -> str:
        groups = [self.list_of(operand.strip("()\n\t ")) for operand in i.operands if operand.startswith("(")]
        name = next(operand for operand in i.operands if not operand.startswith("("))
        given = "".join(f", {identifier(x)}" for group in groups for x in group if x)
        return f"{function_name(name)}(t{given});"

    # ---- threads together

    def write_bar(self, i: Instruction, modifiers: list[str]) -> str:
        if modifiers[:2] == ["warp", "sync"]:
            return f"synchronize(t, {self.value(i.operands[0])}, {self.site(i)});"
        if modifiers[:1] != ["sync"] or i.operands != ("0",):
            raise UnsupportedError("only the barrier 0 of all threads is known")
        return f"barrier(t, {self.site(i)});"

    def write_shfl(self, i: Instruction, modifiers: list[str]) -> str:
        _, mode, _ = modifiers
        target, _, reached = i.operands[0].partition("|")
        value, by, limits, mask = map(self.value, i.operands[1:])
        code = f"shuffled<Shuffle::{mode.upper()}>(t, {value}, {by}, {limits}, {mask}, {self.site(i)})"
        sinks, (register,) = self.targets(target)
        return f"{sinks}put<b32>({register}, {code});" + (f" {self.value(reached)} = t.takes[1];" if reached else "")

    def write_vote(self, i: Instruction, modifiers: list[str]) -> str:
        _, mode, kind = modifiers
        target, value, mask = map(self.value, i.operands)
        if mode not in VOTES:
            raise UnsupportedError("it is not known")
        return f"put<{kind}>({target}, together<{VOTES[mode]}>(t, bool({value}), {mask}, {self.site(i)}));"

    def write_redux(self, i: Instruction, modifiers: list[str]) -> str:
        _, how, kind = modifiers
        target, value, mask = map(self.value, i.operands)
        total = f"Reduction<{kind}, gpu::{REDUCTIONS[how]}<{kind}>>"
        return f"put<{kind}>({target}, together<{total}>(t, {value}, {mask}, {self.site(i)}));"

    def write_mma(self, i: Instruction, modifiers: list[str]) -> str:
        found = re.fullmatch(r"sync\.aligned\.m(8|16)n8k(4|8|16)\.row\.col\.f64\.f64\.f64\.f64", ".".join(modifiers))
        if not found:
            raise UnsupportedError("only products in double precision are known")
        sinks, targets = self.targets(i.operands[0])
        entries = [self.value(x) for operand in i.operands[1:] for x in self.list_of(operand)]
        return f"{sinks}mma<{found[1]}, {found[2]}>(t, {self.site(i)}, {{{', '.join(entries)}}}, {', '.join(targets)});"


def parted(modifiers: Iterable[str]) -> tuple[list[str], list[str]]:
    """The modifiers that matter, and the types."""
    modifiers = list(modifiers)
    return [m for m in modifiers if m not in TYPES and m not in NO_MATTER], [m for m in modifiers if m in TYPES]


def memory_kind(modifiers: list[str]) -> tuple[str, str]:
    """The space and the type of a load or store."""
    modifiers, (kind,) = parted(modifiers)
    rest = [m for m in modifiers if m not in ("v2", "v4") and not m.startswith("L1::")]
    if not set(rest) <= SPACES or len(rest) > 1:
        raise UnsupportedError("it is not known")
    return rest[0] if rest else "generic", kind if kind not in FLOATS else untyped(kind)


def untyped(kind: str) -> str:
    """The type of the bits."""
    return kind if kind == "pred" else f"b{kind[1:]}"


def identifier(name: str) -> str:
    """A name that C++ takes."""
    return re.sub(r"[^\w$]", "_", name.strip())


def function_name(name: str) -> str:
    return f"function_{identifier(name)}"
