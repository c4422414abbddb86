"""Whatever a user, an API or a template may hand over: JSON, Python values, and objects that do harm when touched."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

__all__ = ["ANYTHING", "HOSTILE", "JSON", "NAMES", "NAME_LIKE", "PLAIN", "TEXT", "cyclic", "json_with", "written"]

# Surrogates, control characters and what percent-encoding hides, more often than chance would have them.
TEXT = st.one_of(
    st.text(max_size=30),
    st.text(st.sampled_from("aZ09._~-/:?#%@&=+\\ \t\r\n\0\x1b\x7f\u2028\ud800\udfff\ufeff\U0001f30d"), max_size=20),
    st.sampled_from(["%2e%2e", "%2f", "..%2f..", "a%00b", "A:cancel", "//", "../..", "{{ ds }}", "NaN", "1e400"]),
)

_PROJECTS = st.sampled_from(["one", "two", "my-project", "example.com:p", "123"])
_IDS = st.one_of(st.sampled_from(["A", "B", "C", "a/b", "x~y", "..."]), st.from_regex(r"[A-Z0-9]{24}", fullmatch=True))

NAMES = st.builds(lambda project, id_: f"projects/{project}/operations/{id_}", _PROJECTS, _IDS)
"""Operation names."""

NAME_LIKE = st.one_of(
    NAMES,
    st.builds(lambda project, id_: f"projects/{project}/operations/{id_}", TEXT, TEXT),
    st.builds(lambda name, tail: name + tail, NAMES, TEXT),
    st.builds(lambda head, name: head + name, TEXT, NAMES),
    st.builds(
        lambda odd: f"projects/one/operations/A{odd}B",
        st.sampled_from("?#%&=;:@+*,!$'()[]{}<>|^`\"\\ \t\n\0\x7f\xa0\uff0f"),
    ),
    st.builds(lambda name, at, odd: name[: at % len(name)] + odd + name[at % len(name) :], NAMES, st.integers(0), TEXT),
    st.from_regex(r"projects/[a-z./%:?#]{1,6}/operations/[A-Z./%:?#]{1,6}", fullmatch=True),
    st.sampled_from(["projects/one/operations/" + "A" * 500, "projects/one/operations/..", "projects/./operations/A"]),
)
"""Operation names, and what could pass for one."""

_NUMBERS = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([2**31, 2**63, 2**64, 10**400, 1e308, 5e-324, 0.0, -0.0, 1.0]),
    st.just(5000).map(lambda digits: -(10**digits)),  # more than Python prints
)
_KEYS = st.one_of(
    st.sampled_from(["name", "id", "operations", "state", "done", "error", "metadata", "outcome", "code"]),
    st.text(max_size=5),
)


def json_with(leaves: st.SearchStrategy[Any], *, most: int = 12) -> st.SearchStrategy[Any]:
    """JSON values, and what json.loads makes of Google's NaN and Infinity.

    :param leaves: what they may hold besides numbers and text.
    :param most: leaves.
    """
    return st.recursive(
        st.one_of(st.none(), st.booleans(), _NUMBERS, TEXT, leaves),
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_KEYS, inner, max_size=4)),
        max_leaves=most,
    )


JSON = json_with(NAME_LIKE)

_HASHABLE = st.one_of(st.none(), st.integers(), TEXT, NAME_LIKE, st.binary(max_size=8))

PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), _NUMBERS, TEXT, NAME_LIKE, st.binary(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(_KEYS, inner, max_size=4),
        st.dictionaries(_HASHABLE, inner, max_size=2),
        st.sets(_HASHABLE, max_size=4),
        st.frozensets(_HASHABLE, max_size=4),
        st.lists(inner, max_size=3).map(iter),
    ),
    max_leaves=12,
)
"""Values of Python's own types."""


# Objects that do harm when touched


