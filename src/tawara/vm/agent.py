"""QEMU's guest agent: commands and files in a guest, without a network."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tawara.vm.errors import HostError
from tawara.vm.virsh import virsh

_CHUNK = 64 << 10
"""Bytes of a file in one request: as base64 they fit in an argument of virsh."""
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class CommandResult:
    """Result of a command in a guest."""

    code: int
    stdout: bytes
    stderr: bytes


class Agent:
    """The guest agent of one guest."""

    def __init__(self, name: str) -> None:
        self._name = name

    def ask(self, command: str, **arguments: object) -> Any:
        """Send one request of the agent's protocol. Raises HostError if it does not respond or refuses."""
        request = {"execute": command, **({"arguments": arguments} if arguments else {})}
        done = virsh("qemu-agent-command", self._name, json.dumps(request), check=False)
        if done.returncode:
            words = done.stderr.strip().removeprefix("error: ")
            hint = f"Guests on debian12 have an agent; others are reached by: tawara vm ssh {self._name}"
            raise HostError(f"the guest agent of {self._name} did not do it: {words}", hint=hint)
        return json.loads(done.stdout)["return"]

    def run(self, command: Sequence[str], stdin: bytes = b"") -> CommandResult:
        """Run a program to its end, without a shell."""
        arguments: dict[str, object] = {"path": command[0], "arg": list(command[1:]), "capture-output": True}
        if stdin:
            arguments["input-data"] = base64.b64encode(stdin).decode()
        pid = self.ask("guest-exec", **arguments)["pid"]
        while not (status := self.ask("guest-exec-status", pid=pid))["exited"]:
            time.sleep(_POLL_SECONDS)
        code = status.get("exitcode", 128 + status.get("signal", 0))
        return CommandResult(code, *(base64.b64decode(status.get(name, "")) for name in ("out-data", "err-data")))

    def read(self, path: str) -> Iterator[bytes]:
        """The content of a file in the guest."""
        handle = self.ask("guest-file-open", path=path, mode="r")
        try:
            while True:
                piece = self.ask("guest-file-read", handle=handle, count=1 << 20)
                if piece["count"]:
                    yield base64.b64decode(piece["buf-b64"])
                if piece["eof"] or not piece["count"]:
                    return
        finally:
            self.ask("guest-file-close", handle=handle)

    def write(self, path: str, content: IO[bytes]) -> None:
        """Write a file in the guest atomically: under a temporary name, then renamed."""
        draft = f"{path}.tawara-new"
        handle = self.ask("guest-file-open", path=draft, mode="w")
        try:
            while chunk := content.read(_CHUNK):
                self.ask("guest-file-write", handle=handle, **{"buf-b64": base64.b64encode(chunk).decode()})
            self.ask("guest-file-flush", handle=handle)
        finally:
            self.ask("guest-file-close", handle=handle)
        ended = self.run(["/bin/mv", "-f", draft, path])
        if ended.code:
            raise HostError(f"{self._name}: {ended.stderr.decode(errors='replace').strip()}")


def copy(source: str, target: str) -> None:
    """Copy a file between the host and a guest; the guest's path is NAME:PATH."""
    from_name, from_path = _end(source)
    to_name, to_path = _end(target)
    if (from_name is None) == (to_name is None):
        raise HostError("one end of the copy has to be in a guest, as NAME:PATH", hint="tawara vm cp notes web:/root/")
    if to_name is not None:
        local = Path(from_path)
        place = f"{to_path}{local.name}" if to_path.endswith("/") else to_path
        with local.open("rb") as content:
            Agent(to_name).write(place, content)
        return
    assert from_name is not None
    local = Path(to_path)
    local = local / Path(from_path).name if local.is_dir() else local
    draft = local.with_name(f".{local.name}.tawara-new")
    try:
        with draft.open("wb") as out:
            for piece in Agent(from_name).read(from_path):
                out.write(piece)
        draft.replace(local)
    finally:
        draft.unlink(missing_ok=True)


def _end(text: str) -> tuple[str | None, str]:
    name, colon, path = text.partition(":")
    return (name, path) if colon and "/" not in name else (None, text)
