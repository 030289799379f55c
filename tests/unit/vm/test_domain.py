"""What is done with a guest's domain in each state; virsh is an object of the test that records its commands."""

from __future__ import annotations

import base64
import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tawara.model.errors import NotFoundError
from tawara.vm import agent, domain, virsh
from tawara.vm.agent import Agent, CommandResult
from tawara.vm.domain import GuestDomain, snapshot_together
from tawara.vm.errors import HostError, SwitchedOffError
from tawara.vm.virsh import Situation


class _Virsh:
    """Replies to commands by their first word, and follows the state of a domain through them."""

    def __init__(self, state: Situation, **replies: str) -> None:
        self.state: Situation = state
        self.replies = replies
        self.fails: set[str] = set()
        self.ignores: set[str] = set()
        self.calls: list[str] = []

    def __call__(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        self.calls.append(" ".join((words[0], *words[2:])))
        word = words[0]
        failed = word in self.fails
        if failed and check:
            raise HostError(f"{word} failed")
        after: dict[str, Situation] = {"start": "running", "destroy": "off", "resume": "running", "shutdown": "off"}
        if not failed and word not in self.ignores:
            self.state = after.get(word, self.state)
        return subprocess.CompletedProcess([], int(failed), self.replies.get(word, ""), "error: no")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[GuestDomain, _Virsh]]:
    """Makes a domain in a state, with the replies of virsh."""

    def make(state: Situation, **replies: str) -> tuple[GuestDomain, _Virsh]:
        fake = _Virsh(state, **({"snapshot-list": "one\ntwo\n"} | replies))
        monkeypatch.setattr(domain, "virsh", fake)
        monkeypatch.setattr(domain, "situation", lambda *_: fake.state)
        monkeypatch.setattr(domain, "has_foreign_disk", lambda *_: "foreign disk" in fake.fails)
        monkeypatch.setattr(domain, "POLL_SECONDS", 0)
        (tmp_path / "off").touch()
        return GuestDomain("web", tmp_path), fake

    return make


Made = Callable[..., tuple[GuestDomain, _Virsh]]


@pytest.mark.parametrize(
    ("state", "calls"),
    [
        ("off", ["start"]), ("saved", ["start"]), ("paused", ["resume"]), ("io-error", ["resume"]),
        ("asleep", ["dompmwakeup"]), ("crashed", ["destroy", "start"]), ("running", []),
    ],
)  # fmt: skip
def test_start_makes_it_run(made: Made, tmp_path: Path, state: Situation, calls: list[str]) -> None:
    """Each state has its way to run, and a started guest is started with the host from now on."""
    guest, fake = made(state)
    guest.start()
    assert fake.calls == calls
    assert not (tmp_path / "off").exists()


@pytest.mark.parametrize(
    ("state", "reason"), [("foreign", "another domain that is called web"), ("absent", "does not know web")]
)
def test_what_is_not_ours_is_left_alone(made: Made, tmp_path: Path, state: Situation, reason: str) -> None:
    """A domain that is absent or of another owner is neither started nor kept nor restored."""
    guest, fake = made(state)
    for act in (guest.start, lambda: guest.snapshot("s"), lambda: guest.restore("one")):
        with pytest.raises(HostError, match=reason):
            act()
    assert (fake.calls, guest.snapshots()) == ([], [])
    assert (tmp_path / "off").exists()
    if state == "foreign":
        with pytest.raises(HostError, match=reason):
            guest.stop(force=True, seconds=0)


