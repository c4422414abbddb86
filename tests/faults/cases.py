"""The table: each thing that goes wrong, and what is right then."""

from __future__ import annotations

import gzip
import json
from typing import Any

from tests.faults.case import HURRIED, Case, Expect
from tests.faults.place import A, B, C, Place
from tests.faults.ways import (
    answered,
    bare,
    edited,
    hanging,
    http,
    lost,
    on_arrival,
    second_answer,
    sending,
    trickling,
    zipped,
)
from tests.support.faulty_line import Exchange, Way

__all__ = ["CASES", "PARTS"]

LINE = "The line breaks"
TLS = "TLS"
HTTP = "Answers that are not HTTP as it should be"
BODY = "Answers that are not the API's"
STATUS = "Errors that the API answers"
LATER = "Retry-After"
REDIRECT = "Redirects"
READ = "Operations that are not as they should be"
TOKEN = "Tokens"
CLOCK = "Clocks that jump"

PARTS = (LINE, TLS, HTTP, BODY, STATUS, LATER, REDIRECT, READ, TOKEN, CLOCK)

SENDS_NO_OPERATION = "its answer holds no operation"
IS_FOR_TOKENS = "of the token server alone"
IS_OF_THE_API = "of the API alone"

ByMethod = dict[str, Any]
"""What is right, by method."""


def broken(tries: int, *, asked: bool = False, said: str | None = None) -> ByMethod:
    """No answer comes; a poll has failed, and a cancellation is what a look at the operation shows."""
    report = said or ("cancel requested (CANCELLING)" if asked else "error (RUNNING)")
    return {
        "get": Expect("ConnectionFailedError", "failed poll", tries),
        "list": Expect("ConnectionFailedError", "failed poll", tries),
        "cancel": Expect("ConnectionFailedError", report, tries, asked=asked),
        "token": Expect("CredentialsError, retryable", "12 error", tries),
    }


def unexpected(
    status: int, *, tries: int = 1, asked: bool = False, other: int = 0, token: str = "CredentialsError"
) -> ByMethod:
    """An answer that is not the API's; what a listing does not tell, a GET of each does."""
    error = f"UnexpectedAnswerError {status}"
    again = "failed poll" if tries > 1 and status != 401 else "RUNNING"
    report = "cancel requested (CANCELLING)" if asked else "error (RUNNING)"
    return {
        "get": Expect(error, "failed poll", tries, other=other),
        "list": Expect(error, again, tries, other=other),
        "cancel": Expect(error, report, tries, asked=asked, other=other),
        "token": Expect(token, "12 error", tries if "retryable" in token else 1),
    }


def refused(
    error: str, *, get: str, cancel: str, tries: int = 1, other: int = 0, token: str = "CredentialsError"
) -> ByMethod:
    """The API says no."""
    return {
        "get": Expect(error, get, tries, other=other),
        "list": Expect(error, "failed poll" if get == "failed poll" else "RUNNING", tries, other=other),
        "cancel": Expect(error, cancel, tries, other=other),
        "token": Expect(token, "12 error", tries if "retryable" in token else 1),
    }


def fine(tries: int = 1, *, waits: float | None = None) -> ByMethod:
    """All is well in the end."""
    return {
        "get": Expect("RUNNING", "RUNNING", tries, waits),
        "list": Expect("12 operations, A RUNNING", "RUNNING", tries, waits),
        "cancel": Expect("accepted", "cancel requested (CANCELLING)", tries, waits, asked=True),
        "token": Expect("RUNNING", "12 cancel requested", tries, waits, other=1),
    }


def read(get: str, above: str | None = None, *, listed: str | None = None, beyond: str | None = None) -> ByMethod:
    """An operation that is read as far as it goes, by a GET and in a listing."""
    return {
        "get": Expect(get, above or get),
        "list": Expect(listed or f"12 operations, A {get}", beyond or above or get),
        "cancel": SENDS_NO_OPERATION,
        "token": SENDS_NO_OPERATION,
    }


# The emulator's token server says "internal_failure" with every 5xx, which stands for: later.
TOKEN_SERVER_BUSY = {"token": Expect("CredentialsError, retryable", "12 error", 6)}
OTHERS = {"name": C, "done": True, "metadata": {"state": "SUCCEEDED"}, "response": {}}
TEN_MEGABYTES = b"<p>" + b"x" * 10_000_000
DEEP = b'{"a":' * 100_000


