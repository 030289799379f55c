"""`tawara key`: output, refusals, and secrets that are never printed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tawara import cli
from tawara.cli.first_run import prepare_directory
from tawara.metadata import access_keys
from tawara.metadata.open import open_metadata
from tawara.model.errors import Exit
from tawara.store.key_file import KeyFile
from tawara.wire.installation_key import open_sealed


class Store:
    """The directory of a store on which commands are run."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory, self._capsys = directory, capsys

    def run(self, *words: str, expect: int = Exit.OK) -> tuple[str, str]:
        """Run `tawara key …`; return standard output and standard error."""
        self._capsys.readouterr()
        assert cli.main(["key", *words, "-c", str(self.directory / "tawara.toml")]) == expect
        printed = self._capsys.readouterr()
        return printed.out, printed.err

    def read(self, *words: str) -> list[dict[str, Any]]:
        """Run `tawara key … --json`; return the objects."""
        return [json.loads(line) for line in self.run(*words, "--json")[0].splitlines()]

    @property
    def key_file(self) -> KeyFile:
        return KeyFile(self.directory / "keys.key")


@pytest.fixture
def store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Store:
    """A store as created by the first run of `tawara up`."""
    import asyncio

    prepare_directory(tmp_path, [])

    async def make() -> None:
        await (await open_metadata(f"sqlite://{tmp_path}/tawara.db")).close()

    asyncio.run(make())
    return Store(tmp_path, capsys)


def test_the_secret_is_shown_once(store: Store) -> None:
    """Creation prints id, secret and account; no other command prints the secret, and the database does not contain
    it."""
    (made,) = store.read("create", "app", "--domain", "photos=rw", "--domain", "logs-*=r", "--expires", "90d")
    assert made["account"] == "app"
    assert re.fullmatch(r"TW[A-Z2-7]{18}", made["id"])
    assert re.fullmatch(r"[A-Za-z0-9]{40}", made["secret"])
    assert made["grants"] == ["photos=rw", "logs-*=r"]
    assert made["expires_at"] - made["created_at"] == 90 * 86_400
    others = [*store.run("list"), *store.run("show", "app"), *store.run("list", "--json"), *store.run("revoke", "app")]
    assert not any(made["secret"] in text for text in others)
    assert "photos=rw, logs-*=r" in others[0]
    for path in store.directory.glob("tawara.db*"):
        assert made["secret"].encode() not in path.read_bytes()


async def _sealed(store: Store) -> list[str]:
    metadata = await open_metadata(f"sqlite://{store.directory}/tawara.db")
    try:
        found = await metadata.read(access_keys.list_all)
    finally:
        await metadata.close()
    keys = store.key_file.load()
    return [open_sealed(keys, each.sealed, owner=each.id) for each in found]


def test_a_table(store: Store) -> None:
    """The text output has the same facts as JSON, also for a key without grants."""
    out, err = store.run("create", "app")
    assert re.search(r"^secret  \w{40}$", out, re.MULTILINE)
    assert "not shown again" in err
    assert "no grants" in err
    assert "grants  -" in store.run("show", "app")[0]
    assert "active" in store.run("list")[0]


def test_revocation(store: Store) -> None:
    """A key is revoked by name or id; a second revocation is no error, and the key stays in the list."""
    ids = [store.read("create", name, "--admin")[0]["id"] for name in ("one", "two")]
    assert store.read("revoke", "one")[0] | {"revoked_at": 0} == store.read("show", "one")[0] | {
        "revoked_at": 0,
        "already": False,
    }
    assert store.read("revoke", ids[0])[0]["already"] is True
    store.run("revoke", ids[1])
    assert [each["state"] for each in store.read("list")] == ["revoked", "revoked"]


REFUSALS = (
    ("show none", Exit.NOT_FOUND, "No access key is named none"),
    ("revoke none", Exit.NOT_FOUND, "tawara key list"),
    ("create app", Exit.CONFLICT, "exists already"),
    ("create office", Exit.CONFLICT, "account named office"),
    ("create x:y", Exit.USAGE, "cannot name"),
    ("create new --domain photos", Exit.USAGE, "DOMAIN=RIGHTS"),
    ("create new --expires soon", Exit.USAGE, "90d"),
    ("create", Exit.USAGE, "create"),
)


def test_refusals(store: Store) -> None:
    """Unknown names, duplicates, bad grants and durations are refused, each with its exit code and a hint."""
    store.run("create", "app")
    store.run("create", "other", "--account", "office")
    for words, expect, said in REFUSALS:
        out, err = store.run(*words.split(), expect=expect)
        assert said in err, words
        assert out == "", words
    assert [each["name"] for each in store.read("list")] == ["app", "other"]


def test_the_key_file(store: Store) -> None:
    """A missing, open or different key file is named in the error; secrets can be sealed with a new key."""
    import asyncio

    path = store.key_file.path
    secret = store.read("create", "app")[0]["secret"]
    text = path.read_text()
    path.chmod(0o644)
    assert "chmod 600" in store.run("create", "two", expect=Exit.USAGE)[1]
    path.unlink()
    assert "does not exist" in store.run("create", "two", expect=Exit.USAGE)[1]
    store.run("reseal", "--new-key")
    assert "not the key file" in store.run("create", "two", expect=Exit.USAGE)[1]
    assert "secret of app" in store.run("reseal", expect=Exit.USAGE)[1]
    path.write_text(text)
    store.run("reseal", "--new-key")
    assert len(store.key_file.load()) == 2
    assert store.read("reseal")[0]["resealed"] == 1
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    assert len(store.key_file.load()) == 1
    assert asyncio.run(_sealed(store)) == [secret]
