"""Writes PTX as C++: each instruction as a call of what instructions.h or warp.h has under its name.

Unknown instructions, or modifiers that would change what one does, raise an error: nothing is left out silently.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from .ptx import SIZES, Brace, Function, Instruction, Label, Module, Place, Variable

TYPES = {*SIZES, "pred"}
NO_MATTER = {"rn", "lo", "uni", "aligned", "volatile", "relaxed", "weak", "cta", "gpu", "sys", "nc"}
FLOATS = {"f32", "f64"}
ARITHMETIC = {"add", "sub", "mul", "mul.hi", "mul.wide", "mad", "mad.wide", "fma", "div", "rem", "neg", "abs"}
REAL = {"min", "max", "copysign", "sqrt", "rcp"}
APPROXIMATE = {"rcp.approx", "sqrt.approx", "rsqrt.approx", "div.full", "ex2.approx", "lg2.approx"}
RESERVED = {"and", "or", "xor", "not"}  # words of C++
ELEMENTWISE = {*ARITHMETIC, *REAL, *APPROXIMATE, *RESERVED, "shl", "shr", "bfe", "prmt", "popc"}
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
    **{f"%{name}.{axis}": "0" for name in ("tid", "ctaid") for axis in "yz"},
    **{f"%{name}.{axis}": "1" for name in ("ntid", "nctaid") for axis in "yz"},
}
ALIGNED = 256  # what static memory is


class UnsupportedError(ValueError):
    """An instruction that the emulator does not know."""


@dataclass(frozen=True)
class Site:
    """An instruction that findings may name."""

    opcode: str
    place: Place
    function: str


@dataclass
class Translation:
    """A module as C++, and what the text no longer says."""

    text: str
    sites: list[Site]  # by the number less 1 that the code gives
    blocks: list[tuple[str, Counter[str]]]  # by the index in its counts: the function, and the opcodes
    parameters: dict[str, list[int]]  # the sizes, by kernel
    shared: int  # bytes, before those that a launch adds


def translated(module: Module) -> Translation:
    """The whole module.

    Raises:
        UnsupportedError: an instruction is not known.
    """
    return Writer(module).write()


@dataclass
class Writer:
    """Writes a module."""

    module: Module
    sites: list[Site] = field(default_factory=list)
    blocks: list[tuple[str, Counter[str]]] = field(default_factory=list)
    symbols: dict[str, str] = field(default_factory=dict)  # addresses of static memory
    registers: set[str] = field(default_factory=set)  # of the function
    function: str = ""

    def write(self) -> Translation:
        """All functions, then how the host calls the kernels."""
        shared = self.place_shared()
        memory = self.static_memory()
        functions = self.module.functions
        bodies = [self.body(f) for f in functions]
        kernels = [f for f in functions if f.is_kernel]
        text = "\n".join(
            [
                '#include "warp.h"',
                "using namespace gpu;",
                f'extern "C" {{ uint64_t counts[{len(self.blocks)}]; {memory} }}',
                *(f"{signature(f)};" for f in functions),
                *bodies,
                *(called_by_the_host(f) for f in kernels),
            ]
        )
        parameters = {f.name: [p.bytes for p in f.parameters] for f in kernels}
        return Translation(text, self.sites, self.blocks, parameters, shared)

    def place_shared(self) -> int:
        """Gives each shared variable its place; those of functions too, and last what the launch adds."""
        inside = (v for f in self.module.functions for v in f.body if isinstance(v, Variable))
        size, variables = 0, [v for v in (*self.module.variables, *inside) if v.space == "shared"]
        for v in sorted(variables, key=lambda v: v.count == 0):
            align = v.align if v.count != 0 else max(v.align, 16)
            size = -(-size // align) * align
            self.symbols[v.name] = f"{size}u"
            size += v.bytes
        return size

    def static_memory(self) -> str:
        """The array with global and constant variables."""
        content = b""
        for v in self.module.variables:
            if v.space in ("global", "const"):
                content += bytes(-len(content) % v.align)
                self.symbols[v.name] = f"uint64_t(statics + {len(content)})"
                content += initial(v)
        numbers = ", ".join(map(str, content)) or "0"
        return f"alignas({ALIGNED}) uint8_t statics[] = {{{numbers}}}; uint64_t statics_size = {len(content)};"

    def body(self, function: Function) -> str:
        """A function's definition."""
        self.function = function.name
        self.registers = {v.name for v in function.body if isinstance(v, Variable) and v.space == "reg"}
        lines = [signature(function), "{", self.begin_block()]
        for part in function.body:
            if isinstance(part, Brace):
                lines.append(part.text)
            elif isinstance(part, Label):
                lines += [f"{identifier(part.name)}:;", self.begin_block()]
            elif isinstance(part, Variable):
                lines.append(declared(part))
            else:
                self.blocks[-1][1][part.opcode] += 1
                lines.append(self.guarded(part))
                if part.opcode.startswith("bra"):
                    lines.append(self.begin_block())
        return "\n".join([*lines, "}"])

    def begin_block(self) -> str:
        """Counts what follows, up to where control may come or go."""
        self.blocks.append((self.function, Counter()))
        return f"counts[{len(self.blocks) - 1}]++;"

    def guarded(self, i: Instruction) -> str:
        """An instruction and its guard."""
        try:
            text = self.instruction(i)
        except UnsupportedError as error:
            raise UnsupportedError(f"{i.opcode} {', '.join(i.operands)} ({i.place}): {error}") from None
        return f"if ({self.value(i.guard)}) {{ {text} }}" if i.guard else f"{{ {text} }}"

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
        modifiers, (kind,) = parted(modifiers)
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


def signature(function: Function) -> str:
    given = "".join(f", uint8_t* {identifier(p.name)}" for p in function.parameters)
    return f"static void {function_name(function.name)}(Thread& t{given})"


def called_by_the_host(kernel: Function) -> str:
    """A kernel that takes an array of pointers to its arguments."""
    given = "".join(f", arguments[{k}]" for k in range(len(kernel.parameters)))
    call = f"{function_name(kernel.name)}(t{given})"
    return f'extern "C" void {identifier(kernel.name)}(Thread& t, uint8_t** arguments) {{ {call}; }}'


def declared(v: Variable) -> str:
    """A register, or an array on the stack; shared memory has its place already."""
    if v.space == "shared":
        return ""
    if v.space == "reg":
        kind = "bool" if v.type == "pred" else f"uint{8 * SIZES[v.type]}_t"
        return f"{kind} {identifier(v.name)};"
    return f"alignas({max(v.align, 16)}) uint8_t {identifier(v.name)}[{v.bytes}];"


def initial(v: Variable) -> bytes:
    """The bytes that a variable begins with."""
    content = b""
    for number in re.findall(r"[-\w]+", v.value):
        hexadecimal = number[2:] if re.match(r"0[dDfFxX]", number) else ""
        n = int(hexadecimal, 16) if hexadecimal else int(number)
        content += (n % (1 << 8 * SIZES[v.type])).to_bytes(SIZES[v.type], "little")
    return content.ljust(v.bytes, b"\0")
