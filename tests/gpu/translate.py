"""Writes a module of PTX as C++: its memory, its functions with counts of what they execute, and calls by the host."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from .opcodes import Instructions, Site, UnsupportedError, function_name, identifier
from .ptx import SIZES, Brace, Function, Instruction, Label, Module, Variable

ALIGNED = 256  # what static memory is


@dataclass
class Translation:
    """A module as C++, and what the text no longer says."""

    text: str
    sites: list[Site]  # by the number less 1 that the code gives
    blocks: list[tuple[str, Counter[str]]]  # by the index in its counts: the function, and the opcodes
    parameters: dict[str, list[int]]  # the sizes, by kernel
    shared: int  # bytes, before those that a launch adds


class Writer(Instructions):
    """Writes a module."""

    def __init__(self, module: Module) -> None:
        super().__init__()
        self.module = module
        self.blocks: list[tuple[str, Counter[str]]] = []

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
