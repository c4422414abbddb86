from __future__ import annotations

import json
import math
import pickle
import traceback
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_eeops.api.client import connect
from airflow_provider_eeops.api.credentials import load_credentials
from airflow_provider_eeops.api.settings import API_VERSIONS, Settings
from airflow_provider_eeops.exceptions import EarthEngineError, InvalidSettingsError
from tests.properties.anything import JSON, TEXT
from tests.properties.trying import fewer
from tests.support.attempt import attempt
from tests.support.clock import ManualClock

SECRET = "hush-hush-hush"
SECRET_FIELDS = ("keyfile_dict", "credential_config_file", "proxies")
PREFIX = "extra__google_cloud_platform__"

WITH_SECRET = st.one_of(
    st.just({"private_key": SECRET}),
    st.just(json.dumps({"type": "service_account", "private_key": SECRET})),
    st.just({"type": "external_account", "credential_source": {"headers": [{"a": SECRET}]}}),
    st.text(max_size=4).map(lambda text: f'{{"private_key": "{SECRET}"{text}'),
    st.text(max_size=4).map(lambda text: f"{text}[{SECRET}"),
    st.dictionaries(st.text(max_size=6), st.just(SECRET), max_size=2),
    st.lists(st.just(SECRET), max_size=2),
    TEXT.map(lambda text: {"https": f"http://user:{SECRET}{text}@127.0.0.1:1"}),
    TEXT.map(lambda text: {"https": f"http://{text}:{SECRET}@[::1"}),
    st.recursive(
        st.just(SECRET),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
        max_leaves=4,
    ).filter(lambda value: value != SECRET),
)
LIKELY = st.sampled_from(
    [
        *(
            "http://127.0.0.1",
            "http://127.0.0.1:1/",
            "https://[",
            "https://a:99999",
            "https://\ud800",
            "v1",
            "V1",
            "1e400",
        ),
        *(
            "{}",
            "[]",
            ",",
            "true",
            "no",
            "1",
            "0.0",
            "-1",
            "a@b.example",
            "https://x/y",
            "https://ⅷ.example",
            "/no\0file",
        ),
        *(1e-300, 5e-324, 1e308, 1e300, 0.001, 10**400, True, "http://127.0.0.1@evil.example", "https://" + "a" * 70),
    ]
)
EXTRAS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(Settings.names(), st.one_of(JSON, LIKELY)),
        **{name: st.one_of(JSON, WITH_SECRET) for name in SECRET_FIELDS},
        **{PREFIX + name: WITH_SECRET for name in SECRET_FIELDS},
        "key_secret_name": JSON,
        "unheard_of": JSON,
    },
)


def assert_sound(settings: Settings) -> None:
    assert settings.api_version in API_VERSIONS
    url = urlsplit(settings.base_url)
    assert url.scheme in ({"http", "https"} if settings.is_loopback else {"https"})
    assert url.hostname
    assert (url.path, url.query, url.fragment, url.username, url.password) == ("", "", "", None, None)
    for number in (settings.read_timeout, settings.connect_timeout, settings.requests_per_second):
        assert math.isfinite(number)
        assert number > 0
        assert math.isfinite(1 / number)
    assert settings.num_retries >= 0
    assert all(isinstance(secret, str) for secret in settings.secrets())
    assert not settings.is_anonymous or settings.is_loopback


def assert_keeps_quiet(error: BaseException | None) -> None:
    """Neither the error nor any that is shown with it tells the secret, in whatever form they are passed on."""
    while error is not None:
        shown = [str(error), repr(error), repr(error.args), "".join(traceback.format_exception(error))]
        if isinstance(error, EarthEngineError):
            shown += [repr(error.__dict__), pickle.dumps(error).decode("latin-1")]
        assert [text for text in shown if SECRET in text] == []
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def without_path(extras: dict[str, Any]) -> dict[str, Any]:
    """What is not JSON but in a field that takes a path is a path, and a path is no secret."""
    return {
        name: value
        for name, value in extras.items()
        if not (
            name.endswith("credential_config_file") and isinstance(value, str) and not value.lstrip().startswith("{")
        )
    }


