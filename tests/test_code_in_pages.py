"""Every block of Python in the README and the docs runs as it stands, after the blocks before it on its page.

What a reader need not see stands in comments, ``<!-- python``: what is given before a block, and what holds after it.
"""

import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "bench" / "README.md"]
BLOCK = re.compile(r"^(?:```|<!-- )python\n(.*?)^(?:```|-->)$", re.DOTALL | re.MULTILINE)
WITH_CODE = [page for page in PAGES if BLOCK.search(page.read_text())]


@pytest.fixture(autouse=True)
def _defaults():
    """A page may set the default dtype, and how tensors are printed."""
    dtype, shown = torch.get_default_dtype(), vars(torch._tensor_str.PRINT_OPTS).copy()
    yield
    torch.set_default_dtype(dtype)
    vars(torch._tensor_str.PRINT_OPTS).update(shown)


def run(text, name):
    """Runs the blocks of a page in one namespace; a traceback names the line of the page."""
    names: dict = {"__name__": name}
    for block in BLOCK.finditer(text):
        lines = "\n" * text.count("\n", 0, block.start(1))
        exec(compile(lines + block[1], name, "exec"), names)
    return names


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_code_of_a_page(page):
    run(page.read_text(), str(page))


def test_blocks_run_in_their_order_and_wrong_ones_are_found():
    page = (
        "<!-- python\nn = 1\n-->\ntext\n```python\nn += 1\n```\n```bash\nexit 1\n```\n<!-- python\nassert n == 2\n-->\n"
    )
    assert run(page, "a page")["n"] == 2
    with pytest.raises(AssertionError):
        run(page.replace("n == 2", "n == 3"), "a page")


def test_no_block_is_left_out():
    """One in a list, or with another word for the language, would be."""
    for page in PAGES:
        text = page.read_text()
        assert len(re.findall(r"```\W*py|<!-- python", text, re.IGNORECASE)) == len(BLOCK.findall(text)), page
