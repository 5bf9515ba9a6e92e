"""The site of these pages: ``sphinx-build -W docs build/docs``."""

import re
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]

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


def home(app: Sphinx, docname: str, source: list[str]) -> None:
    """Puts the README on the home page, its links as they are from docs/."""
    if docname == "index":
        readme = re.sub(r"\]\((?!https?:|#)", "](../", (ROOT / "README.md").read_text())
        source[0] = readme.replace("](../docs/", "](").replace("](../bench/README.md", "](benchmark.md") + source[0]


def mathml(visitor: nodes.NodeVisitor, node: nodes.Element) -> None:
    """Writes a formula as MathML, which browsers show without a script from elsewhere."""
    visitor.body.append(tex2mathml(node.astext(), as_block=isinstance(node, nodes.math_block)))
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Connects the two."""
    app.connect("source-read", home)
    app.add_html_math_renderer("mathml", (mathml, None), (mathml, None))
