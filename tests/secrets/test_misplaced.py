"""Credentials that are broken, or in the wrong field: no message, log or error holds them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_eeops.api.settings import FIELDS
from airflow_provider_eeops.exceptions import InvalidInputError
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook
from tests.secrets.planted import Planting
from tests.support.masking import forget_masked_secrets
from tests.support.secret_search import RecordsOfAll, Search, left_by_error
from tests.support.versions import AIRFLOW, READS_NO_BAD_EXTRAS

SetExtras = Callable[[Any], None]

PASTED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "the key file": json.dumps,
    "the key file as an object": lambda key: key,
    "the key file, sorted and cut in the middle": lambda key: json.dumps(key, sort_keys=True)[:1500],
    "the key file, without its beginning": lambda key: json.dumps(key)[60:],
    "the key file in base64": lambda key: base64.b64encode(json.dumps(key).encode()).decode(),
    "the private key": lambda key: key["private_key"],
    "in a list": lambda key: [json.dumps(key)],
    "in a string in a string": lambda key: json.dumps(json.dumps(key)),
    "of another type": lambda key: key | {"type": key["private_key"]},
    "with a broken key": lambda key: key | {"private_key": key["private_key"][:900]},
    "without an account": lambda key: {name: value for name, value in key.items() if name != "client_email"},
    "in a URL": lambda key: f"https://user:{key['private_key_id']}@ee.example",
    "in a plain URL": lambda key: f"http://user:{key['private_key_id']}@ee.example",
    "in a path of a URL": lambda key: f"https://ee.example/{key['private_key_id']}",
}


@pytest.mark.parametrize("pasted", PASTED)
@pytest.mark.usefixtures("masked")
def test_no_secret_is_left_of_what_is_in_any_field(
    *,
    pasted: str,
    planting: Planting,
    search: Search,
    set_extras: SetExtras,
    records: RecordsOfAll,
    capfd: pytest.CaptureFixture[str],
) -> None:
    key = planting.key()
    value = PASTED[pasted](key)
    refused = 0
    for field in FIELDS:
        records.records.clear()
        forget_masked_secrets()
        set_extras(planting.extras | {"keyfile_dict": key, field.name: value})
        with EarthEngineOperationsHook() as hook:
            found = list(hook.test_connection())
            try:
                hook.get_operation("projects/one/operations/NONE")
            except Exception as error:  # noqa: BLE001 - any error is what is looked into
                refused += isinstance(error, InvalidInputError)
                found += left_by_error(error)
            found += [str(hook), repr(hook)]
        out = capfd.readouterr()
        assert search.found_in([*map(str, found), *records.texts(), out.out, out.err]) == [], field.name
    assert refused > len(FIELDS) // 2


@pytest.mark.parametrize(
    "contents", ["the key file, sorted and cut in the middle", "the private key", "with a broken key"]
)
@pytest.mark.parametrize("name", ["key_path", "credential_config_file", "GOOGLE_APPLICATION_CREDENTIALS"])
@pytest.mark.usefixtures("masked")
def test_no_secret_is_left_of_a_broken_file(
    *,
    name: str,
    contents: str,
    planting: Planting,
    search: Search,
    set_extras: SetExtras,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = planting.file(PASTED[contents](planting.key()))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", path)
    set_extras({"base_url": planting.base_url} | ({} if name.isupper() else {name: path}))
    hook = EarthEngineOperationsHook()
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one is tested elsewhere
        hook.get_conn()
    assert search.found_in(left_by_error(caught.value)) == []


@pytest.mark.skipif((3, 0) <= AIRFLOW <= (3, 1), reason=READS_NO_BAD_EXTRAS)
@pytest.mark.parametrize("cut", [50, 700, 1500])
@pytest.mark.usefixtures("masked")
def test_no_secret_is_left_of_extras_that_are_cut(
    cut: int, planting: Planting, search: Search, set_extras: SetExtras
) -> None:
    set_extras(json.dumps({"keyfile_dict": planting.key()})[:cut])
    with pytest.raises(InvalidInputError, match="not a JSON object") as caught:
        _ = EarthEngineOperationsHook().settings
    assert search.found_in(left_by_error(caught.value)) == []