_TOUCHED = (
    *("__str__", "__repr__", "__format__", "__eq__", "__hash__", "__len__", "__bool__", "__iter__", "__next__"),
    *("__getitem__", "__contains__", "__getattr__", "__getattribute__", "get", "strip", "items", "values", "keys"),
    *("operation_name", "task_type", "id", "name", "resolve", "__class__", "__module__"),
)
_ERRORS = (
    *(RuntimeError, TypeError, AttributeError, KeyError, IndexError, StopIteration, ValueError, OSError),
    *(RecursionError, MemoryError, UnicodeError, ZeroDivisionError, AssertionError, LookupError),
)
_BASES: tuple[tuple[type, tuple[Any, ...]], ...] = (
    (object, ()),
    (str, ("projects/one/operations/A",)),
    (str, ("[1]",)),
    (dict, ({"name": "projects/one/operations/A"},)),
    (dict, ({"operations": [{"name": "projects/one/operations/A", "outcome": "error"}]},)),
    (list, (["projects/one/operations/A"],)),
    (tuple, (("projects/one/operations/A",),)),
    (set, ({"projects/one/operations/A"},)),
    (frozenset, ({"projects/one/operations/A"},)),
    (int, (5,)),
    (float, (5.0,)),
    (bytes, (b"projects/one/operations/A",)),
)
_LIES: tuple[Any, ...] = (
    *("projects/one/operations/../../evil", "../../evil", "", None, True, 5, [], {}, str, dict, Exception("no")),
    object(),
)


def _raising(base: type, arguments: tuple[Any, ...], touched: str, error: type[Exception]) -> Any:
    def fail(*_args: Any, **_kwargs: Any) -> Any:
        raise error("hostile")

    member = property(fail) if touched in {"__class__", "operation_name", "task_type", "id", "name"} else fail
    made = type("Hostile", (base,), {touched: member, "operation_name": None, "task_type": "x"} | {touched: member})
    return made(*arguments)


def _lying(base: type, arguments: tuple[Any, ...], touched: str, lie: Any) -> Any:
    member = property(lambda _self: lie) if touched in {"__class__", "operation_name", "task_type", "id"} else None
    made = type("Liar", (base,), {touched: member or (lambda *_args, **_kwargs: lie)})
    return made(*arguments)


def _made(make: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return make(*arguments)
    except Exception:  # noqa: BLE001 - of these not every class can be made
        return make(object, (), "__str__", *arguments[3:])


HOSTILE = st.one_of(
    st.builds(
        lambda base, touched, error: _made(_raising, base[0], base[1], touched, error),
        st.sampled_from(_BASES),
        st.sampled_from(_TOUCHED),
        st.sampled_from(_ERRORS),
    ),
    st.builds(
        lambda base, touched, lie: _made(_lying, base[0], base[1], touched, lie),
        st.sampled_from(_BASES),
        st.sampled_from(_TOUCHED),
        st.sampled_from(_LIES),
    ),
)
"""Objects of which one method raises, or returns what it must not."""


def written(form: Callable[[Any], str], value: Any) -> str:
    """Write a value as text, as a template would.

    :param form: how.
    :param value: the value.
    """
    try:
        return form(value)
    except Exception:  # noqa: BLE001 - an int of more digits than Python prints, or a class that refuses
        return "unwritable"


ANYTHING = st.one_of(
    PLAIN,
    PLAIN.map(lambda value: written(repr, value)),
    JSON.map(lambda value: written(json.dumps, value)),
    st.recursive(
        st.one_of(HOSTILE, NAME_LIKE, st.none()),
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.tuples(inner, inner),
            st.dictionaries(_KEYS, inner, max_size=3),
            st.lists(inner, max_size=3).map(iter),
        ),
        max_leaves=6,
    ),
)
"""Anything at all."""


def cyclic() -> list[Any]:
    """Values that hold themselves."""
    held: list[Any] = ["projects/one/operations/A"]
    held.append(held)
    mapping: dict[str, Any] = {}
    mapping["operations"] = [mapping]
    inner: list[Any] = []
    inner.append({"operations": (inner,)})
    return [held, mapping, inner]
