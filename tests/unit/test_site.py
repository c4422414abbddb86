"""What is said of a built docs site."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.site import loaded, main


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<script src="//cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="https://fonts.example/css">',
        '<img src="x.png" srcset="x.png, HTTPS://images.example/y.png 2x">',
        "<style>@import 'https://fonts.example/css';</style>",
        '<p style="background: url(https://images.example/y.png)">',
        '<object data="http://images.example/y.svg"></object>',
    ],
)
def test_what_a_page_loads_elsewhere_is_found(text: str) -> None:
    assert len(loaded("page.html", text)) == 1


def test_links_and_what_is_beside_the_page_are_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = '<a href="https://example.com">x</a><script src="_static/x.js"></script><img src="x.svg"><p>url(https://x)'
    assert loaded("page.html", page) == []
    (tmp_path / "index.html").write_text(page)
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == ""


def test_styles_are_read_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.css").write_text('@font-face { src: url("https://fonts.example/x.woff2") }')
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().out == "x.css: https://fonts.example/x.woff2\n"


def test_an_empty_folder_is_no_site(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 1
