"""Sphinx configuration: `sphinx-build -W docs docs/_build`."""

import re
from importlib import metadata

project = "kprojclust"
author = "the kprojclust developers"
version = release = metadata.version("kprojclust")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "examples"]
sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "download_all_examples": False,
    "show_signature": False,
}
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "kprojclust and keras_messi"
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_custom_sections = ["Input shape", "Output shape", "Reference"]

MARKDOWN_LINK = re.compile(r"\[([^\]]+)\]\((http[^)]+)\)")


def links_to_rst(app, what, name, obj, options, lines):
    """Turn the Markdown links of Keras-style docstrings into those of Sphinx."""
    lines[:] = [MARKDOWN_LINK.sub(r"`\1 <\2>`__", line) for line in lines]


def setup(app):
    """Register the hook."""
    app.connect("autodoc-process-docstring", links_to_rst)
