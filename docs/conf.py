"""Sphinx configuration: executed pages, numpydoc reference, warnings are errors in CI."""

import sys
from pathlib import Path

import eeqs

# The extensions and helpers of this folder.
sys.path.insert(0, str(Path(__file__).resolve().parent))

project = "eeqs"
author = "The eeqs developers"
copyright = "2026, The eeqs developers"  # noqa: A001 - the name Sphinx reads
version = release = eeqs.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_nb",
    "evaluated",
]
exclude_patterns = ["_build", "**/.ipynb_checkpoints"]
html_theme = "pydata_sphinx_theme"
html_title = "eeqs"
html_theme_options = {"show_prev_next": True, "navigation_with_keys": False}
html_show_sourcelink = False

autosummary_generate = True
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
add_module_names = False

myst_enable_extensions = ["amsmath", "dollarmath", "colon_fence"]
myst_heading_anchors = 3
# Every code cell runs at every build, and an exception or a warning on stderr fails it. The pages of the claims
# have none: the directive of evaluated.py runs their few lines in this process.
nb_execution_mode = "force"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True
