"""Several processes of one daemon behind the same ports: started, watched over, started again, and stopped together.

The parent takes the ports, and does nothing else but wait. Each process has a listening socket of its own
(SO_REUSEPORT spreads connections over them), which the parent keeps open: who connects while a process is started
again waits for it, and is not refused. Processes are forked, so they share the program's memory and start at once.
They end with their parent however that ends, for the kernel tells them.
"""

from __future__ import annotations

import ctypes
import gc
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from tawara.cli.reloading import RELOAD, UNUSED, ignore, survive
from tawara.listening import take
from tawara.model.errors import Exit

log = structlog.get_logger(__name__)

Listening = Mapping[str, socket.socket]
"""Part -> the socket on which it shall listen."""
Ready = Callable[[], None]

_PR_SET_PDEATHSIG: Final = 1
_GRACE: Final = 4.7
"""Seconds after which processes that were asked to stop are killed; they cut themselves off before."""
_SHORTEST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
"""Seconds before a process that ended is started again; doubled each time that it ended soon."""
_SOON: Final = 30.0
"""Seconds after which an end is no consequence of the start."""
_STOPPING: Final = (signal.SIGINT, signal.SIGTERM)
_HANDLED: Final = (*_STOPPING, RELOAD, *UNUSED)


def share(addresses: Mapping[str, tuple[str, int]], count: int) -> Sequence[Listening]:
    """For each of `count` processes a listening socket for every part. Raises PortTaken."""
    shares: list[dict[str, socket.socket]] = [{} for _ in range(count)]
    for part, address in addresses.items():
        # Sockets that share a port would share it with another daemon's as well; a lone one notices that it is taken.
        alone = take(address, f"the {part}")
        taken = alone.getsockname()[:2]
        alone.close()
        for each in shares:
            each[part] = take(taken, f"the {part}", reuse_port=True)
    return shares


@dataclass(slots=True)
class _Child:
    """One process, as its parent knows it."""

    place: int
    pid: int
    pipe: int
    """Tells a byte when the process is ready, and its end when that has ended."""
    since: float
    ready: bool = False


class Family:
    """The parent. `run` it once, in a process with one thread and no event loop."""

    def __init__(
        self,
        shares: Sequence[Listening],
        serve: Callable[[Listening, Ready], None],
        announce: Callable[[], None],
        reload: Callable[[], None],
    ) -> None:
        """One process for each of `shares`; it calls `serve`, which returns after a SIGTERM. `announce`: all serve.

        `reload` is called here for a SIGHUP, which each process gets, too.
        """
        self._reload = reload
        self._shares = shares
        self._serve = serve
        self._announce = announce
        self._announced = False
        self._children: dict[int, _Child] = {}
        """By pipe."""
        self._due: dict[int, float] = {}
        """Place -> when to start its process, by the monotonic clock."""
        self._pauses = [_SHORTEST_PAUSE] * len(shares)
        self._stop_by: float | None = None
        """When the last process has to have ended; None while nobody asked for a stop."""
        self._failure = 0
        self._poll = select.poll()

    def run(self) -> int:
        """Serve until SIGINT or SIGTERM; the exit code. A process that cannot even start for the first time ends all.

        What `serve` raises in a child is raised here, in that child.
        """
        told, tell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll.register(told, select.POLLIN)
        for number in _HANDLED:
            signal.signal(number, lambda *_: None)  # the number goes into the pipe
        signal.set_wakeup_fd(tell)
        gc.collect()
        gc.freeze()  # the collector of a child would write to, and so copy, all that it shares with the others
        self._due[0] = 0.0  # the first alone: what is wrong for all is then said once
        while self._due or self._children:
            for descriptor, _ in self._poll.poll(self._timeout()):
                if descriptor == told:
                    self._obey(os.read(told, 64))
                else:
                    self._listen_to(self._children[descriptor])
            self._start_what_is_due()
            self._kill_what_is_late()
        return self._failure

    def _obey(self, numbers: bytes) -> None:
        if not set(numbers).isdisjoint(_STOPPING):
            self._stop()
            return
        for number in dict.fromkeys(numbers):
            if number == RELOAD:
                self._reload()
                for child in self._children.values():
                    os.kill(child.pid, RELOAD)
            else:
                ignore(signal.Signals(number))

    def _timeout(self) -> float | None:
        """Milliseconds until there is something to do by the clock."""
        times = [*self._due.values(), *([self._stop_by] if self._stop_by is not None else [])]
        return max(0.0, min(times) - time.monotonic()) * 1000 + 1 if times else None

    def _start_what_is_due(self) -> None:
        now = time.monotonic()
        for place in [place for place, due in self._due.items() if due <= now]:
            del self._due[place]
            self._fork(place)

    def _fork(self, place: int) -> None:
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        parent = os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)  # one that comes now is for the child's own handlers
        pid = os.fork()
        if pid == 0:
            self._become_child(parent)
            os.close(ours)
            self._serve(self._only_own(place), lambda: _say_ready(theirs))
            raise SystemExit(0)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
        os.close(theirs)
        self._children[ours] = _Child(place, pid, ours, time.monotonic())
        self._poll.register(ours, select.POLLIN)

    def _become_child(self, parent: int) -> None:
        signal.set_wakeup_fd(-1)
        for number in _STOPPING:
            signal.signal(number, signal.SIG_DFL)
        survive()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            raise SystemExit(0)  # it died before the kernel knew that we want to hear of that
        for sibling in self._children:
            os.close(sibling)
        structlog.contextvars.bind_contextvars(pid=os.getpid())

    def _only_own(self, place: int) -> Listening:
        for other, listening in enumerate(self._shares):
            if other != place:
                _close(listening)
        return self._shares[place]

    def _listen_to(self, child: _Child) -> None:
        if os.read(child.pipe, 1):
            child.ready = True
            self._all_ready()
            return
        self._poll.unregister(child.pipe)
        os.close(child.pipe)
        del self._children[child.pipe]
        code = os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])
        if self._stop_by is None:
            self._ended(child, code)

    def _all_ready(self) -> None:
        if self._announced or self._stop_by is not None:
            return
        if len(self._children) == 1:
            self._due |= dict.fromkeys(range(1, len(self._shares)), 0.0)
        if not self._due and all(child.ready for child in self._children.values()):
            self._announced = True
            self._announce()

    def _ended(self, child: _Child, code: int) -> None:
        if not self._announced:
            self._failure = code if code > 0 else Exit.FAILURE
            self._stop()
            return
        lived = time.monotonic() - child.since
        pause = self._pauses[child.place] if lived < _SOON else _SHORTEST_PAUSE
        self._pauses[child.place] = min(_LONGEST_PAUSE, pause * 2)
        self._due[child.place] = time.monotonic() + pause
        log.error("a process ended by itself; starting it again", ended=child.pid, code=code, seconds=round(pause, 1))

    def _stop(self) -> None:
        if self._stop_by is not None:
            return
        self._stop_by = time.monotonic() + _GRACE
        self._due.clear()
        for listening in self._shares:
            _close(listening)
        for child in self._children.values():
            os.kill(child.pid, signal.SIGTERM)

    def _kill_what_is_late(self) -> None:
        if self._stop_by is not None and time.monotonic() >= self._stop_by:
            for child in self._children.values():
                log.warning("killed what did not stop in time", ended=child.pid)
                os.kill(child.pid, signal.SIGKILL)
            self._stop_by = time.monotonic() + 1


def _say_ready(pipe: int) -> None:
    os.write(pipe, b"r")


def _close(listening: Listening) -> None:
    for each in listening.values():
        each.close()
