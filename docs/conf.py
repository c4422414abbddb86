"""The docs site: ``make site`` builds it from these pages and the docstrings; warnings are errors."""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from sphinx.application import Sphinx

from airflow_provider_eeops import __version__

project = "airflow-provider-eeops"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "contents"
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"{project} {version}"
html_copy_source = False
myst_heading_anchors = 4
nitpicky = True

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"


# Of other packages there is no inventory here; of ours, what is private has no page.
nitpick_ignore_regex = [
    ("py:.*", r"(airflow|collections|concurrent|datetime|enum|google|requests|types|urllib3)\..*"),
    ("py:.*", r"(.*\.)?_[A-Z]\w*"),
    ("py:.*", r"airflow_provider_eeops\.api\.polling\.[KT]"),
    ("py:.*", r"Context|Export|Redaction|timedelta"),
]

# Read in the repository, pages link to files above docs/; on the site these are pages too.
_ROOT = Path(__file__).parents[1]
_PAGES = {"readme": "README.md", "changelog": "CHANGELOG.md"}


def _read_page(_app: Sphinx, name: str, source: list[str]) -> None:
    text = source[0]
    if name in _PAGES:
        text = (_ROOT / _PAGES[name]).read_text(encoding="utf-8")
        text = re.sub(r"\]\((?!https?:|#)", "](../", text).replace("](../docs/", "](")
    for page, file in _PAGES.items():
        text = text.replace(f"](../{file}", f"]({page}.md")
    source[0] = text


def setup(app: Sphinx) -> None:
    """Take part in the build, see Sphinx's application API."""
    app.connect("source-read", _read_page)