@given(extras=EXTRAS)
@example({"requests_per_second": 5e-324})
@example({"requests_per_second": 1e-300})
@example({"keyfile_dict": [SECRET]})
@example({"keyfile_dict": f'{{"private_key": "{SECRET}'})
@example({"credential_config_file": f'{{"refresh_token": "{SECRET}"]'})
@example({"credential_config_file": [SECRET]})
@example({"proxies": [SECRET]})
@example({"proxies": {SECRET: "http://proxy.example"}})
@example({"proxies": {"https": [SECRET]}})
@example({"proxies": {"https": f"http://user:{SECRET}\u0439@127.0.0.1:1"}})
def test_any_extras_give_settings_or_a_refusal_that_keeps_secrets(extras: dict[str, Any]) -> None:
    extras = without_path(extras)
    settings, error = attempt(Settings.from_extras, extras, error=InvalidSettingsError)
    if error is not None:
        assert_keeps_quiet(error)
        assert len(str(error)) < 2000
        str(error).encode()
        assert [name for name in extras if name.removeprefix(PREFIX) in str(error)], str(error)
        return
    assert SECRET not in repr(settings)
    assert set(settings.unknown) <= {"unheard_of"}
    assert_sound(settings)


@given(
    name=st.sampled_from(Settings.names()),
    value=st.one_of(JSON, LIKELY, WITH_SECRET),
    prefix=st.sampled_from(["", PREFIX]),
)
def test_any_value_of_one_extra_is_taken_or_refused_by_its_name(name: str, value: Any, prefix: str) -> None:
    settings, error = attempt(Settings.from_extras, {prefix + name: value}, error=InvalidSettingsError)
    if error is not None:
        assert name in str(error)
    else:
        assert_sound(settings)


@given(extras=st.dictionaries(st.one_of(TEXT, st.sampled_from([*Settings.names(), PREFIX])), JSON, max_size=6))
def test_any_json_object_gives_settings_or_a_refusal(extras: dict[str, Any]) -> None:
    settings, error = attempt(Settings.from_extras, extras, error=InvalidSettingsError)
    if error is not None:
        assert str(error)
    else:
        assert_sound(settings)


NOWHERE = "http://127.0.0.1:1"  # nothing listens on port 1
PROXIES = st.one_of(
    TEXT.map(lambda user: f"http://{user}:{SECRET}@127.0.0.1:1"),
    TEXT.map(lambda text: f"http://user:{SECRET}{text}@127.0.0.1:1"),
    TEXT.map(lambda port: f"http://user:{SECRET}@127.0.0.1:{port}"),
    st.sampled_from(
        [f"http://user:{SECRET}@[::1", f"{SECRET}@", f"http://:{SECRET}@", "", f"socks5://{SECRET}@127.0.0.1:1"]
    ),
)


@given(
    extras=EXTRAS.map(lambda extras: {name: value for name, value in extras.items() if "proxies" not in name}),
    proxies=st.one_of(st.none(), st.dictionaries(st.sampled_from(["http", "all", "no_proxy"]), PROXIES)),
)
@example({"requests_per_second": 1e-3}, None)
@example({}, {"http": f"http://user:{SECRET}@[::1"})
@example({}, {"http": f"http://user:{SECRET}\u0439@127.0.0.1:1"})
@example({}, {"http": f"http://user:{SECRET}%D0%B9@127.0.0.1:1"})
@fewer(one_in=3)
def test_any_settings_make_a_client_that_meets_errors_of_ours(
    extras: dict[str, Any], proxies: dict[str, str] | None
) -> None:
    given_ = {"is_anonymous": True} | without_path(extras) | {"base_url": NOWHERE, "num_retries": 1, "proxies": proxies}
    settings, error = attempt(Settings.from_extras, given_, error=EarthEngineError)
    identity: Any = None
    if error is None:
        identity, error = attempt(load_credentials, settings, error=EarthEngineError)
    if error is not None:
        assert_keeps_quiet(error)
        return
    with connect(settings, identity.credentials, clock=ManualClock()) as client:
        for _ in range(2):
            with pytest.raises(EarthEngineError) as caught:
                client.get_operation("projects/one/operations/A")
            assert_keeps_quiet(caught.value)
