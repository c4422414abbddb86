"""A docs site is read offline: ``python -m tests.support.site FOLDER`` names what its pages load from elsewhere.

A link is the reader's choice; a script, a style, a font or an image is not.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path

__all__ = ["loaded", "main"]

_ELSEWHERE = re.compile(r"\s*(?:[a-z][a-z0-9+.-]*:)?//", re.IGNORECASE)
_IN_STYLE = re.compile(r"""(?:url\(\s*|@import\s+)["']?([^"')\s]+)""")
_LOADING = {"src", "srcset", "poster", "data", "action"}


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self._in_style = tag == "style"
        for name, value in attrs:
            if name in _LOADING or (name == "href" and tag not in {"a", "area"}):
                self.found += (value or "").split(",") if name == "srcset" else [value or ""]
            elif name == "style":
                self.found += _IN_STYLE.findall(value or "")

    def handle_endtag(self, tag: str) -> None:
        self._in_style = self._in_style and tag != "style"

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.found += _IN_STYLE.findall(data)


def loaded(name: str, text: str) -> list[str]:
    """Return what a file loads from other hosts.

    :param name: the file's, which tells what it is.
    :param text: its contents.
    """
    if name.endswith(".html"):
        page = _Page()
        page.feed(text)
        page.close()
        found = page.found
    else:
        found = _IN_STYLE.findall(text)
    return [each for each in found if _ELSEWHERE.match(each)]


def _findings(folder: Path) -> Iterator[str]:
    files = [path for path in sorted(folder.rglob("*")) if path.suffix in {".html", ".css", ".svg"}]
    if not files:
        yield f"{folder}: nothing was built there"
    for path in files:
        for each in loaded(path.name, path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(folder)}: {each}"


def main(argv: Sequence[str] | None = None) -> int:
    """Name what is loaded from other hosts; 1 if there is any.

    :param argv: the folder of the site.
    """
    (folder,) = sys.argv[1:] if argv is None else argv
    found = list(_findings(Path(folder)))
    print("".join(f"{each}\n" for each in found), end="")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