def line_cases() -> list[Case]:
    hurried: dict[str, Any] = {"budget": HURRIED}
    return [
        Case(
            "nobody listens",
            LINE,
            **{method: expected._replace(tries=0, waits=15.5) for method, expected in broken(6, said="error").items()},
            nobody=True,
        ),
        Case(
            "connection reset before the request is read", LINE, **broken(6, said="error"), arrival=on_arrival("reset")
        ),
        Case(
            "connection closed before the request is read",
            LINE,
            **broken(6, said="error"),
            arrival=on_arrival("closed"),
        ),
        Case("request read, then reset, without effect", LINE, **broken(6), way=lost(takes_effect=False, how="reset")),
        Case(
            "request took effect, answer lost in a reset",
            LINE,
            **broken(6, asked=True),
            way=lost(takes_effect=True, how="reset"),
        ),
        Case(
            "request took effect, connection closed without an answer",
            LINE,
            **broken(6, asked=True),
            way=lost(takes_effect=True, how="close"),
        ),
        Case("the same three times, then all is well", LINE, **fine(4), fault={"action": "reset_after", "times": 3}),
        Case("no answer at all, without effect", LINE, **broken(2), way=hanging(takes_effect=False), **hurried),
        Case(
            "no answer at all, though the request took effect",
            LINE,
            **broken(2, asked=True),
            way=hanging(takes_effect=True),
            **hurried,
        ),
        Case(
            "half a header, then closed",
            LINE,
            **broken(6, asked=True),
            way=answered(lambda _: b"HTTP/1.1 200 OK\r\nContent-Le"),
        ),
        Case("half a body, then closed", LINE, **broken(6, asked=True), fault={"action": "half_body"}),
        Case(
            "half a body, then nothing more",
            LINE,
            **broken(2, asked=True),
            way=hanging(takes_effect=True, after=http(b'{"na', length=400)),
            **hurried,
        ),
        Case("a body that trickles for 60 s", LINE, **fine(), way=trickling(step=30, steps=2)),
        Case(
            "a body that trickles for longer than the deadline",
            LINE,
            **{method: expected._replace(tries=1, waits=0.0) for method, expected in broken(1, asked=True).items()},
            way=trickling(step=70, steps=2),
        ),
    ]


def tls_cases() -> list[Case]:
    return [
        Case("a good certificate", TLS, **fine(), tls="good"),
        Case("a certificate of an unknown authority", TLS, **broken(6, said="error"), tls="self-signed"),
        Case("a certificate of another host", TLS, **broken(6, said="error"), tls="other host"),
        Case("a certificate that has expired", TLS, **broken(6, said="error"), tls="expired"),
        Case("plain text on the TLS port", TLS, **broken(6, said="error"), tls="plain", arrival=on_arrival("plain")),
        Case(
            "a handshake that hangs",
            TLS,
            **broken(2, said="error"),
            tls="plain",
            arrival=on_arrival("silent"),
            budget=HURRIED,
        ),
    ]


