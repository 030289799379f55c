"""put, get, ls, rm, info and status against a real store, as an operator or a script calls them."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tawara import cli
from tawara.client import Client
from tests.acceptance.cluster import Cluster, run

HOUR = 3600 * 10**9


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A store with one host that the commands find by TAWARA_TRACKERS."""
    with run(tmp_path_factory.mktemp("store"), hosts=1) as started:
        monkeypatch.setenv("TAWARA_TRACKERS", started.trackers)
        yield started


def _age(directory: Path) -> None:
    """Make the files of a tree an hour old."""
    for path in directory.rglob("*"):
        before = path.stat().st_mtime_ns - HOUR
        os.utime(path, ns=(before, before))


def _lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory tree with unusual names."""
    root = tmp_path / "tree"
    names = [
        "plain",
        "with blank",
        "a+b%2F&=",
        "俵/米",
        "deep/er/and/deeper",
        "new\nline",
        "-dash",
        ".hidden",
        "emp/ty",
    ]
    for name in [*map(os.fsencode, names), b"not utf-8 \xff\xfe"]:
        path = os.path.join(os.fsencode(root), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(b"" if name == b"emp/ty" else name * 100)
    os.mkfifo(root / "pipe")
    (root / "link").symlink_to("plain")
    (root / "loop").symlink_to(".")
    _age(root)
    return root


def _content(root: Path) -> dict[bytes, bytes]:
    return {
        os.fsencode(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and "loop" not in path.relative_to(root).parts
    }


def test_a_tree_round_trips(store: Cluster, tree: Path, tmp_path: Path) -> None:
    """A tree with unusual names is restored: links to files as files, no pipes, no linked directories."""
    assert cli.main(["put", "-r", f"{tree}/", "d/backup"]) == 0
    assert cli.main(["get", "-r", "d/backup/", str(tmp_path / "out")]) == 0
    assert _content(tmp_path / "out") == _content(tree)
    assert cli.main(["get", "-r", "d/backup", str(tmp_path / "more")]) == 0
    assert _content(tmp_path / "more" / "backup") == _content(tree)


def test_unchanged_files_are_skipped(
    store: Cluster, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second put or get transfers only what has changed, also when asked to compare checksums."""

    def outcomes(*words: str) -> dict[str, int]:
        assert cli.main([*words, "--json"]) == 0
        found: dict[str, int] = {}
        for each in _lines(capsys):
            found[str(each["outcome"])] = found.get(str(each["outcome"]), 0) + 1
        return found

    for number in range(20):  # enough for the keys to be listed first
        (tree / f"more{number}").write_bytes(b"x" * number)
    _age(tree)
    count = len(_content(tree))
    put, get = ("put", "-r", str(tree), "d/"), ("get", "-r", "d/tree/", str(tmp_path / "out"))
    assert outcomes(*put) == {"stored": count}
    assert outcomes(*put) == {"skipped": count}
    assert outcomes(*get) == {"fetched": count}
    assert outcomes(*get) == {"skipped": count}
    assert outcomes("put", "-r", f"{tmp_path}/out/", "d/tree/") == {"skipped": count}
    (tree / "more5").write_bytes(b"other")  # as many bytes as before, and an older time
    os.utime(tree / "more5", ns=(1, 1))
    assert outcomes(*put) == {"skipped": count - 1, "stored": 1}
    assert outcomes(*put) == {"skipped": count}
    assert outcomes(*get) == {"fetched": 1, "skipped": count - 1}
    assert outcomes(*put, "--class", "md5", "--force") == {"stored": count}
    assert outcomes(*put, "--checksum") == {"skipped": count}
    (tree / "plain").write_bytes(b"PLAIN" * 100)  # as many bytes as before, and an older time
    os.utime(tree / "plain", ns=(1, 1))
    assert outcomes(*put, "--checksum", "--class", "md5") == {"skipped": count - 2, "stored": 2}  # and its link
    (tmp_path / "out" / "plain").write_bytes(b"spoil" * 100)
    assert outcomes(*get, "--checksum") == {"fetched": 2, "skipped": count - 2}
    assert _content(tmp_path / "out") == _content(tree)


