"""Every path of the package, with every kind of credentials, in every weather: none of the secrets is left anywhere."""

from __future__ import annotations

import pytest

from tests.secrets.conftest import Run
from tests.secrets.paths import PATHS
from tests.secrets.planted import CREDENTIALS
from tests.support.echoing import Weather
from tests.support.secret_search import Search


@pytest.mark.parametrize("path", PATHS)
def test_no_secret_is_left_in_any_weather(path: str, run: Run, search: Search) -> None:
    found = {weather.name: search.found_in(run(path, "keyfile_dict", weather).left) for weather in Weather}
    assert {where: what for where, what in found.items() if what} == {}
    planted = {"the private key", "the private key's id", "the proxy's password", "the proxy's password as written"}
    assert search.planted == planted | (set() if path == "operator: validate only" else {"an access token"})


@pytest.mark.parametrize("credentials", CREDENTIALS)
def test_no_secret_is_left_of_any_credentials(credentials: str, run: Run, search: Search) -> None:
    found = {
        (path, weather.name): search.found_in(run(path, credentials, weather).left)
        for path in ("hook: get", "hook: connection test", "operator: select")
        for weather in (Weather.FINE, Weather.TOKEN_REFUSED, Weather.TOKEN_BROKEN, Weather.API_BROKEN)
    }
    assert {where: what for where, what in found.items() if what} == {}