def http_cases() -> list[Case]:
    other = http(json.dumps(OTHERS).encode())
    return [
        Case("no HTTP at all", HTTP, **broken(6), way=sending(b"220 mail.example ESMTP\r\n")),
        Case("the status line of another protocol", HTTP, **broken(6), way=sending(b"HTTP/2 two hundred\r\n\r\n")),
        Case(
            "HTTP/1.0, closed after the answer",
            HTTP,
            **fine(),
            way=answered(lambda body: b"HTTP/1.0 200 OK\r\n\r\n" + body),
        ),
        Case(
            "Content-Length that says more than there is",
            HTTP,
            **broken(6, asked=True),
            way=answered(lambda body: http(body, length=len(body) + 9)),
        ),
        Case(
            "Content-Length that says less",
            HTTP,
            **unexpected(200, asked=True),
            way=answered(lambda body: http(body, length=1), keeps=True),
        ),
        Case(
            "two Content-Lengths that differ",
            HTTP,
            **broken(6, asked=True),
            way=answered(lambda body: http(body, f"Content-Length: {len(body) - 1}")),
        ),
        Case(
            "chunks as they should be",
            HTTP,
            **fine(),
            way=answered(
                lambda body: http(
                    b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body), "Transfer-Encoding: chunked", length=-1
                ),
                keeps=True,
            ),
        ),
        Case(
            "chunks without the last",
            HTTP,
            **broken(6, asked=True),
            way=answered(
                lambda body: http(b"%x\r\n%s\r\n" % (len(body), body), "Transfer-Encoding: chunked", length=-1)
            ),
        ),
        Case(
            "a chunk size that is no number",
            HTTP,
            **broken(6, asked=True),
            way=answered(lambda body: http(b"zz\r\n" + body, "Transfer-Encoding: chunked", length=-1)),
        ),
        Case(
            "compressed", HTTP, **fine(), way=answered(lambda body: http(gzip.compress(body), "Content-Encoding: gzip"))
        ),
        Case(
            "said to be compressed, and is not",
            HTTP,
            **broken(6, asked=True),
            way=answered(lambda body: http(body, "Content-Encoding: gzip"), keeps=True),
        ),
        Case(
            "100 Continue, then the answer",
            HTTP,
            **fine(),
            way=answered(lambda body: http(status="100 Continue", length=-1) + http(body), keeps=True),
        ),
        Case(
            "103 Early Hints, then the answer",
            HTTP,
            **unexpected(103, asked=True),
            way=answered(lambda body: http(status="103 Early Hints", length=-1) + http(body), keeps=True),
        ),
        Case("a second answer behind the first", HTTP, **fine(), way=second_answer(other, later=False)),
        Case(
            "a second answer, as the next request comes",
            HTTP,
            **fine() | {"cancel": Expect("accepted", "cancel requested", asked=True)},
            way=second_answer(other, later=True),
        ),
    ]


