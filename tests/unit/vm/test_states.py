"""Every verb in every state of a domain: done, or refused with a message; memory is never resumed over another disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tawara.model.errors import TawaraError
from tawara.vm import host as host_module
from tawara.vm.host import GuestHost

if TYPE_CHECKING:
    from tests.unit.vm.conftest import StepHost

pytestmark = pytest.mark.host_step

CARD = 'version = "{version}"\n[[nic]]\nnetwork = "host0"\n'
OLD, NEW = "d" * 12, "e" * 12

STATES: dict[str, dict[str, object]] = {
    "running": {},
    "hung": {"obeys": False},
    "off": {"is": "off"},
    "saved": {"is": "saved"},
    "saved, unreadable": {"is": "saved", "broken": True},
    "paused": {"is": "paused"},
    "disk full": {"is": "io-error", "full": True},
    "disk was full": {"is": "io-error"},
    "crashed": {"is": "crashed"},
    "shutting down": {"is": "shutting-down", "ends_after": 2},
    "asleep": {"is": "asleep"},
    "transient": {"transient": True},
    "absent": {},
    "another's": {"xml": "<name>web</name><uuid>another</uuid>", "snapshots": {"theirs": "<name>theirs</name>"}},
    "foreign disk": {"disk": "/elsewhere/overlay.before"},
}


@dataclass
class Outcome:
    """The result of a verb."""

    done: bool
    said: str


@dataclass
class Verb:
    """How to run it, and the message for each state that is refused or needs a notice."""

    act: Callable[[StepHost], Outcome]
    after: str
    """The domain's state when it was done; empty: as it was before."""
    refused: dict[str, str]
    said: dict[str, str]
    other: dict[str, str]
    """States that come out otherwise than `after`."""


def step(*words: str) -> Callable[[StepHost], Outcome]:
    """A verb of the shell step."""

    def act(host: StepHost) -> Outcome:
        done = host.run(*words, check=False)
        return Outcome(done.returncode == 0, done.stderr)

    return act


def removal(how: str) -> Callable[[StepHost], Outcome]:
    """The package's removal."""

    def act(host: StepHost) -> Outcome:
        host.take_away("web")
        return step("after-remove", "web", how)(host)

    return act


def command(verb: Callable[[GuestHost], str]) -> Callable[[StepHost], Outcome]:
    """A verb of the command line."""

    def act(host: StepHost) -> Outcome:
        try:
            return Outcome(True, verb(GuestHost(host.state)))
        except TawaraError as error:
            return Outcome(False, str(error))

    return act