def test_keys_outside_of_the_directory_are_refused(
    store: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """get -r writes nothing outside of its directory, by `..` or through a link, and names the keys it skipped."""
    bad = ["../out", "a/../../out", "/out", "a//b", "a/./b", "dir/", "link/out"]
    with Client(store.trackers) as client:
        for key in [*bad, "good"]:
            client.put("d", f"p/{key}", b"x")
    target = tmp_path / "into"
    target.mkdir()
    (target / "link").symlink_to(tmp_path)
    assert cli.main(["get", "-r", "d/p/", str(target), "--json"]) == 1
    outcomes = {each["key"]: each["outcome"] for each in _lines(capsys)}
    assert outcomes == {f"p/{key}": "failed" for key in bad} | {"p/good": "fetched"}
    assert sorted(os.listdir(tmp_path)) == ["into"]
    assert sorted(os.listdir(target)) == ["good", "link"]


def test_unreadable_files_are_skipped_and_named(
    store: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """put -r continues after a directory that it may not read, names it, stores the rest, and exits with 1."""
    for name in ("a/x", "b/y", "c/z"):
        (tmp_path / "tree" / name).parent.mkdir(parents=True)
        (tmp_path / "tree" / name).write_bytes(b"x")
    scandir = os.scandir

    def refusing(path: str) -> object:
        if path.endswith("/b"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)  # root reads everything
    assert cli.main(["put", "-r", str(tmp_path / "tree"), "d/"]) == 1
    assert capsys.readouterr().err == f"{tmp_path}/tree/b: Permission denied\n"
    with Client(store.trackers) as client:
        assert list(client.list_keys("d")) == ["tree/a/x", "tree/c/z"]
    assert cli.main(["put", "-r", str(tmp_path / "tree"), "d/", "--json"]) == 1
    assert [each["outcome"] for each in _lines(capsys)] == ["skipped", "skipped", "failed"]


@pytest.mark.parametrize("others", [0, 1])
def test_a_file_that_changes_during_its_upload(
    others: int, store: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that grows, or is written to, during put is named and not skipped later; the command exits with 1."""
    growing, other = tmp_path / "growing.log", tmp_path / "other"
    growing.write_bytes(b"x" * 5_000_000)
    other.write_bytes(b"x")
    opened, change = Path.open, [b"y", b""]

    def opening(path: Path, *args: object, **options: object) -> object:
        if path == growing and change:
            with opened(path, "ab") as file:
                file.write(change.pop(0))
            os.utime(path, ns=(len(change), len(change)))
        return opened(path, *args, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", opening)
    words = ["put", str(growing), *[str(other)] * others, "d/"]
    for _ in range(2):
        assert cli.main(words) == 1
        assert f"{growing} changed while it was read" in capsys.readouterr().err
    assert cli.main(words) == 0
    with Client(store.trackers) as client:
        assert client.info("d", "growing.log").length == 5_000_001


def test_one_file(store: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is stored under its key, or below a prefix; it is fetched to a file, a directory, or over an existing
    file."""
    monkeypatch.chdir(tmp_path)
    Path("cat.jpg").write_bytes(b"cat")
    Path("there").mkdir()
    assert cli.main(["put", "cat.jpg", "d/p/"]) == 0
    assert cli.main(["put", "cat.jpg", "d/dog.jpg"]) == 0
    assert cli.main(["get", "d/dog.jpg"]) == 0
    assert cli.main(["get", "d/p/cat.jpg", "there"]) == 0
    assert cli.main(["get", "d/p/cat.jpg", "other.jpg"]) == 0
    assert {path: Path(path).read_bytes() for path in ("dog.jpg", "there/cat.jpg", "other.jpg")} == {
        "dog.jpg": b"cat",
        "there/cat.jpg": b"cat",
        "other.jpg": b"cat",
    }


def _tawara(*words: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "tawara", *words], input=data, capture_output=True, timeout=60)


@pytest.mark.slow
def test_standard_input_and_output(store: Cluster, tmp_path: Path) -> None:
    """`-` is standard input (a pipe or a file) and output; a reader that disconnects ends the command quietly."""
    data = os.urandom(3_000_000)
    assert _tawara("put", "-", "d/k", data=data).returncode == 0
    assert _tawara("get", "d/k", "-").stdout == data
    (tmp_path / "file").write_bytes(data[:1_000_001])
    with open(tmp_path / "file", "rb") as file:
        subprocess.run([sys.executable, "-m", "tawara", "put", "-", "d/f"], stdin=file, check=True, timeout=60)
    assert _tawara("get", "d/f", "-").stdout == data[:1_000_001]
    gone = subprocess.run(
        f"{shlex.quote(sys.executable)} -m tawara get d/k - | head -c 10 | wc -c; echo ${{PIPESTATUS[0]}}",
        shell=True, executable="/bin/bash", capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (gone.stdout.split(), gone.stderr) == (["10", "141"], "")
    assert _tawara("put", "-", "d/", data=data).returncode == 2


def test_lists(store: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """ls shows domains, keys, and with -l the metadata of each; a prefix without keys is an error."""
    with Client(store.trackers) as client:
        for key in ("a", "p/x", "p/y"):
            client.put("d", key, b"12345")
    assert cli.main(["ls"]) == 0
    assert capsys.readouterr().out == "d\n"
    assert cli.main(["ls", "d/p/"]) == 0
    assert capsys.readouterr().out == "p/x\np/y\n"
    assert cli.main(["ls", "-l", "d", "--json"]) == 0
    assert [(each["key"], each["size"], each["class"]) for each in _lines(capsys)] == [
        ("a", 5, "default"), ("p/x", 5, "default"), ("p/y", 5, "default"),
    ]  # fmt: skip
    assert cli.main(["ls", "d/q"]) == 3
    assert cli.main(["ls", "nowhere"]) == 3
    assert "Domains: d." in capsys.readouterr().err


def test_deleting(store: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """rm deletes the named keys; a prefix only with -r, and after confirmation; --dry-run deletes nothing."""
    with Client(store.trackers) as client:
        for key in ("a", "p/x", "p/y"):
            client.put("d", key, b"")
        assert cli.main(["rm", "d"]) == 2
        assert cli.main(["rm", "d/nothing"]) == 3
        assert cli.main(["rm", "-r", "d/p/"]) == 2
        capsys.readouterr()
        assert cli.main(["rm", "-r", "--dry-run", "d/p/"]) == 0
        assert capsys.readouterr().out == "d/p/x\nd/p/y\n"
        assert list(client.list_keys("d")) == ["a", "p/x", "p/y"]
        assert cli.main(["rm", "-r", "--yes", "d/p/"]) == 0
        assert list(client.list_keys("d")) == ["a"]
        assert cli.main(["rm", "d/a"]) == 0
        assert list(client.list_keys("d")) == []


def test_a_missing_domain_is_an_error(store: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A command that needs a domain and has none lists the existing ones."""
    (tmp_path / "f").write_bytes(b"")
    for words in (["info", "d"], ["get", "d"], ["explain", "d/"]):
        assert cli.main(words) == 2
        assert "d is a domain, not a file. Write DOMAIN/KEY" in capsys.readouterr().err
    assert cli.main(["info", "nowhere"]) == 3
    for words in (["put", str(tmp_path / "f")], ["get"], ["info"], ["put", str(tmp_path / "f"), "/k"]):
        assert cli.main(words) == 2
        assert "Domains: d." in capsys.readouterr().err
    assert cli.main(["put", str(tmp_path / "f"), "nowhere/k"]) == 3
    assert "Domains: d." in capsys.readouterr().err


def test_info_checks_the_replicas(store: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """info lists every replica and its fault, also by its exit code."""
    with Client(store.trackers) as client:
        fid = client.put("d", "k", b"12345").fid
    assert cli.main(["info", "d/k", "--json"]) == 0
    (found,) = _lines(capsys)
    assert found["size"] == 5
    assert '"state": "ok"' in json.dumps(found["replicas"])
    (path,) = store.replicas(fid)
    path.unlink()
    assert cli.main(["info", "d/k"]) == 7
    assert "missing" in capsys.readouterr().out
    assert cli.main(["info", "d/nothing"]) == 3


def test_status_reports_problems(store: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """status exits with 0 when all is well, 1 with messages when something is not, 6 when no tracker responds."""
    assert cli.main(["status"]) == 0
    assert "All is well." in capsys.readouterr().out
    assert cli.main(["device", "change", "dev2", "--state", "drain"]) == 0
    assert cli.main(["status"]) == 0
    assert "All is well.\nnote: Device dev2 on h1 is drain.\n" in capsys.readouterr().out
    assert cli.main(["device", "change", "2", "--state", "down"]) == 0
    assert cli.main(["status", "--json"]) == 1
    assert _lines(capsys)[0]["problems"] == ["Device dev2 on h1 is down"]
    both = f"{store.trackers},127.0.0.1:1"
    assert cli.main(["status", "--tracker", both]) == 1
    assert "127.0.0.1:1" in capsys.readouterr().out
    assert cli.main(["status", "--tracker", "127.0.0.1:1"]) == 6


def test_copies(store: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """cp copies one file to a key, several below a prefix, and with -r a whole prefix; each result is one JSON line."""
    with Client(store.trackers) as client:
        for key in ("a", "dir/b", "dir/sub/c"):
            client.put("d", key, key.encode(), storage_class="one")
        assert cli.main(["cp", "d/a", "d/copy", "--json", "--class", "md5"]) == 0
        (line,) = _lines(capsys)
        assert line == {
            "outcome": "copied", "file": "d/a", "domain": "d", "key": "copy", "size": 1,
            "fid": client.info("d", "copy").fid,
        }  # fmt: skip
        assert client.info("d", "copy").storage_class == "md5"
        assert cli.main(["cp", "d/a", "d/dir/b", "d/two/", "-v"]) == 0
        assert capsys.readouterr().out == "copied d/two/a\ncopied d/two/b\n"
        assert cli.main(["cp", "-r", "d/dir/", "d/again"]) == 0
        assert list(client.list_keys("d", "again")) == ["again/b", "again/sub/c"]
        assert client.get("d", "again/sub/c") == b"dir/sub/c"
        for words, code in (
            (["d/a", "d/a"], 2),
            (["d/a", "d/dir/b", "d/two"], 0),
            (["d/a"], 2),
            (["d/nothing", "d/x"], 3),
            (["-r", "d/nothing", "d/x"], 3),
            (["d/a", "nowhere/x"], 3),
            (["d/a", "d/x", "--class", "nowhere"], 3),
            (["d", "d/x"], 2),
        ):
            assert cli.main(["cp", *words]) == code, words
            assert code == 0 or capsys.readouterr().err.startswith("tawara")
        assert cli.main(["cp", "d/a", "d/nothing", "d/more/", "--json"]) == 1
        assert [each["outcome"] for each in _lines(capsys)] == ["copied", "failed"]


def test_operator_commands(store: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """Domains, classes, hosts, devices and settings are created, shown, changed and removed."""
    for words in (
        "domain add photos",
        "class add photos thumbs --copies 1 --hash CRC32C",
        "class change photos thumbs --policy MultipleDevices()",
        "host add h9 --ip 127.0.0.9 --port 7509 --state down",
        "host change h9 --get-port 7510",
        "device add 99 --host h9",
        "device change 99 --weight 50",
        "settings set skip_mkcol 1",
    ):
        assert cli.main(words.split()) == 0, capsys.readouterr().err
    shown = {}
    for words in ("domain list", "class list photos", "host list", "device list", "settings list"):
        assert cli.main([*words.split(), "--json"]) == 0
        shown[words] = _lines(capsys)
    assert shown["domain list"][1] == {"domain": "photos", "classes": ["default", "thumbs"]}
    assert shown["class list photos"][1] == {
        "domain": "photos", "class": "thumbs", "copies": 1, "policy": "MultipleDevices()", "hash": "CRC32C",
    }  # fmt: skip
    assert shown["host list"][1]["http_get_port"] == 7510
    assert (shown["device list"][2]["devid"], shown["device list"][2]["weight"]) == (99, 50)
    listed = {each["setting"]: each for each in shown["settings list"]}
    assert (listed["skip_mkcol"]["value"], listed["skip_mkcol"]["set"]) == ("1", True)
    assert (listed["tawara_scrub_period"]["value"], listed["tawara_scrub_period"]["set"]) == ("30d", False)
    assert "schema_version" not in listed
    for words, code, said in (
        ("get tawara_scrub_period", 0, "30d"),
        ("get schema_version", 0, "17"),
        ("get skip_mkcool", 3, "no setting 'skip_mkcool'; is 'skip_mkcol' meant?"),
        ("set tawara_rate_nonsense 1", 2, "no setting 'tawara_rate_nonsense'"),
        ("set queue_rate_for_fsck abc", 2, "a whole number"),
    ):
        assert cli.main(["settings", *words.split()]) == code
        captured = capsys.readouterr()
        assert said in captured.out + captured.err
    assert cli.main(["host", "remove", "h9"]) == 4
    assert cli.main(["class", "remove", "photos", "thumbs"]) == 0
    assert cli.main(["domain", "remove", "photos"]) == 0
    assert cli.main(["domain", "remove", "photos"]) == 3


@pytest.mark.slow
def test_ctrl_c_ends_a_command(store: Cluster) -> None:
    """Ctrl-C in the middle of an upload ends it at once with 130 and one line, and nothing is stored."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tawara", "put", "-", "d/k"], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(b"x" * 5_000_000)  # returns when the command has taken nearly all of it
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    assert process.wait(20) == 130
    assert time.monotonic() - began < 5
    assert process.stderr is not None
    assert process.stderr.read() == b"tawara: interrupted.\n"
    process.stdin.close()
    process.stderr.close()
    with Client(store.trackers) as client:
        assert not client.exists("d", "k")
