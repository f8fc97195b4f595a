"""How Sphinx builds this site: `make docs`. Nothing is fetched, and a warning is an error."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # `saturation`, and the extensions in this folder

import saturation  # noqa: E402

project = "saturation"
author = "the authors of saturation"
copyright = "the authors of saturation, Apache-2.0"
release = version = saturation.__version__

extensions = [
    "sphinx.ext.autodoc",
    "numpydoc",
    "myst_parser",
    "sphinx_copybutton",
    "docs.extensions.house",  # the map as a picture, and a page for each room
    "docs.extensions.command",  # the page of the command line
    "docs.extensions.formulas",  # formulas as MathML, which browsers draw themselves
    "docs.extensions.files",  # pages made of files that lie elsewhere in the repository
]
exclude_patterns = ["extensions", "requirements.txt"]

# Markdown
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 5  # as code hosts make them, so that README's links work here too
html_math_renderer = "mathml"

# Docstrings: numpydoc's sections, types in signatures
default_role = "py:obj"  # `record` in a docstring is a link where it is public, else code
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
maximum_signature_line_length = 88
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

# The page: its own fonts are the reader's, and nothing comes from another host
html_theme = "furo"
html_title = "saturation"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"source_repository": "", "footer_icons": []}
copybutton_exclude = ".linenos, .gp, .go"