_ANOTHERS = {"another's": "libvirt has another domain that is called web"}
_FOREIGN = {"foreign disk": "snapshot outside Tawara"}
_MOVE = {
    "hung": "did not shut down within 1 s; it runs on, and nothing was changed",
    "saved, unreadable": "cannot be resumed",
    "disk full": "could not write its disk",
    **_ANOTHERS,
    **_FOREIGN,
}
_ALL = dict.fromkeys(STATES, "")
VERBS = {
    "reconcile": Verb(
        step(), "", {"another's": "already exists with uuid"}, {}, {"absent": "off", "shutting down": "*"}
    ),
    "upgrade": Verb(step("upgrade", "web"), "running", _MOVE, {}, {}),
    "back": Verb(step("back", "web"), "running", _MOVE, {}, {}),
    "remove": Verb(
        removal("remove"),
        "absent",
        {},
        {
            "hung": "did not shut down within 1 s and is switched off",
            "saved, unreadable": "cannot be resumed",
            "disk full": "could not write its disk",
            **_FOREIGN,
        },
        {"another's": "running", "foreign disk": "running"},
    ),
    "purge": Verb(removal("purge"), "absent", {}, {}, {"another's": "running"}),
    "remember": Verb(step("remember"), "", {}, {}, {"shutting down": "*"}),
    "start": Verb(
        command(lambda host: host.start("web")),
        "running",
        {"saved, unreadable": "cannot restore the saved memory", "disk full": "cannot write its disk", **_ANOTHERS},
        {},
        {},
    ),
    "stop": Verb(
        command(lambda host: host.stop("web", seconds=0.5)),
        "off",
        {
            "hung": "did not shut down within 0.5 s and was switched off",
            "disk full": "cannot write its disk",
            **_ANOTHERS,
        },
        dict.fromkeys(("saved", "saved, unreadable"), "its memory is saved"),
        {"saved": "saved", "saved, unreadable": "saved", "absent": "absent", "transient": "absent"},
    ),
    "stop --force": Verb(
        command(lambda host: host.stop("web", force=True)),
        "off",
        _ANOTHERS,
        {},
        {"absent": "absent", "transient": "absent"},
    ),
    "snapshot": Verb(
        command(lambda host: host.snapshot("web", "new")),
        "",
        {
            "saved": "its memory is saved apart",
            "saved, unreadable": "its memory is saved apart",
            "disk full": "could not write its disk",
            "disk was full": "could not write its disk",
            "crashed": "it has crashed",
            "shutting down": "it is shutting down",
            "asleep": "it sleeps",
            "absent": "libvirt does not know web",
            **_ANOTHERS,
            **_FOREIGN,
        },
        {},
        {},
    ),
    "restore": Verb(
        command(lambda host: host.restore("web", "kept")),
        "",
        {"absent": "libvirt does not know web", **_ANOTHERS, **_FOREIGN},
        {},
        {"saved": "off", "saved, unreadable": "off", "shutting down": "*"},
    ),
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> StepHost:
    """A host with a guest that was upgraded once, so that `back` is possible, and a newer version to upgrade to."""
    host: StepHost = request.getfixturevalue("make_step_host")(tmp_path_factory.mktemp("states") / "host")
    for version, delta in (("1", OLD), ("2", NEW)):
        host.place(CARD.format(version=version), delta=delta)
        host.run(*(("upgrade", "web") if version == "2" else ()))
    host.place(CARD.format(version="3"), delta="f" * 12)
    host.change(snapshots={"kept": "<domainsnapshot><name>kept</name></domainsnapshot>"})
    shutil.copytree(host.root, host.root.with_name("as it was"), symlinks=True)
    return host


@pytest.fixture
def fresh(prepared: StepHost, monkeypatch: pytest.MonkeyPatch) -> Iterator[StepHost]:
    """The prepared host in its original state, also as seen by the command line."""
    shutil.rmtree(prepared.root)
    shutil.copytree(prepared.root.with_name("as it was"), prepared.root, symlinks=True)
    for name, value in prepared.environment.items():
        monkeypatch.setenv(name, value)
    step_file = prepared.root / "bin/step"
    step_file.write_text(f'#!/bin/sh\nexec sh {prepared.step} "$@"\n')
    step_file.chmod(0o755)
    monkeypatch.setattr(host_module, "RECONCILE", str(step_file))
    monkeypatch.setattr(host_module, "_LOCK", prepared.root / "run/tawara-vm/lock")
    yield prepared


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_in_each_state(fresh: StepHost, state: str, verb: str) -> None:
    """What is refused has a message and changes neither domain nor disks, what is done is complete."""
    if state == "absent":
        fresh.tell(domains={})
    else:
        fresh.change(**STATES[state])
    before, layers = fresh.domain(), fresh.layers()
    expected = VERBS[verb]
    outcome = expected.act(fresh)
    known = fresh.libvirt
    after = fresh.domain()
    is_now = after["is"] if after else "absent"

    assert outcome.done == (state not in expected.refused), outcome.said
    for words in (expected.refused, expected.said):
        assert words.get(state, "") in outcome.said
    if state == "another's":
        assert after == before, "an administrator's own domain is never touched"
    elif state in expected.refused and state != "hung":
        was = before["is"] if before else "absent"
        assert is_now in (was, "off" if state == "shutting down" else was)
        assert fresh.layers() == layers
    elif state not in expected.refused:
        wanted = expected.other.get(state, expected.after or (before["is"] if before else "absent"))
        assert wanted in ("*", is_now)
    if verb in ("upgrade", "back") and state not in expected.refused:
        assert fresh.layers().split()[0] == ("f" * 12 if verb == "upgrade" else OLD)
        assert "destroyed" not in known or state == "crashed", "its system was not cut off in the middle of a write"
    if verb == "purge":
        assert not fresh.instance("").exists()
    elif verb == "remove":
        assert fresh.instance("system/overlay.qcow2").exists()


def test_saved_memory_is_never_resumed_over_another_disk(fresh: StepHost) -> None:
    """`upgrade` of a saved guest first resumes it with its own disk, and shuts it down regularly."""
    fresh.change(**STATES["saved"])
    fresh.run("upgrade", "web")
    log = fresh.libvirt["log"]
    verbs = [line.split()[0] for line in log if line.split()[0] in ("start", "shutdown", "define", "destroy")]
    assert verbs[-4:] == ["start", "shutdown", "define", "start"]
    assert fresh.layers().split()[0] == "f" * 12


def test_restoring_discards_memory_of_later_disks(fresh: StepHost) -> None:
    """A saved guest that is restored does not resume the memory of its former disks."""
    fresh.change(**STATES["saved"])
    GuestHost(fresh.state).restore("web", "kept")
    verbs = [line.split()[0] for line in fresh.libvirt["log"]]
    assert verbs.index("managedsave-remove") < verbs.index("snapshot-revert")


def test_a_user_without_rights(fresh: StepHost) -> None:
    """Without access to libvirt, guests are not shown as absent: the command fails with the reason."""
    fresh.tell(refused=True)
    with pytest.raises(TawaraError, match=r"libvirt does not answer: .*authentication unavailable"):
        GuestHost(fresh.state).instances()


def test_a_stopped_guest_stays_off_at_boot(fresh: StepHost) -> None:
    """At the host's start the others are started, in their order; a stopped one is not, until it is started."""
    fresh.place(CARD.format(version="1").replace("[[nic]]", "order = 90\n[[nic]]"), "alpha")
    fresh.place(CARD.format(version="1").replace("[[nic]]", "order = 10\n[[nic]]"), "zeta")
    fresh.run()
    GuestHost(fresh.state).stop("web")
    for start in (["zeta", "alpha"], ["zeta", "web", "alpha"]):
        reboot(fresh)
        assert fresh.libvirt["started"] == start
        GuestHost(fresh.state).start("web")
    # What was switched off from inside, or by virsh, is noted when the host goes down.
    fresh.change("zeta", **{"is": "off"})
    fresh.run("remember")
    reboot(fresh)
    assert fresh.libvirt["started"] == ["web", "alpha"]


def reboot(host: StepHost) -> None:
    """Everything is off, /run is empty, and the unit runs the step."""
    for name in host.libvirt["domains"]:
        host.change(name, **{"is": "off"})
    host.tell(started=[])
    accelerator = (host.root / "run/tawara-vm/accelerator").read_text()
    shutil.rmtree(host.root / "run/tawara-vm")
    host.run()
    (Path(host.root) / "run/tawara-vm/accelerator").write_text(accelerator)
