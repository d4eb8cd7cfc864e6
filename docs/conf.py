"""Sphinx: MyST pages, Furo, the API from docstrings; every unknown reference is an error."""

import pathlib
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from docs import field_comments  # noqa: E402 - the path is set above
from docs.generate import write_generated_pages  # noqa: E402 - the path is set above

project = "Sluicegate"
author = "The Sluicegate authors"
copyright = author  # noqa: A001 - Sphinx wants this name
version = release = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
    "version"
]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "Sluicegate"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
# Pages also link to files of the repository (sources, CONTRIBUTING.md): tests/repo checks those.
# Pictures of the console are taken by its tests, and are not kept in the tree: where no test has
# run, their alternate texts stand in their place.
suppress_warnings = ["myst.xref_missing", "image.not_readable"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False

# Other projects' names are not resolved (no network while building); our own must be.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(?!sluicegate\.).*"),
    (r"py:.*", r"sluicegate\..*\.\w+T"),  # type variables
    (r"py:.*", r"sluicegate\..*\._\w+"),  # what a module keeps to itself
    # No API, but others name parts of them:
    (r"py:.*", r"sluicegate\.(gate|isolation|protocols|sandbox)\..*"),
]

field_comments.install()
write_generated_pages()
