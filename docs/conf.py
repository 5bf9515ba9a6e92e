"""The site of these pages: ``sphinx-build -W docs build/docs``."""

import os
import re
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
ELSEWHERE = {
    "index": "README.md",
    "benchmark": "bench/README.md",
    "results": "bench/results/summary.md",
    "security": "SECURITY.md",
}

project = "qplayer_gpu"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = project
html_math_renderer = "mathml"
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
    pages = {ROOT / file: ROOT / "docs" / f"{page}.md" for page, file in ELSEWHERE.items()}

    def moved(link: re.Match[str]) -> str:
        target, *anchor = link[1].split("#")
        file = Path(os.path.normpath(path.parent / target))
        return f"]({'#'.join([os.path.relpath(pages.get(file, file), ROOT / 'docs'), *anchor])})"

    source[0] = re.sub(r"\]\((?!https?:|#)([^)]+)\)", moved, source[0])


def mathml(visitor: nodes.NodeVisitor, node: nodes.Element) -> None:
    """Writes a formula as MathML, which browsers show without a script from elsewhere."""
    visitor.body.append(tex2mathml(node.astext(), as_block=isinstance(node, nodes.math_block)))
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Connects the two."""
    app.connect("source-read", place)
    app.add_html_math_renderer("mathml", (mathml, None), (mathml, None))
