"""`tawara settings`, against a client that returns fixed values."""

from __future__ import annotations

import json

import pytest

from tawara.cli import settings
from tawara.model.settings import SETTINGS
from tests.unit.cli.fake_session import FakeSession

FOUND = {"skip_mkcol": "1", "queue_rate_for_fsck": "", "schema_version": "17"}


class _Client:
    async def settings(self) -> dict[str, str]:
        return dict(FOUND)

    async def setting(self, key: str) -> str:
        return FOUND.get(key, "")


def _session(*, as_json: bool = False) -> FakeSession:
    return FakeSession(json=as_json, fake=_Client())


async def _listed(capsys: pytest.CaptureFixture[str], *, state: bool = False) -> list[dict[str, object]]:
    await settings.show(state=state, session=_session(as_json=True))
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


async def test_json_distinguishes_values_from_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    """A setting in the database has its value, also an empty one, and `set`; any other has its default."""
    by_name = {each["setting"]: each for each in await _listed(capsys)}
    assert {each.name for each in SETTINGS} <= by_name.keys()
    assert (by_name["skip_mkcol"]["value"], by_name["skip_mkcol"]["set"]) == ("1", True)
    assert (by_name["queue_rate_for_fsck"]["value"], by_name["queue_rate_for_fsck"]["set"]) == ("", True)
    unset = next(each for each in SETTINGS if each.name not in FOUND and each.default)
    assert (by_name[unset.name]["value"], by_name[unset.name]["set"]) == (unset.default, False)


@pytest.mark.parametrize("state", [False, True])
async def test_internal_state_is_listed_on_request(capsys: pytest.CaptureFixture[str], state: bool) -> None:
    """Rows that are not settings are listed with --state only, as text and as JSON."""
    listed = await _listed(capsys, state=state)
    assert [each for each in listed if "state" in each] == [{"state": "schema_version", "value": "17"}] * state
    await settings.show(state=state, session=_session())
    assert ("schema_version" in capsys.readouterr().out) is state


async def test_the_table_has_a_hyphen_for_a_default(capsys: pytest.CaptureFixture[str]) -> None:
    """The column VALUE has the value of the database, or a hyphen; DEFAULT has a hyphen if there is no default."""
    await settings.show(session=_session())
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    values = {row[0]: row[1:3] for row in rows}
    assert values["skip_mkcol"][0] == "1"
    for each in SETTINGS:
        if each.name not in FOUND:
            assert values[each.name] == ["-", each.default.split()[0] if each.default else "-"]


@pytest.mark.parametrize(
    ("key", "value"),
    [("skip_mkcol", "1"), ("schema_version", "17"), *((each.name, each.default) for each in SETTINGS[:3])],
)
async def test_get_prints_the_value_or_the_default(capsys: pytest.CaptureFixture[str], key: str, value: str) -> None:
    """`get` prints the value, otherwise the default; also for a row that is not a setting."""
    await settings.get(key, session=_session())
    assert capsys.readouterr().out == f"{FOUND.get(key) or value}\n"
    await settings.get(key, session=_session(as_json=True))
    assert json.loads(capsys.readouterr().out) == {key: FOUND.get(key) or value}


async def test_get_refuses_an_unknown_name() -> None:
    """`get` of a name that is neither a setting nor in the database raises NoSetting."""
    with pytest.raises(settings.NoSetting):
        await settings.get("no_such_setting", session=_session())
