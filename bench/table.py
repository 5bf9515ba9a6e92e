"""Tables of results: files of comma-separated values, and Markdown."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

DIGITS = 4
NUMBERS = {"int": int, "float": float}
Row = TypeVar("Row")


def read(path: Path) -> list[dict[str, str]]:
    """The lines of a file, none where it is not there."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def parsed(path: Path, kind: type[Row]) -> list[Row]:
    """The lines of a file as a dataclass whose annotations are texts; an empty number is None."""
    types = {field.name: NUMBERS.get(field.type.removesuffix(" | None"), str) for field in fields(kind)}
    return [kind(**{k: types[k](v) if v or types[k] is str else None for k, v in x.items()}) for x in read(path)]


def write(path: Path, columns: Iterable[str], lines: Iterable[dict]) -> None:
    """Puts the lines into the file, in place of what was there; None is an empty field."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(columns), lineterminator="\n")
        writer.writeheader()
        for line in lines:
            writer.writerow({k: f"{v:.{DIGITS}g}" if isinstance(v, float) else v for k, v in line.items()})


def markdown(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
