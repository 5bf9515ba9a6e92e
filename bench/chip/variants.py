"""What the two tables of this folder have in common: rows of dataclasses, and a command that writes or checks them."""

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from .. import table

Row, Variant = TypeVar("Row"), TypeVar("Variant")


def write(path: Path, rows: list[Row]) -> None:
    """Commits the rows to their file."""
    table.write(path, vars(rows[0]), map(vars, rows))


def command(module: str, doc: str, variants: Iterable[Variant], check: Callable, rewrite: Callable[[], int]) -> int:
    """Rewrites a table, or with --check compares each variant with it: 1 where something is wrong."""
    variants = list(variants)
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=doc)
    parser.add_argument("--check", action="store_true", help="compare with the table and write nothing")
    for name, value in vars(variants[0]).items():
        parser.add_argument(f"--{name}", type=type(value), help="check only the variants with this")
    args = vars(parser.parse_args())
    if not args["check"]:
        return rewrite()
    chosen = [v for v in variants if all(args[name] in (None, value) for name, value in vars(v).items())]
    found = [complaint for v in chosen for complaint in check(v)]
    print("\n".join(found) or f"{len(chosen)} of the variants, as in the table")
    return int(bool(found))
