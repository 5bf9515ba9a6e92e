"""Reads PTX, the text between CUDA or Triton and the machine's code: functions, instructions, where these are from.

NVIDIA, PTX ISA: https://docs.nvidia.com/cuda/parallel-thread-execution
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SIZES = {f"{kind}{bits}": bits // 8 for kind in "busf" for bits in (8, 16, 32, 64)}
LINKAGE = r"(?:\.(?:visible|weak|extern)\s+)*"
FILE = re.compile(r'^\s*\.file\s+(\d+)\s+(?:"[^"]*"\s+)?"([^"]*)"', re.MULTILINE)
STATEMENT = re.compile(
    rf"""(?P<section>\.section\b[^{{]*\{{[^{{}}]*\}})
    | \.loc\s+(?P<file>\d+)\s+(?P<line>\d+)\b[^\n]*?(?:\binlined_at\s+(?P<at>\d+\s+\d+)[^\n]*|//\s*(?P<chain>[^\n]*))?\n
    | \.(?:version|target|address_size|file|pragma)\b[^\n]*
    | (?P<label>[\w$]+):
    | (?P<brace>[{{}}])
    | (?P<header>{LINKAGE}\.(?:entry|func)\b[^{{;]*)
    | (?P<statement>[^;{{}}]*(?:\{{[^}}]*\}}[^;{{}}]*)*);
    | ;
    """,
    re.VERBOSE,
)
DECLARATION = re.compile(
    rf"""{LINKAGE}\.(?P<space>reg|local|param|shared|global|const)\s+(?:\.align\s+(?P<align>\d+)\s+)?
    \.(?P<type>\w+)\s+(?:\.ptr\s+(?:\.\w+\s+)??(?:\.align\s+\d+\s+)?)?(?P<names>[%\w$][^=\[]*?)\s*
    (?P<array>\[(?P<count>\d*)\])?\s*(?:=\s*(?P<value>.*))?$""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Place:
    """Where an instruction is from: a line of the source, and the calls that were inlined around it as text."""

    file: str = ""  # its name alone
    line: int = 0
    chain: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.chain}".strip()


@dataclass(frozen=True)
class Variable:
    """A declared name: in registers, or in a memory of so many bytes."""

    name: str
    space: str
    type: str
    count: int | None  # of an array: None without one, 0 where the launch says
    align: int
    value: str = ""

    @property
    def bytes(self) -> int:
        return SIZES[self.type] * (1 if self.count is None else self.count)


@dataclass(frozen=True)
class Instruction:
    """``@guard opcode operands``."""

    guard: str
    opcode: str
    operands: tuple[str, ...]
    place: Place


@dataclass(frozen=True)
class Label:
    """Where branches go."""

    name: str


@dataclass(frozen=True)
class Brace:
    """The begin or the end of a scope of names."""

    text: str


@dataclass
class Function:
    """A kernel, or a function that one calls; the results come before the parameters."""

    name: str
    is_kernel: bool
    parameters: list[Variable]
    body: list[Instruction | Label | Brace | Variable] = field(default_factory=list)


@dataclass
class Module:
    """All that a text says."""

    functions: list[Function]
    variables: list[Variable]  # of the module: shared, global and constant


def parsed(text: str) -> Module:
    """Reads a module.

    Raises:
        ValueError: something is not understood.
    """
    module, place, depth = Module([], []), Place(), 0
    files = {number: Path(path).name for number, path in FILE.findall(text)}
    declared: dict[str, Function] = {}
    for found in scanned(text):
        if found["file"]:
            place = place_of(found, files) or place
        elif found["header"]:
            function = header(found["header"])
            declared[function.name] = function
        elif found["brace"]:
            depth += 1 if found["brace"] == "{" else -1
            if depth == 1 and found["brace"] == "{":
                module.functions.append(function)
            elif depth:
                function.body.append(Brace(found["brace"]))
        elif found["label"]:
            function.body.append(Label(found["label"]))
        elif statement := (found["statement"] or "").strip():
            if statement.startswith("."):
                (function.body if depth else module.variables).extend(declaration(statement))
            else:
                function.body.append(instruction(statement, place))
    missing = declared.keys() - {f.name for f in module.functions}
    if missing:
        raise ValueError(f"functions without a body: {missing}")
    return module


def scanned(text: str) -> Iterator[re.Match[str]]:
    """The statements one after the other."""
    # the only comments that say something are those of .loc; others may stand within a statement
    text = re.sub(r"^((?!\s*\.loc\b)[^\n]*?)//[^\n]*", r"\1", text, flags=re.MULTILINE)
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        found = STATEMENT.match(text, at)
        if not found:
            raise ValueError(f"not understood: {text[at : at + 100]!r}")
        yield found
        at = found.end()


def place_of(found: re.Match[str], files: dict[str, str]) -> Place | None:
    """What ``.loc`` says; None where that is line 0, of code that the compiler made up."""
    chain = (found["chain"] or "").partition("@")[2]
    if found["at"]:
        number, line = found["at"].split()
        chain = f"[ {files[number]}:{line} ]"
    return Place(files[found["file"]], int(found["line"]), chain and f"@{chain}") if found["line"] != "0" else None


def header(text: str) -> Function:
    """The name and the parameters of a function."""
    found = re.match(rf"{LINKAGE}\.(entry|func)\s*(?:\((.*?)\))?\s*([\w$]+)\s*(?:\((.*?)\))?", text, re.DOTALL)
    if not found:
        raise ValueError(f"not understood: {text!r}")
    kind, results, name, parameters = found.groups()
    both = f"{results or ''},{parameters or ''}".split(",")
    variables = [v for part in both if part.strip() for v in declaration(part.strip())]
    return Function(name, kind == "entry", variables)


def declaration(text: str) -> Iterator[Variable]:
    """The variables of a declaration; of registers ``%r<4>``, four."""
    found = DECLARATION.match(text)
    if not found:
        raise ValueError(f"not understood: {text!r}")
    kind, space = found["type"], found["space"]
    count = int(found["count"] or 0) if found["array"] else None
    for name in found["names"].split(","):
        several = re.fullmatch(r"\s*(%?[\w$]+)<(\d+)>\s*", name)
        names = [f"{several[1]}{i}" for i in range(int(several[2]))] if several else [name.strip()]
        for each in names:
            align = int(found["align"] or SIZES.get(kind, 1))
            yield Variable(each, space, kind, count, align, (found["value"] or "").strip())


def instruction(text: str, place: Place) -> Instruction:
    """One instruction."""
    found = re.fullmatch(r"(?:@(!?%[\w$]+)\s+)?([\w.:]+)\s*(.*)", text, re.DOTALL)
    if not found:
        raise ValueError(f"not understood: {text!r}")
    return Instruction(found[1] or "", found[2], tuple(split(found[3])), place)


def split(text: str) -> list[str]:
    """Operands: what is between commas, but for those in brackets."""
    parts = re.findall(r"(?:[^,{}()\[\]]|\{[^{}]*\}|\([^()]*\)|\[[^\[\]]*\])+", text)
    return [part.strip() for part in parts]
