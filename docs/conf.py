"""Settings of Sphinx for the documentation of bayesdcm."""

import os
import shutil
from pathlib import Path

import bayesdcm

HERE = Path(__file__).parent

project = "bayesdcm"
author = "bayesdcm contributors"
copyright = author
version = release = bayesdcm.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "numpydoc",
    "myst_nb",
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]

html_theme = "pydata_sphinx_theme"
html_theme_options = {"show_toc_level": 2, "navigation_with_keys": False}

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
# Tutorials are executed by ci/tutorials.sh; the documentation shows their text.
nb_execution_mode = "off"

autosummary_generate = True
autosummary_ignore_module_all = False
autosummary_imported_members = True
# A name of the package has one page, not another one in its room.
autosummary_context = {"package_names": bayesdcm.__all__}
# On file systems that ignore case, Fit and fit would share a file.
autosummary_filename_map = {"bayesdcm.Fit": "bayesdcm.Fit-class"}
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

intersphinx_mapping = {
    "arviz": ("https://python.arviz.org/en/stable/", None),
    "mne": ("https://mne.tools/stable/", None),
    "numpyro": ("https://num.pyro.ai/en/stable/", None),
    "python": ("https://docs.python.org/3/", None),
}
# Without a network their inventories are only a warning each, but warnings are errors here.
if os.environ.get("BAYESDCM_DOCS_OFFLINE"):
    intersphinx_mapping = {}


def setup(app):
    """Bring the tutorials, which live beside the documentation, into its sources."""
    tutorials = HERE.parent / "tutorials"
    copies = HERE / "tutorials"
    shutil.rmtree(copies, ignore_errors=True)
    copies.mkdir()
    for page in sorted(tutorials.glob("*.md")):
        shutil.copy(page, copies)