def body_cases() -> list[Case]:
    page = b"<html><body>Sign in to the network</body></html>"
    return [
        Case("HTML with 200", BODY, **unexpected(200), fault={"body": page, "content_type": "text/html"}),
        Case(
            "HTML with 401",
            BODY,
            **{method: expected._replace(waits=0.0) for method, expected in unexpected(401, tries=2, other=1).items()},
            fault={"status": 401, "body": page},
        ),
        Case("HTML with 403", BODY, **unexpected(403), fault={"status": 403, "body": page}),
        Case("HTML with 404", BODY, **unexpected(404), fault={"status": 404, "body": page}),
        Case(
            "HTML with 502",
            BODY,
            **unexpected(502, tries=6, token="CredentialsError, retryable"),
            fault={"status": 502, "body": page},
        ),
        Case(
            "HTML with 400 that repeats the request, its token too",
            BODY,
            **unexpected(400),
            way=repeating("400 Bad Request"),
        ),
        Case("an empty body with 200", BODY, **unexpected(200), fault={"body": b""}),
        Case(
            "204 without a body", BODY, **unexpected(204), way=sending(b"HTTP/1.1 204 No Content\r\n\r\n", keeps=True)
        ),
        Case("205 without a body", BODY, **unexpected(205), way=sending(http(status="205 Reset Content"), keeps=True)),
        Case("201 with an object", BODY, **unexpected(201), way=bare({"name": A}, status="201 Created")),
        Case("a JSON array", BODY, **unexpected(200), fault={"body": b"[]"}),
        Case("JSON null", BODY, **unexpected(200), fault={"body": b"null"}),
        Case("JSON that is cut off", BODY, **unexpected(200), fault={"body": b'{"name": "projects/'}),
        Case("JSON nested 100 000 deep", BODY, **unexpected(200), fault={"body": DEEP}),
        Case("a number of 5000 digits", BODY, **unexpected(200), fault={"body": b'{"a": ' + b"9" * 5000 + b"}"}),
        Case("bytes that are no text", BODY, **unexpected(200), fault={"body": b'{"a": "\xff\xfe\x00"}'}),
        Case(
            "a byte order mark before the answer",
            BODY,
            **{**fine(), "token": Expect("CredentialsError", "12 error")},
            way=answered(lambda body: http(b"\xef\xbb\xbf" + body)),
        ),
        Case(
            "a charset that is not true",
            BODY,
            **fine(),
            way=answered(lambda body: http(body, "Content-Type: application/json; charset=utf-32")),
        ),
        Case(
            "10 MB of error page with 500",
            BODY,
            **unexpected(500, tries=6, token="CredentialsError, retryable"),
            fault={"status": 500, "body": TEN_MEGABYTES},
        ),
        Case(
            "10 MB of error page with 500, compressed to 10 kB",
            BODY,
            **unexpected(500, tries=6, token="CredentialsError, retryable"),
            way=zipped(TEN_MEGABYTES, "500 Oh"),
        ),
        Case(
            "200 with an error in the body",
            BODY,
            **unexpected(200),
            way=bare({"error": {"code": 404, "message": "Not found.", "status": "NOT_FOUND"}}),
        ),
        Case(
            "an object that is not an operation",
            BODY,
            **unexpected(200) | {"list": Expect("0 operations, A not among them", "RUNNING")},
            way=bare({"status": "ok"}),
        ),
        Case(
            "an answer about another operation",
            BODY,
            **{**unexpected(200), "list": "a listing is matched by name", "token": SENDS_NO_OPERATION},
            way=bare(OTHERS),
        ),
        Case(
            "a listing of another project",
            BODY,
            get=IS_OF_THE_LISTING,
            list=Expect("0 operations, A not among them", "RUNNING"),
            cancel=IS_OF_THE_LISTING,
            token=IS_OF_THE_LISTING,
            way=bare({"operations": [{**OTHERS, "name": A.replace("one", "two")}]}),
        ),
        Case(
            "a listing that is no list",
            BODY,
            get=IS_OF_THE_LISTING,
            list=Expect("UnexpectedAnswerError 200", "RUNNING"),
            cancel=IS_OF_THE_LISTING,
            token=IS_OF_THE_LISTING,
            way=bare({"operations": {"name": A}}),
        ),
        Case(
            "a page token that is no text",
            BODY,
            get=IS_OF_THE_LISTING,
            list=Expect("UnexpectedAnswerError 200", "RUNNING"),
            cancel=IS_OF_THE_LISTING,
            token=IS_OF_THE_LISTING,
            way=bare({"operations": [], "nextPageToken": 5}),
        ),
        Case(
            "the same page token again",
            BODY,
            get=IS_OF_THE_LISTING,
            list=Expect("UnexpectedAnswerError 200", "RUNNING", 2, 0.0),
            cancel=IS_OF_THE_LISTING,
            token=IS_OF_THE_LISTING,
            way=bare({"operations": [], "nextPageToken": "again"}),
        ),
        Case(
            "items without a name",
            BODY,
            get=IS_OF_THE_LISTING,
            list=Expect("0 operations, A not among them", "RUNNING"),
            cancel=IS_OF_THE_LISTING,
            token=IS_OF_THE_LISTING,
            way=bare({"operations": [None, {}, {"name": 5}, "A"]}),
        ),
        Case(
            "an empty listing",
            BODY,
            get=IS_OF_THE_LISTING,
            list=Expect("0 operations, A not among them", "RUNNING"),
            cancel=IS_OF_THE_LISTING,
            token=IS_OF_THE_LISTING,
            way=bare({}),
        ),
    ]


IS_OF_THE_LISTING = "of a listing alone"