def test_a_guest_that_does_not_end_its_shutdown(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """`start` of a guest that is shutting down waits for the end; one that does not come is an error with advice."""
    guest, fake = made("shutting-down")
    monkeypatch.setattr(guest, "_wait_until_off", lambda seconds: seconds >= 60)
    guest.start()
    assert fake.calls == ["start"]
    guest, fake = made("shutting-down")
    monkeypatch.setattr(guest, "_wait_until_off", lambda _: False)
    with pytest.raises(HostError, match="does not come to its end"):
        guest.start()


def test_a_disk_that_stays_full(made: Made) -> None:
    """A guest that was paused by an error of its disk, and is so again at once, is an error with advice."""
    guest, fake = made("io-error")
    fake.ignores.add("resume")
    with pytest.raises(HostError, match="stays paused"):
        guest.start()


@pytest.mark.parametrize(
    ("state", "force", "calls", "said"),
    [
        ("off", False, [], "web does not run"), ("off", True, [], "web does not run"),
        ("absent", True, [], "web does not run"), ("saved", False, [], "web does not run: its memory is saved"),
        ("saved", True, ["managedsave-remove"], ""), ("running", False, ["shutdown"], ""),
        ("running", True, ["destroy"], ""), ("crashed", False, ["destroy"], ""),
        ("paused", False, ["resume", "shutdown"], ""), ("io-error", False, ["resume", "shutdown"], ""),
        ("asleep", False, ["dompmwakeup", "shutdown"], ""),
    ],
)  # fmt: skip
def test_stop(made: Made, tmp_path: Path, state: Situation, force: bool, calls: list[str], said: str) -> None:
    """Each state has its way to be off, without loss unless it is forced; it stays off with the host."""
    guest, fake = made(state)
    (tmp_path / "off").unlink()
    result = guest.stop(force=force, seconds=5)
    assert result.startswith(said)
    assert bool(result) is bool(said)
    assert fake.calls == calls
    assert (tmp_path / "off").exists()


@pytest.mark.parametrize("state", ["running", "shutting-down"])
def test_a_guest_that_does_not_shut_down_is_switched_off(made: Made, tmp_path: Path, state: Situation) -> None:
    """After the given time it is switched off, which is reported as an error; a second request is not sent."""
    guest, fake = made(state)
    (tmp_path / "off").unlink()
    fake.ignores.add("shutdown")
    with pytest.raises(SwitchedOffError, match="within 0 s"):
        guest.stop(force=False, seconds=0)
    assert fake.calls == (["shutdown"] if state == "running" else []) + ["destroy"]
    assert (tmp_path / "off").exists()


@pytest.mark.parametrize("state", ["saved", "shutting-down", "crashed", "io-error", "asleep"])
def test_states_that_cannot_be_kept(made: Made, state: Situation) -> None:
    """A snapshot of a guest in these states is refused with the reason."""
    guest, fake = made(state)
    with pytest.raises(HostError, match="cannot be kept now: "):
        guest.snapshot("s")
    assert fake.calls == []


@pytest.mark.parametrize("name", ["", "-s", ".s", "a/b", "a b", "x" * 64])
def test_names_of_snapshots(made: Made, name: str) -> None:
    """A name that libvirt or a path could misread is refused."""
    guest, _ = made("off")
    with pytest.raises(HostError, match="no name for a snapshot"):
        guest.snapshot(name)


@pytest.mark.parametrize("state", ["off", "running", "paused"])
def test_a_snapshot_by_libvirt(made: Made, state: Situation) -> None:
    """Without shared directories libvirt keeps disks and memory; a foreign disk on top is refused."""
    guest, fake = made(state)
    assert guest.snapshot("s" * 63) == ""
    assert fake.calls[-1] == f"snapshot-create-as {'s' * 63}"
    fake.fails.add("foreign disk")
    for act in (lambda: guest.snapshot("s"), lambda: guest.restore("one"), lambda: guest.delete_snapshot("one")):
        with pytest.raises(HostError, match="snapshot outside Tawara"):
            act()


_SHARED = "<domain><devices><filesystem type='mount'/></devices></domain>"
_DISKS = (
    "<domain><devices><disk><driver type='qcow2'/><target dev='vda'/></disk>"
    "<disk><driver type='raw'/><target dev='vdb'/></disk><filesystem type='mount'/></devices></domain>"
)
_BLOCKS = {
    "return": [
        {"device": "", "inserted": {"drv": "qcow2", "ro": False, "node-name": "node1"}},
        {"device": "d2", "inserted": {"drv": "qcow2", "ro": False, "node-name": "node2"}},
        {"device": "d3", "inserted": {"drv": "qcow2", "ro": True}},
        {"device": "d4", "inserted": {"drv": "raw", "ro": False}},
        {"device": "d5"},
    ]
}


@pytest.mark.parametrize(
    ("state", "agent_works", "around"),
    [
        ("running", True, ["domfsfreeze", "suspend", "resume", "domfsthaw"]),
        ("running", False, ["domfsfreeze", "suspend", "resume"]),
        ("paused", True, []),
    ],
)
def test_disks_of_a_guest_with_shares(made: Made, state: Situation, agent_works: bool, around: list[str]) -> None:
    """With shared directories the writable qcow2 disks are kept at one moment, the guest halted, files frozen."""
    guest, fake = made(state, dumpxml=_DISKS, **{"qemu-monitor-command": json.dumps(_BLOCKS)})
    if not agent_works:
        fake.fails.add("domfsfreeze")
    assert "without its memory" in guest.snapshot("s")
    done = [call for call in fake.calls if call in ("domfsfreeze", "suspend", "resume", "domfsthaw")]
    assert done == around
    transaction = next(call for call in fake.calls if "transaction" in call)
    actions = json.loads(transaction.partition(" ")[2])["arguments"]["actions"]
    assert [each["data"]["device"] for each in actions] == ["node1", "d2"]
    assert fake.calls[-1].startswith("snapshot-create ")
    assert fake.calls[-1].endswith("--redefine --current")


def test_a_snapshot_that_qemu_refuses(made: Made) -> None:
    """A refusal of QEMU is an error, and the guest runs on; a name is used once."""
    guest, fake = made(
        "running",
        dumpxml=_SHARED,
        **{"qemu-monitor-command": '{"error": {"desc": "no space"}}', "snapshot-list": "one"},
    )
    with pytest.raises(HostError, match="QEMU refused: no space"):
        guest.snapshot("s")
    assert fake.calls[-2:] == ["resume", "domfsthaw"]
    with pytest.raises(HostError, match="has a snapshot 'one' already"):
        guest.snapshot("one")


def test_restore(made: Made, tmp_path: Path) -> None:
    """A restored guest loses its saved memory, and its domain is defined again at the next start."""
    (tmp_path / "applied").mkdir()
    for state, calls in (("off", []), ("saved", ["managedsave-remove"])):
        (tmp_path / "applied" / "domain.defined").touch()
        guest, fake = made(state)
        guest.restore("two")
        assert fake.calls == ["snapshot-list --topological --name", *calls, "snapshot-revert two"]
        assert not (tmp_path / "applied" / "domain.defined").exists()
    for act in (guest.restore, guest.delete_snapshot):
        with pytest.raises(NotFoundError, match="no snapshot 'three'"):
            act("three")
    guest.delete_snapshot("two")
    assert fake.calls[-1] == "snapshot-delete two"


@pytest.mark.parametrize(("state", "halted"), [("running", True), ("paused", False), ("off", False)])
def test_several_at_one_moment(made: Made, state: Situation, halted: bool) -> None:
    """Several guests are halted while they are kept; one alone is not; only what ran is resumed."""
    guest, fake = made(state)
    fake.ignores.add("resume")
    assert guest.pause() is halted
    snapshot_together([guest], "s")
    assert fake.calls.count("suspend") == halted
    fake.calls.clear()
    snapshot_together([guest, guest], "s")
    assert fake.calls.count("suspend") == 2 * halted


def test_all_or_none(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """When one of several cannot be kept, the snapshots of the others are deleted again."""
    guest, fake = made("off", **{"snapshot-list": "s"})
    bad = GuestDomain("bad", guest.instance)
    monkeypatch.setattr(bad, "snapshot", _raise)
    with pytest.raises(HostError):
        snapshot_together([guest, bad], "s")
    assert fake.calls[-1] == "snapshot-delete s"
    assert guest.set_clock() is True
    fake.fails.add("domtime")
    assert guest.set_clock() is False


def _raise(_: str) -> str:
    raise HostError("no")


# --- virsh ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def replies(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[int, str, str]]:
    """Replies of the program virsh, by its command."""
    by_command: dict[str, tuple[int, str, str]] = {}

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[:4] == ["virsh", "--quiet", "--connect", "qemu:///system"]
        words = [word for word in command[4:] if word != "web"]
        return subprocess.CompletedProcess(command, *by_command.get(" ".join(words), (0, "", "")))

    monkeypatch.setattr(virsh, "require", lambda _: None)
    monkeypatch.setattr(subprocess, "run", run)
    return by_command


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("running (booted)", "running"), ("shut off (shutdown)", "off"), ("shut off (saved)", "saved"),
        ("in shutdown (user)", "shutting-down"), ("crashed (panicked)", "crashed"), ("pmsuspended (x)", "asleep"),
        ("paused (user)", "paused"), ("paused (I/O error)", "io-error"), ("blocked (x)", "running"),
    ],
)  # fmt: skip
def test_states_of_libvirt(
    replies: dict[str, tuple[int, str, str]], tmp_path: Path, said: str, expected: Situation
) -> None:
    """Each state of libvirt has its word here; a domain is ours if its UUID is in the guest's folder."""
    replies["domstate --reason"] = (0, f"{said}\n", "")
    replies["list --all --with-managed-save --name"] = (0, "web\n" if "saved" in said else "other\n", "")
    replies["domuuid"] = (0, "some-uuid\n", "")
    assert virsh.situation("web", tmp_path) == "foreign"
    (tmp_path / "applied").mkdir()
    (tmp_path / "applied" / "domain.xml").write_text("<uuid>some-uuid</uuid>")
    assert virsh.situation("web", tmp_path) == expected
    replies["domuuid"] = (1, "", "")
    assert virsh.situation("web", tmp_path) == "foreign"


