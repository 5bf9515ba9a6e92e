"""Runs the code of quickstart.md, and writes what it prints into the page and into a notebook of the page.

python docs/notebook.py
"""

import io
import json
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("quickstart.md")
NOTEBOOK = PAGE.with_suffix(".ipynb")
CODE = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n.*?^```\n)?", re.DOTALL | re.MULTILINE)


def parts() -> Iterator[tuple[str, str, str]]:
    """The page in its order: a text, the code after it, and what that prints."""
    names: dict[str, Any] = {}
    *pairs, rest = CODE.split(PAGE.read_text())
    for text, code in zip(pairs[::2], pairs[1::2], strict=True):
        with redirect_stdout(io.StringIO()) as printed:
            exec(code, names)
        yield text, code, printed.getvalue()
    yield rest, "", ""


def page(run: list[tuple[str, str, str]]) -> str:
    """The text of quickstart.md."""

    def block(language: str, text: str) -> str:
        return f"```{language}\n{text}```\n" if text else ""

    return "".join(text + block("python", code) + "\n" * bool(out) + block("text", out) for text, code, out in run)


def notebook(run: list[tuple[str, str, str]]) -> str:
    """The text of quickstart.ipynb."""
    cells: list[dict[str, Any]] = []
    for text, code, out in run:
        cells.append({"cell_type": "markdown", "id": f"text-{len(cells)}", "metadata": {}, "source": _lines(text)})
        if code:
            outputs = [{"name": "stdout", "output_type": "stream", "text": _lines(out)}] if out else []
            cell = {"cell_type": "code", "id": f"code-{len(cells)}", "metadata": {}, "outputs": outputs}
            cells.append(cell | {"execution_count": len(cells) // 2 + 1, "source": _lines(code)})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    whole = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _lines(text: str) -> list[str]:
    return text.strip("\n").splitlines(keepends=True)


def main() -> None:
    """Writes both."""
    run = list(parts())
    PAGE.write_text(page(run))
    NOTEBOOK.write_text(notebook(run))


if __name__ == "__main__":
    main()
