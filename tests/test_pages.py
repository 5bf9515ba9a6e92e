"""The links of README and docs lead somewhere, and their figures are those of the rows."""

import re
import sys
import tomllib
from pathlib import Path

import pytest
import torch

import qplayer_gpu as qp
from bench import figures

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
HOME = PROJECT["urls"]["Repository"]
PAGES = [*ROOT.glob("*.md"), *DOCS.glob("*.md"), *(ROOT / "bench").rglob("*.md")]
FENCED = re.compile(r"^( *)(```|~~~).*?^\1\2", re.DOTALL | re.MULTILINE)
ELSEWHERE = {"benchmark": "bench/README.md", "results": "bench/results/summary.md", "security": "SECURITY.md"}
sys.path.insert(0, str(DOCS))
import notebook  # noqa: E402


def name(page):
    return str(page.relative_to(ROOT))


@pytest.fixture
def _defaults():
    """The quick start sets the default dtype, and how tensors are printed."""
    dtype, shown = torch.get_default_dtype(), vars(torch._tensor_str.PRINT_OPTS).copy()
    yield
    torch.set_default_dtype(dtype)
    vars(torch._tensor_str.PRINT_OPTS).update(shown)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 90


@pytest.mark.usefixtures("_defaults")
def test_the_quick_start_prints_what_it_says_in_page_and_notebook():
    """Numbers are rounded where they are printed, to three digits, and may differ in the last."""
    run = list(notebook.parts())
    number = re.compile(r"-?\d+\.\d+")
    for made, kept in ((notebook.page(run), notebook.PAGE), (notebook.notebook(run), notebook.NOTEBOOK)):
        assert number.sub("", made) == number.sub("", kept.read_text())
        found, stored = ([float(x) for x in number.findall(text)] for text in (made, kept.read_text()))
        assert found == pytest.approx(stored, abs=1.5e-3)


@pytest.mark.parametrize("page", figures.PAGES, ids=name)
def test_figures_are_those_of_the_rows(page):
    assert figures.fill(page.read_text()) == page.read_text(), "python -m bench.figures writes them anew"


def test_a_figure_that_differs_is_found():
    page = (ROOT / "README.md").read_text()
    emptied = figures.PLACE.sub(r"\1\4", page)
    assert emptied != page
    assert figures.fill(emptied) == page


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    text = FENCED.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if path.startswith(HOME):
            kind, branch, *rest = path.removeprefix(HOME).strip("/").split("/") or [""] * 2
            assert (kind, branch) in {("blob", "main"), ("raw", "main"), ("tree", "main")}, target
            file = ROOT.joinpath(*rest)
        elif path.startswith("http"):
            continue
        else:
            file = page.parent / path if path else page
        assert file.exists() or in_site(file), target
        if anchor:
            assert anchor in anchors(file if file.exists() else in_site(file)), target


def in_site(file):
    """The file behind a page of the site that is not in docs/."""
    known = ELSEWHERE.get(file.stem)
    return ROOT / known if known and file.parent == DOCS else None


def anchors(page):
    """Those of the headings of a page, as GitHub and MyST make them."""
    titles = re.findall(r"^#+ (.*)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_readme_links_by_address():
    """So that they lead somewhere on a package index too."""
    targets = re.findall(r"\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    assert all(target.startswith("https://") for target in targets)


def test_the_citation_names_this_version_and_place():
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"version: {qp.__version__}\n" in citation
    assert f"repository-code: {HOME}\n" in citation
