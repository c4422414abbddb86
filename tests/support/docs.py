"""The generated blocks of README.md and docs/: ``python -m tests.support.docs`` writes them anew.

A block stands between ``<!-- include: WHAT -->`` and ``<!-- end -->``. WHAT is one of

``example_dags/x.py#marker``   the lines between ``# [START marker]`` and ``# [END marker]``
``example_dags/x.py``          the whole file, without such lines; also of ``docs/examples``
``parameters module:name``     the parameters of a class or function, from its docstring and signature
``methods module:name``        the public methods and properties of a class, from their docstrings
``methods module:name a b``    these of them
``connection-fields``          the parameters of a connection
``emulator-options``           the emulator's command line
``errors``                     the tree of errors
``metrics``                    every metric
``spans``                      every span
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import re
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["ROOT", "code_blocks", "default_of", "main", "pages", "param_docs", "refreshed", "signature_of"]

ROOT = Path(__file__).parents[2]

_BLOCK = re.compile(r"(?P<begin><!-- include: (?P<what>[^\n]+?) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)
_FENCED = re.compile(r"^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)
_FIELD = re.compile(r"^:(?P<kind>param|raises|return)\s*(?P<name>\w*): *(?P<text>.*(?:\n[ ]+.*)*)", re.MULTILINE)
_MARKER = re.compile(r"^ *# \[(START|END) \w+\]\n", re.MULTILINE)


_STAND_INS = {"readme.md", "changelog.md"}
"""Pages of the site for README.md and CHANGELOG.md."""


def pages() -> list[Path]:
    """README.md, CHANGELOG.md and every page of docs/."""
    written = [page for page in sorted((ROOT / "docs").glob("*.md")) if page.name not in _STAND_INS]
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", *written]


def refreshed(text: str) -> str:
    """Return the text with every generated block as it has to be.

    :param text: a page.
    """
    return _BLOCK.sub(lambda block: f"{block['begin']}\n{_render(block['what'])}\n\n{block['end']}", text)


def code_blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of one language.

    :param text: a page.
    :param language: such as ``python``.
    """
    return [found["code"] for found in _FENCED.finditer(text) if found["language"] == language]


def param_docs(documented: Any) -> dict[str, str]:
    """Return what the docstring of a class or function says of each parameter.

    :param documented: the class or function.
    """
    fields = _FIELD.finditer(inspect.getdoc(documented) or "")
    return {found["name"]: _markdown(found["text"]) for found in fields if found["kind"] == "param"}


def signature_of(documented: Any) -> dict[str, inspect.Parameter]:
    """Return the parameters that a class or function takes by name.

    :param documented: the class or function.
    """
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    parameters = inspect.signature(documented).parameters
    return {name: each for name, each in parameters.items() if each.kind not in variadic and name != "self"}


def default_of(parameter: inspect.Parameter) -> str:
    """Return a parameter's default as a page shows it: nothing for None, ``required`` if there is none.

    :param parameter: the parameter.
    """
    if parameter.default is inspect.Parameter.empty:
        return "required"
    if parameter.default is None:
        return ""
    if not isinstance(parameter.default, (str, int, float, tuple)):
        return _DEFAULTS.get(parameter.name, "")  # a factory or a function, whose repr has an address
    return f"`{parameter.default!r}`"


_DEFAULTS = {"clock": "`time.time`"}


def _render(what: str) -> str:
    kind, _, argument = what.partition(" ")
    if kind.startswith(("example_dags/", "docs/examples/")):
        return _example(kind)
    return _RENDERERS[kind](argument)


def _example(what: str) -> str:
    path, _, marker = what.partition("#")
    code = (ROOT / path).read_text(encoding="utf-8")
    if marker:
        code = code.split(f"# [START {marker}]\n", 1)[1].split(f"# [END {marker}]\n", 1)[0].rstrip(" ")
    return _fenced("python", textwrap.dedent(_MARKER.sub("", code)).rstrip("\n") + "\n")


def _parameters(where: str) -> str:
    documented = _load(where)
    told, taken = param_docs(documented), signature_of(documented)
    rows = [(f"`{name}`", default_of(taken[name]) if name in taken else "", text) for name, text in told.items()]
    return _table(("parameter", "default", "meaning"), rows)


