"""Starts that a task had no answer to, as it recorded them: the operations that came of them, for who cleans up."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_eeops.api.intents import Ambiguity, Intent, recover
from airflow_provider_eeops.api.names import ParsedNames
from airflow_provider_eeops.exceptions import EarthEngineError, InvalidOperationNameError

if TYPE_CHECKING:
    from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook

__all__ = ["add_recovered", "intents_in"]

log = logging.getLogger(__name__)


def intents_in(value: Any) -> list[Intent]:
    """Read what a task, or each instance of a mapped one, recorded; what is something else is logged.

    :param value: what was pulled.
    """
    return list(_read(value))


def _read(value: Any) -> Iterator[Intent]:
    if value is None:
        return
    if isinstance(value, Mapping):
        try:
            yield Intent.from_dict(value)
        except ValueError:
            log.warning("What a task recorded of its starts was written by somebody else: passed over.")
    elif isinstance(value, Iterable) and not isinstance(value, str | bytes):
        for each in value:
            yield from _read(each)


def add_recovered(
    parsed: ParsedNames,
    intents: Collection[Intent],
    hook: EarthEngineOperationsHook,
    *,
    taken: Collection[str] = (),
    is_certain: bool = True,
) -> ParsedNames:
    """Add the operations of starts without an answer; what may be somebody else's is added as invalid, and named.

    :param parsed: the operations that are known.
    :param intents: the starts.
    :param hook: whose connection to look with; without a start it makes no request.
    :param taken: operations that are known to be another start's.
    :param is_certain: whether all operations that may be another's are among the taken and the known ones.
    """
    if not intents:
        return parsed
    try:
        recovered = recover(hook.get_conn(), intents, taken={*parsed.names, *taken})
    except EarthEngineError as error:
        parsed.invalid.append(_doubt(f"{len(intents)} starts without an answer cannot be looked for: {error}"))
        return parsed
    names = [operation.name for operation in recovered.operations.values()]
    if is_certain:
        found = hook.parse([*parsed.names, *names], accept_ids=False)
        parsed = ParsedNames(found.names, parsed.invalid + found.invalid)
        log.info("Of %d starts without an answer these operations came: %s", len(intents), ", ".join(names) or "none")
    elif names:
        recovered.ambiguous.append(Ambiguity(tuple(intents), tuple(names)))
    parsed.invalid += [_doubt(str(ambiguity)) for ambiguity in recovered.ambiguous]
    return parsed


def _doubt(message: str) -> InvalidOperationNameError:
    return InvalidOperationNameError(message, value="a start without an answer")