def status_cases() -> list[Case]:
    later: dict[str, Any] = {
        "get": "failed poll",
        "cancel": "error (RUNNING)",
        "tries": 6,
        "token": "CredentialsError, retryable",
    }
    error = "UnavailableError"
    return [
        Case(
            "400 INVALID_ARGUMENT",
            STATUS,
            **refused("InvalidArgumentError 400", get="settled: error", cancel="error"),
            fault={"status": 400},
        ),
        Case(
            "400 FAILED_PRECONDITION of what runs",
            STATUS,
            **refused("FailedPreconditionError 400", get="failed poll", cancel="error (RUNNING)")
            | {"list": Expect("FailedPreconditionError 400", "RUNNING")},
            fault={"status": 400, "rpc_status": "FAILED_PRECONDITION"},
        ),
        Case(
            "400 FAILED_PRECONDITION as it has finished",
            STATUS,
            get="a GET shows that it has",
            list="a listing shows that it has",
            token=IS_OF_THE_API,
            cancel=Expect("FailedPreconditionError 400", "finished first (SUCCEEDED)"),
            finished=True,
        ),
        Case(
            "401 once, as the token has expired",
            STATUS,
            get=fine(2)["get"]._replace(waits=0.0, other=1),
            list=fine(2)["list"]._replace(waits=0.0, other=1),
            cancel=fine(2)["cancel"]._replace(waits=0.0, other=1),
            token=IS_OF_THE_API,
            prepare=revoke,
        ),
        Case(
            "401 each time",
            STATUS,
            **{
                method: expected._replace(waits=0.0)
                for method, expected in refused(
                    "UnauthenticatedError 401", get="failed poll", cancel="error", tries=2, other=1
                ).items()
            },
            fault={"status": 401},
        ),
        Case(
            "403",
            STATUS,
            **refused("PermissionDeniedError 403", get="settled: permission denied", cancel="permission denied"),
            fault={"status": 403},
        ),
        Case(
            "404",
            STATUS,
            **refused("NotFoundError 404", get="settled: not found", cancel="not found"),
            fault={"status": 404},
        ),
        Case("408", STATUS, **refused(f"{error} 408", **later), fault={"status": 408}),
        Case(
            "409",
            STATUS,
            **refused("ApiError 409", get="failed poll", cancel="error") | {"list": Expect("ApiError 409", "RUNNING")},
            fault={"status": 409},
        ),
        Case("429", STATUS, **refused("QuotaExceededError 429", **{**later, "cancel": "error"}), fault={"status": 429}),
        Case("500", STATUS, **refused(f"{error} 500", **later), fault={"status": 500}),
        Case(
            "501",
            STATUS,
            **refused("UnimplementedError 501", get="settled: unsupported", cancel="unsupported") | TOKEN_SERVER_BUSY,
            fault={"status": 501},
        ),
        Case("502", STATUS, **refused(f"{error} 502", **later), fault={"status": 502}),
        Case("503", STATUS, **refused(f"{error} 503", **later), fault={"status": 503}),
        Case(
            "503, though the request took effect",
            STATUS,
            **refused(f"{error} 503", **later)
            | {"cancel": Expect(f"{error} 503", "cancel requested (CANCELLING)", 6, asked=True)},
            fault={"status": 503, "takes_effect": True},
        ),
        Case("503 three times, then all is well", STATUS, **fine(4), fault={"status": 503, "times": 3}),
        Case("504", STATUS, **refused(f"{error} 504", **later), fault={"status": 504}),
        Case(
            "505",
            STATUS,
            **refused("ApiError 505", get="failed poll", cancel="error")
            | {"list": Expect("ApiError 505", "RUNNING")}
            | TOKEN_SERVER_BUSY,
            fault={"status": 505},
        ),
        Case(
            "a status that nobody knows, 799",
            STATUS,
            **refused("ApiError 799", get="failed poll", cancel="error")
            | {"list": Expect("ApiError 799", "RUNNING")}
            | TOKEN_SERVER_BUSY,
            fault={"status": 799},
        ),
    ]


def revoke(place: Place) -> None:
    place.emulator.revoke_tokens()


def retry_after_cases() -> list[Case]:
    cases = []
    for status, error in ((429, "QuotaExceededError 429"), (503, "UnavailableError 503")):
        ended = {
            "get": Expect(error, "failed poll", waits=0.0),
            "list": Expect(error, "failed poll", waits=0.0),
            "cancel": Expect(error, "error" if status == 429 else "error (RUNNING)", waits=0.0),
            "token": Expect("CredentialsError, retryable", "12 error", waits=0.0),
        }
        for what, value, expected in (
            ("7 s", "7", fine(2, waits=7.0)),
            ("a date 7 s from now", "+7", fine(2, waits=7.0)),
            ("a date in the past", "-3600", fine(2)),
            ("0", "0", fine(2)),
            ("negative", "-5 ", fine(2)),
            ("1.5", "1.5", fine(2)),
            ("text", "soon", fine(2)),
            ("1000000000", "1000000000", ended),
            ("400 digits", "9" * 400, ended),
            ("a date in a hundred years", "+3000000000", ended),
        ):
            cases.append(
                Case(
                    f"{status}, Retry-After: {what}",
                    LATER,
                    **expected,
                    fault={
                        "status": status,
                        "headers": {"Retry-After": value},
                        "times": 1 if expected is not ended else None,
                    },
                )
            )
    return cases


