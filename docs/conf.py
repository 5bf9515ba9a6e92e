"""The site of these pages: ``sphinx-build -W docs build/docs``."""

import os
import re
import tomllib
from importlib.resources import files
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
ELSEWHERE = {
    "index": "README.md",
    "benchmark": "bench/README.md",
    "changelog": "CHANGELOG.md",
    "conduct": "CODE_OF_CONDUCT.md",
    "contributing": "CONTRIBUTING.md",
    "results": "bench/results/summary.md",
    "security": "SECURITY.md",
}
HOME = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]

project = "qplayer_gpu"
author = "the qplayer_gpu authors"
copyright = f"2026, {author}. BSD-2-Clause"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
html_theme = "furo"
html_title = project
html_theme_options = {
    "footer_icons": [{"name": "Repository", "url": HOME, "html": "Repository", "class": ""}],
}
# One file without fonts, so that formulas are there without a network; from the package sphinx-mathjax-offline.
html_static_path = ["site.css", str(files("sphinx-mathjax-offline") / "static" / "mathjax" / "tex-svg.js")]
html_css_files = ["site.css"]
mathjax_path = "tex-svg.js"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the shapes say more
nitpicky = True
nitpick_ignore_regex = [("py:class", ".*")]  # Tensor and the like are documented elsewhere


def place(app: Sphinx, docname: str, source: list[str]) -> None:
    """Puts pages from outside docs/ where they belong, and makes all links, right in the repository, right here."""
    path = ROOT / ELSEWHERE.get(docname, f"docs/{docname}.md")
    if docname in ELSEWHERE:
        source[0] = path.read_text() + source[0]
        app.env.note_dependency(str(path))
    pages = {ROOT / file: ROOT / "docs" / f"{page}.md" for page, file in ELSEWHERE.items()}

    def moved(link: re.Match[str]) -> str:
        target, *anchor = link[1].split("#")
        within = re.sub(rf"{re.escape(HOME)}/(?:blob|raw)/main/", f"{ROOT}/", target)
        file = Path(os.path.normpath(path.parent / within))
        return f"]({'#'.join([os.path.relpath(pages.get(file, file), ROOT / 'docs'), *anchor])})"

    source[0] = re.sub(rf"\]\(((?!https?:|#)[^)]+|{re.escape(HOME)}/(?:blob|raw)/main/[^)]+)\)", moved, source[0])


def setup(app: Sphinx) -> None:
    """Connects the two."""
    app.connect("source-read", place)