def _methods(what: str) -> str:
    where, *chosen = what.split()
    rows = []
    for name, member in vars(_load(where)).items():
        if name.startswith("_") or (chosen and name not in chosen) or not (text := inspect.getdoc(member)):
            continue
        if isinstance(member, property):
            rows.append((f"`{name}`", _summary(text)))
        elif callable(member) or isinstance(member, classmethod):
            function = member.__func__ if isinstance(member, classmethod) else member
            rows.append((f"`{name}({_call(function)})`", _summary(text)))
    return _table(("member", "what it does"), rows)


def _connection_fields(_: str) -> str:
    from airflow_provider_eeops.api.settings import FIELDS

    rows = [(f"`{field.name}`", field.label, _markdown(field.description)) for field in FIELDS]
    return _table(("extra", "label in the form", "meaning"), rows)


def _emulator_options(_: str) -> str:
    from airflow_provider_eeops.emulator.__main__ import _parser

    rows = []
    for action in _parser()._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        flag = isinstance(action, argparse._StoreTrueAction)
        value = "" if flag else " " + (_values(action) or str(action.metavar or action.dest.upper()))
        default = "" if flag or action.default is None else f"`{action.default}`"
        rows.append((f"`{action.option_strings[0]}{value}`", default, str(action.help)))
    return _table(("option", "default", "meaning"), rows)


def _values(action: argparse.Action) -> str:
    return "|".join(map(str, action.choices)) if action.choices else ""


def _errors(_: str) -> str:
    from airflow_provider_eeops import exceptions

    tree = (inspect.getdoc(exceptions) or "").split("::\n\n", 1)[1].split("\n\n", 1)[0]
    return _fenced("text", inspect.cleandoc(tree) + "\n")


def _metrics(_: str) -> str:
    from airflow_provider_eeops.api.observing import METRICS

    rows = [
        (
            f"`{metric.name}`",
            metric.kind,
            "ms" if metric.kind == "timing" else "",
            ", ".join(f"`{tag}`" for tag in metric.tags),
            metric.when,
        )
        for metric in METRICS
    ]
    return _table(("metric", "kind", "unit", "tags", "when"), rows)


def _spans(_: str) -> str:
    from airflow_provider_eeops.api.observing import SPANS

    return _table(("span", "what it spans"), [(f"`{span.name}`", span.what) for span in SPANS])


_RENDERERS: Mapping[str, Callable[[str], str]] = {
    "parameters": _parameters,
    "methods": _methods,
    "connection-fields": _connection_fields,
    "emulator-options": _emulator_options,
    "errors": _errors,
    "metrics": _metrics,
    "spans": _spans,
}


def _load(where: str) -> Any:
    module, _, name = where.partition(":")
    return getattr(importlib.import_module(module), name)


def _call(function: Any) -> str:
    words: list[str] = []
    keyword_only = False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in {"self", "cls"}:
            continue
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            words.append("*")
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            words.append(f"*{parameter.name}")
        elif parameter.default is inspect.Parameter.empty:
            words.append(parameter.name)
        else:
            words.append(f"{parameter.name}={parameter.default!r}")
    return ", ".join(words)


def _summary(docstring: str) -> str:
    """All of a docstring but its parameters; what it raises as a sentence."""
    text = _markdown(_FIELD.sub("", docstring).split("::\n", 1)[0])
    raised = [
        f"Raises `{found['name']}`: {_markdown(found['text'])}"
        for found in _FIELD.finditer(docstring)
        if found["kind"] == "raises"
    ]
    return " ".join([text, *raised])


def _markdown(text: str) -> str:
    """ReST as these docstrings use it -> Markdown, on one line."""
    text = re.sub(r":\w+:`[~.]?([^`]+)`", r"``\1``", text)
    return " ".join(text.replace("``", "`").split())


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(_lines(head, rows))


def _lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


def _fenced(language: str, code: str) -> str:
    return f"```{language}\n{code}```"


def main() -> int:
    """Write every generated block anew; name the pages that changed."""
    with tempfile.TemporaryDirectory(prefix="eeops-docs-") as home:
        os.environ["AIRFLOW_HOME"] = home  # importing Airflow writes its configuration there
        for page in pages():
            text = page.read_text(encoding="utf-8")
            if (new := refreshed(text)) != text:
                page.write_text(new, encoding="utf-8")
                print(page.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