def redirect_cases() -> list[Case]:
    return (
        [
            Case(
                f"{status} to another host",
                REDIRECT,
                **unexpected(status),
                fault={"status": status, "headers": {"Location": "ELSEWHERE/v1alpha/x?key=value"}, "body": b"moved"},
            )
            for status in (301, 302, 303, 307, 308)
        ]
        + [
            Case(
                f"302 {what}",
                REDIRECT,
                **unexpected(302),
                way=sending(http(b"moved", f"Location: {place}", status="302 There"), keeps=True),
            )
            for what, place in (
                ("to an address that is none", "https://["),
                ("to an address of another scheme", "file:///etc/passwd"),
                ("to an address that is no text", "https://\udcff\udcfe/"),
                ("to an address of 20 000 characters", "https://elsewhere.example/" + "x" * 20_000),
            )
        ]
        + [
            Case(
                "302, and its page takes longer than the deadline",
                REDIRECT,
                **{method: expected._replace(tries=1, waits=0.0) for method, expected in broken(1).items()},
                way=trickling_page(step=70),
            ),
            Case("300 without a place", REDIRECT, **unexpected(300), fault={"status": 300, "body": b""}),
            Case("304", REDIRECT, **unexpected(304), fault={"status": 304, "body": b""}),
        ]
    )


def trickling_page(*, step: float) -> Way:
    """The page of a redirect comes byte by byte, and the clock goes on with each."""
    there = ("Location: https://elsewhere.example/", "Transfer-Encoding: chunked")

    def go(exchange: Exchange) -> None:
        exchange.send(http(b"", *there, status="302 There", length=-1))
        for _ in range(20):
            exchange.clock.advance(step)
            exchange.send(b"1\r\n<\r\n")
            if not exchange.wait(0.02) or not exchange.client_is_there:
                return
        exchange.send(b"0\r\n\r\n")

    return go


def without(name: str) -> Way:
    return edited(lambda operation: {key: value for key, value in operation.items() if key != name})


def holding(**more: Any) -> Way:
    return edited(lambda operation: operation | more)


def telling(**more: Any) -> Way:
    return edited(lambda operation: operation | {"metadata": operation["metadata"] | more})


def read_cases() -> list[Case]:
    not_an_operation = read(
        "UnexpectedAnswerError 200", "failed poll", listed="11 operations, A not among them", beyond="RUNNING"
    )
    unspecified = read("STATE_UNSPECIFIED")
    running = read("RUNNING")
    # A listing is read in one piece: what it does not name is got.
    rows: tuple[tuple[str, ByMethod, Any], ...] = (
        ("`done` omitted", running, without("done")),
        ("metadata missing", unspecified, without("metadata")),
        ("state missing", unspecified, edited(lambda operation: operation | {"metadata": {"type": "EXPORT_IMAGE"}})),
        ("a state that nobody knows", read("PAUSED"), telling(state="PAUSED")),
        (
            "a state that nobody knows, and done",
            read("SUCCEEDED"),
            edited(lambda operation: operation | {"done": True, "metadata": {"state": "ARCHIVED"}}),
        ),
        (
            "unknown fields at every level",
            running,
            edited(lambda operation: operation | {"new": 1, "metadata": operation["metadata"] | {"newer": [{}]}}),
        ),
        ("done, and metadata says RUNNING", read("SUCCEEDED"), holding(done=True)),
        ("done, with an error", read("FAILED"), holding(done=True, error={"code": 3, "message": "No."})),
        ("done, with `error.code` 1", read("CANCELLED"), holding(done=True, error={"code": 1})),
        ("state SUCCEEDED, and not done", read("SUCCEEDED"), telling(state="SUCCEEDED")),
        ('done: "false"', running, holding(done="false")),
        ("done: 1", running, holding(done=1)),
        ("name missing", not_an_operation, without("name")),
        ("name: a number", not_an_operation, holding(name=5)),
        (
            "name: of another operation",
            read(
                "UnexpectedAnswerError 200", "failed poll", listed="11 operations, A not among them", beyond="RUNNING"
            ),
            holding(name=B),
        ),
        (
            "name: with the project's number",
            running,
            edited(lambda operation: operation | {"name": "projects/123/operations/A"}),
        ),
        ("metadata: a list", unspecified, holding(metadata=[1])),
        ("state: a number", unspecified, telling(state=3)),
        ("error: text, not done", running, holding(error="no")),
        ("error: text, done", read("FAILED"), holding(error="no", done=True)),
        ('error.code: "1", done', read("CANCELLED"), holding(done=True, error={"code": "1"})),
        ('error.code: "no", done', read("FAILED"), holding(done=True, error={"code": "no", "message": 5})),
        ("destinationUris: text", running, telling(destinationUris="gs://bucket")),
        ("destinationUris: with null in it", running, telling(destinationUris=[None, "gs://bucket"])),
        ("eecu: negative", running, telling(batchEecuUsageSeconds=-5)),
        ("eecu: NaN", running, telling(batchEecuUsageSeconds=float("nan"))),
        ("eecu: text", running, telling(batchEecuUsageSeconds="many")),
        ("progress: 1e999", running, telling(progress=float("inf"))),
        ("times that are none", running, telling(createTime="yesterday", startTime=5, endTime=None)),
        ("attempt: half", running, telling(attempt=1.5)),
    )
    cases = [Case(what, READ, **expected, way=way) for what, expected, way in rows]
    twice = json.dumps({"name": A, "metadata": {"state": "RUNNING"}})[:-1] + ', "done": false, "done": true}'
    listed = b'{"operations": [' + twice.encode() + b"]}"
    cases.append(
        Case(
            "`done` twice: the last counts",
            READ,
            get=Expect("SUCCEEDED", "SUCCEEDED"),
            cancel=SENDS_NO_OPERATION,
            token=SENDS_NO_OPERATION,
            list=Expect("1 operations, A SUCCEEDED", "SUCCEEDED"),
            way=lambda exchange: exchange.send(http(listed if exchange.request.method == "list" else twice.encode())),
        )
    )
    return cases


