"""Whatever the API answers, in any order: one outcome for each name, "cancelled" only where an answer said so."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from airflow_provider_eeops.api.cancelling import cancel_operations
from airflow_provider_eeops.api.client import EarthEngineOperationsClient
from airflow_provider_eeops.api.models import Operation, OperationResult, Outcome, Report
from airflow_provider_eeops.api.polling import poll
from airflow_provider_eeops.api.retrying import Budget
from airflow_provider_eeops.api.watching import Verdict, Watch
from airflow_provider_eeops.exceptions import (
    ConnectionFailedError,
    CredentialsError,
    EarthEngineError,
    FailedPreconditionError,
    NotFoundError,
    PermissionDeniedError,
    QuotaExceededError,
    UnavailableError,
    UnexpectedAnswerError,
    UnimplementedError,
)
from tests.properties.anything import JSON
from tests.properties.trying import fewer
from tests.support.clock import ManualClock

FEW = [f"projects/one/operations/{letter}" for letter in "ABC"]
MANY = [f"projects/two/operations/{number}" for number in range(12)]  # enough to be listed
NAMES = [*FEW, *MANY]

ERRORS: tuple[EarthEngineError | type[Exception], ...] = (
    ConnectionFailedError("reset"),
    CredentialsError("no token"),
    UnexpectedAnswerError("HTML", http_status=502),
    UnexpectedAnswerError("HTML", http_status=200),
    FailedPreconditionError("finished", http_status=400, status="FAILED_PRECONDITION"),
    NotFoundError("gone", http_status=404, status="NOT_FOUND"),
    PermissionDeniedError("no", http_status=403, status="PERMISSION_DENIED"),
    QuotaExceededError("slow down", http_status=429, status="RESOURCE_EXHAUSTED"),
    UnimplementedError("what", http_status=501, status="UNIMPLEMENTED"),
    UnavailableError("later", http_status=503, status="UNAVAILABLE"),
    RuntimeError,  # what nothing foresees
)
STATES = ("PENDING", "RUNNING", "CANCELLING", "SUCCEEDED", "CANCELLED", "FAILED", "NEW", None)
PAYLOADS = st.one_of(
    st.fixed_dictionaries(
        {"metadata": st.sampled_from(STATES).map(lambda state: {"state": state})},
        optional={"done": st.booleans(), "error": st.sampled_from([{"code": 1}, {"code": 3}, {}, "x", {"code": "1"}])},
    ),
    st.dictionaries(st.sampled_from(["done", "error", "metadata", "name"]), JSON, max_size=3),
)
ANSWERS = st.one_of(PAYLOADS, PAYLOADS, st.sampled_from(ERRORS))


def says_cancelled(payload: Mapping[str, Any]) -> bool:
    """Whether an answer says that the operation was cancelled, at its most generous."""
    error, metadata = payload.get("error"), payload.get("metadata")
    state = metadata.get("state") if isinstance(metadata, dict) else None
    ended = payload.get("done") is True or str(state) in {"SUCCEEDED", "CANCELLED", "FAILED"}
    code = error.get("code") if isinstance(error, dict) else None
    return (ended and str(code) in {"1", "1.0"}) or (state == "CANCELLED" and not error)


class Script:
    """A transport that answers as it was told to: for each request one thing, and what it last said for ever after."""

    requests_per_second = 1e6

    def __init__(self) -> None:
        self.answers: defaultdict[str, list[Any]] = defaultdict(list)
        self.otherwise: Any = {}
        self.said_cancelled: set[str] = set()

    def request(self, method: str, path: str, *, operation_name: str | None = None, **_others: Any) -> dict[str, Any]:
        if operation_name is None:
            return self._page(path.removeprefix("v1alpha/"))
        if method == "POST":
            return self._said(self._next(f"cancel {operation_name}"), None)
        return self._said(self._next(operation_name), operation_name)

    def _page(self, parent: str) -> dict[str, Any]:
        answer = self._next(parent)
        if not isinstance(answer, dict):
            return self._said(answer, None)
        shown = [name for name in NAMES if name.startswith(parent) and self.answers[name]]
        operations = []
        for name in shown:
            payload = self._next(name)
            if isinstance(payload, dict):
                operations.append(self._said(payload, name) | {"name": name})
        return {"operations": operations}

    def _next(self, key: str) -> Any:
        answers = self.answers[key]
        if not answers:
            return self.otherwise
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def _said(self, answer: Any, name: str | None) -> dict[str, Any]:
        if not isinstance(answer, dict):
            raise answer
        if name is not None and says_cancelled(answer):
            self.said_cancelled.add(name)
        return answer

    def close(self) -> None:
        """Nothing is open."""


def assert_true(report: Report, names: list[str], script: Script) -> None:
    assert [result.name for result in report.results] == names
    cancelled = {result.name for result in report.having(Outcome.CANCELLED)}
    assert cancelled <= script.said_cancelled
    json.dumps(report.to_dict(), allow_nan=False)


SCRIPTS = st.dictionaries(
    st.sampled_from(
        [*NAMES, *(f"cancel {name}" for name in NAMES), "projects/one/operations", "projects/two/operations"]
    ),
    st.lists(ANSWERS, min_size=1, max_size=3),
    max_size=20,
)


@given(
    answers=SCRIPTS,
    otherwise=ANSWERS,
    names=st.lists(st.sampled_from(NAMES), max_size=20),
    look_after=st.booleans(),
)
@fewer(one_in=2)
def test_each_name_has_one_true_outcome(
    answers: dict[str, list[Any]], otherwise: Any, names: list[str], look_after: bool
) -> None:
    script = Script()
    script.answers.update({key: list(value) for key, value in answers.items()})
    script.otherwise = otherwise
    client = EarthEngineOperationsClient(script, budget=Budget(retries=0), clock=ManualClock())
    report = cancel_operations(client, names, look_after=look_after, max_concurrency=2)
    assert_true(report, list(dict.fromkeys(names)), script)


class Watching(RuleBasedStateMachine):
    """A wait, polled in between whatever the API comes to say."""

    @initialize(names=st.lists(st.sampled_from(NAMES), unique=True, min_size=1, max_size=15))
    def begin(self, names: list[str]) -> None:
        self.names = names
        self.script = Script()
        self.clock = ManualClock()
        self.client = EarthEngineOperationsClient(self.script, budget=Budget(retries=0), clock=self.clock)
        self.watch = Watch(tuple(names), deadline=self.clock.time() + 1000)
        self.ended: dict[str, OperationResult] = {}

    @rule(name=st.sampled_from(NAMES), answer=ANSWERS)
    def the_api_will_say(self, name: str, answer: Any) -> None:
        self.script.answers[name] = [answer]

    @rule(project_id=st.sampled_from(["one", "two"]), answer=ANSWERS)
    def a_listing_will_say(self, project_id: str, answer: Any) -> None:
        self.script.answers[f"projects/{project_id}/operations"] = [answer]

    @rule(answer=ANSWERS)
    def the_others_will_say(self, answer: Any) -> None:
        self.script.otherwise = answer

    @rule()
    def poll(self) -> None:
        before = set(self.watch.pending)
        changed = poll(self.client, self.watch, max_concurrency=2)
        assert {operation.name for operation in changed} <= set(self.names)
        assert set(self.watch.pending) <= before

    @rule(seconds=st.floats(0, 300))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def the_wait_moves_to_another_process(self) -> None:
        operations = dict(self.watch.operations)
        errors = dict(self.watch.errors)
        self.watch = Watch(tuple(self.names), deadline=self.watch.deadline, operations=operations)
        self.watch.learn({}, errors)

    @invariant()
    def it_tells_the_truth(self) -> None:
        if not hasattr(self, "watch"):
            return
        report = self.watch.report()
        assert_true(report, self.names, self.script)
        for result in report.results:
            if result.name not in self.watch.pending:  # what is settled stays as it is
                assert self.ended.setdefault(result.name, result) == result
        verdict = self.watch.verdict(now=self.clock.time())
        assert (verdict is Verdict.SETTLED) is (not self.watch.pending and not self.watch.not_accepted)
        assert self.watch.message(verdict)


TestWatching = Watching.TestCase
TestWatching.settings = fewer(one_in=5, steps=20)


@given(payloads=st.lists(PAYLOADS, min_size=1, max_size=5))
def test_the_last_state_counts(payloads: list[dict[str, Any]]) -> None:
    watch = Watch((FEW[0],))
    for payload in payloads:
        if not watch.pending:
            break
        operation = Operation.from_payload(payload, name=FEW[0])
        watch.learn({FEW[0]: operation}, {})
        (result,) = watch.report().results
        assert result.state == operation.state
        assert result.outcome == (operation.outcome or Outcome.NOT_CONFIRMED)
