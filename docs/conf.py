"""Settings of Sphinx for the documentation of bayesdcm."""

import base64
import json
import os
import re
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
    "sphinx_design",
    "numpydoc",
    "myst_nb",
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]

html_theme = "pydata_sphinx_theme"
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc", "notebook-link"],
}
# Pages without pages below them need no list of those.
html_sidebars = {
    page.stem: [] for page in HERE.glob("*.md") if page.stem not in ("api", "tutorials")
}
html_static_path = ["_static"]
html_css_files = ["style.css"]
# Notebooks keep their name, to be downloaded.
html_sourcelink_suffix = ""

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
# ci/tutorials.sh has executed the tutorials; a page whose examples run here says so at its top.
nb_execution_mode = "off"
# Cells compile programs, beside other work.
nb_execution_timeout = 300
nb_execution_raise_on_error = True

autosummary_generate = True
autosummary_ignore_module_all = False
autosummary_imported_members = True
# A name of the package has one page, not another one in its subpackage.
autosummary_context = {"package_names": bayesdcm.__all__}
# On file systems that ignore case, Fit and fit would share a file.
autosummary_filename_map = {"bayesdcm.Fit": "bayesdcm.Fit-class"}
autodoc_typehints = "none"
# `fit` in a docstring is a link.
default_role = "autolink"
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


def outputs(notebook, tag=None):
    """Yield the outputs of all cells of a notebook, or of those with a tag."""
    for cell in notebook["cells"]:
        if tag is None or tag in cell["metadata"].get("tags", []):
            yield from cell.get("outputs", [])


def thumbnail(notebook):
    """Return the first picture, as PNG, that the cell with the tag "thumbnail" made."""
    data = [output.get("data", {}) for output in outputs(notebook, "thumbnail")]
    return base64.b64decode(next(each["image/png"] for each in data if "image/png" in each))


def say_warnings_without_paths(notebook):
    """Take out of warnings in which file of this machine, and which line, they were raised."""
    for output in outputs(notebook):
        if output.get("name") == "stderr":
            text = "".join(output["text"])
            output["text"] = re.sub(r"^/\S+\.py:\d+: (\w+: .*\n)  .*\n", r"\1", text, flags=re.M)


def setup(app):
    """Make the executed tutorials fit to be shown, and cut the gallery's pictures out of them."""
    for source in sorted((HERE.parent / "tutorials").glob("*.md")):
        path = HERE / "tutorials" / f"{source.stem}.ipynb"
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing: run ci/tutorials.sh first")
        notebook = json.loads(path.read_text())
        say_warnings_without_paths(notebook)
        path.write_text(json.dumps(notebook, indent=1))
        path.with_suffix(".png").write_bytes(thumbnail(notebook))