def test_what_libvirt_does_not_say(replies: dict[str, tuple[int, str, str]], tmp_path: Path) -> None:
    """A domain that libvirt does not list is absent; one that it lists without a state, and silence, are errors."""
    replies["domstate --reason"] = (1, "", "error: no")
    replies["list --all --name"] = (0, "other\n", "")
    assert virsh.situation("web", tmp_path) == "absent"
    replies["list --all --name"] = (0, "other\nweb\n", "")
    assert virsh.defined() == {"other", "web"}
    with pytest.raises(HostError, match="does not say what state"):
        virsh.situation("web", tmp_path)
    replies["list --all --name"] = (1, "", "error: failed to connect\n")
    with pytest.raises(HostError, match="libvirt does not answer: failed to connect"):
        virsh.defined()
    with pytest.raises(HostError, match=r"^no$"):
        virsh.virsh("domstate", "web", "--reason")


def test_a_foreign_disk(replies: dict[str, tuple[int, str, str]], tmp_path: Path) -> None:
    """A disk that is not the overlay of the guest's folder comes from a snapshot outside."""
    replies["domblklist"] = (0, f" vda   {tmp_path}/system/overlay.qcow2\n\n", "")
    assert not virsh.has_foreign_disk("web", tmp_path)
    replies["domblklist"] = (0, f" vda   {tmp_path}/system/overlay.s\n", "")
    assert virsh.has_foreign_disk("web", tmp_path)