def token_cases() -> list[Case]:
    def only(expected: Expect, what: str, **how: Any) -> Case:
        return Case(what, TOKEN, get=IS_FOR_TOKENS, list=IS_FOR_TOKENS, cancel=IS_FOR_TOKENS, token=expected, **how)

    none = Expect("CredentialsError", "12 error")
    return [
        only(none, "400 invalid_grant", fault={"status": 400, "rpc_status": "invalid_grant"}),
        only(none, "200 without a token", fault={"body": b'{"expires_in": 3600}'}),
        only(none, "a token that is a number", fault={"body": b'{"access_token": 5, "expires_in": 3600}'}),
        only(none, "a token that is a list", fault={"body": b'{"access_token": ["SECRET"], "expires_in": 3600}'}),
        only(none, "a token that is empty", fault={"body": b'{"access_token": "", "expires_in": 3600}'}),
        only(
            none,
            "a token with a line break in it",
            fault={"body": b'{"access_token": "SECRET\\r\\nX: y", "expires_in": 3600}'},
        ),
        only(
            none,
            "a token that is no ASCII",
            fault={"body": '{"access_token": "SECRET\u2603", "expires_in": 3600}'.encode()},
        ),
        only(none, "expires_in that is text", fault={"body": b'{"access_token": "SECRET", "expires_in": "soon"}'}),
        only(
            none,
            "expires_in of 400 digits",
            fault={"body": b'{"access_token": "SECRET", "expires_in": ' + b"9" * 400 + b"}"},
        ),
        only(none, "a page that repeats the request", way=repeating("400 Bad Request")),
        only(
            Expect("CredentialsError, retryable", "12 error", 6),
            "503 with a page that repeats the request",
            way=repeating("503 Oh"),
        ),
        only(
            Expect("CredentialsError, retryable", "12 error", 6),
            "400 temporarily_unavailable",
            fault={"status": 400, "rpc_status": "temporarily_unavailable"},
        ),
        only(
            Expect("CredentialsError, retryable", "12 error", 6),
            "400 with server_error for a description",
            fault={"status": 400, "body": b'{"error": "x", "error_description": "server_error"}'},
        ),
        only(
            Expect("RUNNING", "12 cancel requested", 1, 0.0, other=1),
            "a token that expires as it comes: it serves one call",
            fault={"body": b'{"access_token": "KNOWN", "expires_in": 1}', "times": 1},
        ),
    ]


def repeating(status: str) -> Way:
    """The request is repeated in the answer, headers and all."""

    def go(exchange: Exchange) -> None:
        headers = "".join(f"{name}: {value}\n" for name, value in exchange.request.headers if "uth" in name)
        exchange.send(http(b"<p>" + headers.encode() + exchange.request.body, status=status))

    return go


CASES: tuple[Case, ...] = (
    *line_cases(),
    *tls_cases(),
    *http_cases(),
    *body_cases(),
    *status_cases(),
    *retry_after_cases(),
    *redirect_cases(),
    *read_cases(),
    *token_cases(),
)