# --- the agent --------------------------------------------------------------------------------------------------------


class _Guest:
    """An agent with files, and a program that ends at the second look."""

    def __init__(self, ended: dict[str, Any]) -> None:
        self.ended = ended
        self.files: dict[str, bytes] = {}
        self.opened: list[str] = []
        self.looks = 0
        self.requests: list[dict[str, Any]] = []

    def __call__(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        request = json.loads(words[2])
        self.requests.append(request)
        arguments = request.get("arguments", {})
        reply: Any = {}
        match request["execute"]:
            case "guest-exec":
                self.looks, reply = 0, {"pid": 5}
                if arguments["path"] == "/bin/mv" and not self.ended.get("exitcode"):
                    _, draft, place = arguments["arg"]
                    self.files[place] = self.files.pop(draft)
            case "guest-exec-status":
                self.looks += 1
                reply = {"exited": True, **self.ended} if self.looks > 1 else {"exited": False}
            case "guest-file-open":
                self.opened.append(arguments["path"])
                if arguments["mode"] == "w":
                    self.files[arguments["path"]] = b""
                reply, self.at = 7, 0
            case "guest-file-read":
                piece = self.files[self.opened[-1]][self.at : self.at + 4]
                self.at += len(piece)
                end = self.at == len(self.files[self.opened[-1]])
                reply = {"count": len(piece), "buf-b64": base64.b64encode(piece).decode(), "eof": end}
            case "guest-file-write":
                self.files[self.opened[-1]] += base64.b64decode(arguments["buf-b64"])
        return subprocess.CompletedProcess([], 0, json.dumps({"return": reply}), "")


@pytest.fixture
def in_guest(monkeypatch: pytest.MonkeyPatch) -> Callable[..., _Guest]:
    def make(**ended: Any) -> _Guest:
        guest = _Guest(ended)
        monkeypatch.setattr(agent, "virsh", guest)
        monkeypatch.setattr(agent, "_POLL_SECONDS", 0)
        return guest

    return make


@pytest.mark.parametrize(("ended", "code"), [({"exitcode": 3}, 3), ({"exitcode": 0}, 0), ({"signal": 9}, 137)])
def test_a_command_in_a_guest(in_guest: Callable[..., _Guest], ended: dict[str, int], code: int) -> None:
    """A command is waited for; its result has the exit code, 128 and the signal if there is none, and the output."""
    guest = in_guest(**ended, **{"out-data": base64.b64encode(b"out").decode()})
    assert Agent("web").run(["/bin/x", "-a"], stdin=b"in") == CommandResult(code, b"out", b"")
    arguments = guest.requests[0]["arguments"]
    assert (arguments["path"], arguments["arg"], base64.b64decode(arguments["input-data"])) == ("/bin/x", ["-a"], b"in")
    Agent("web").run(["/bin/x"])
    assert "input-data" not in guest.requests[3]["arguments"]
    Agent("web").ask("guest-ping")
    assert guest.requests[-1] == {"execute": "guest-ping"}


@pytest.mark.parametrize("content", [b"", b"abcd", b"abcdef"])
def test_files_are_copied_both_ways(in_guest: Callable[..., _Guest], tmp_path: Path, content: bytes) -> None:
    """A file appears whole at its place, or below it if that is a directory, in the guest and on the host."""
    guest = in_guest(exitcode=0)
    local = tmp_path / "notes"
    local.write_bytes(content)
    agent.copy(str(local), "web:/root/")
    assert guest.files == {"/root/notes": content}
    agent.copy(str(local), "web:/root/other")
    assert guest.files["/root/other"] == content
    agent.copy("web:/root/notes", str(tmp_path / "back"))
    (tmp_path / "folder").mkdir()
    agent.copy("web:/root/notes", str(tmp_path / "folder"))
    assert (tmp_path / "back").read_bytes() == (tmp_path / "folder" / "notes").read_bytes() == content
    assert not list(tmp_path.rglob(".*"))


def test_copies_that_cannot_be(
    in_guest: Callable[..., _Guest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy has one end in a guest; a failed rename and an agent that does not answer are errors."""
    in_guest(exitcode=1, **{"err-data": base64.b64encode(b"read-only").decode()})
    for source, target in (("a", "b"), ("web:/a", "db:/b"), ("./web:a", "b")):
        with pytest.raises(HostError, match="one end of the copy"):
            agent.copy(source, target)
    with pytest.raises(HostError, match="web: read-only"):
        Agent("web").write("/x", io.BytesIO(b"x"))
    refused = subprocess.CompletedProcess[str]([], 1, "", "error: not connected\n")
    monkeypatch.setattr(agent, "virsh", lambda *_, **__: refused)
    with pytest.raises(HostError, match="did not do it: not connected"):
        Agent("web").ask("guest-ping")
