"""Supervises several processes of one daemon that share ports: starts, restarts and stops them.

The parent binds the ports and only waits. Each process has a listening socket of its own (SO_REUSEPORT distributes
connections over them), which the parent keeps open: a client that connects during a restart waits instead of being
refused. Processes are forked, so they share the program's memory and start at once. The kernel signals them when
their parent ends for any reason.
"""

from __future__ import annotations

import ctypes
import gc
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from tawara.cli.reloading import RELOAD, UNUSED, ignore, survive
from tawara.cli.service_manager import SocketKeeper, notify, watchdog_period
from tawara.listening import take
from tawara.model.errors import Exit

log = structlog.get_logger(__name__)

Listening = Mapping[str, socket.socket]
"""Listener -> its socket."""
Ready = Callable[[], None]

_PR_SET_PDEATHSIG: Final = 1
_GRACE: Final = 4.7
"""Seconds after which processes that were asked to stop are killed; their own time limit is shorter."""
_SHORTEST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
"""Seconds before a process that ended is restarted; doubled each time that it ended soon."""
_SOON: Final = 30.0
"""A process that ran for this many seconds did not fail at its start."""
_STOPPING: Final = (signal.SIGINT, signal.SIGTERM)
_HANDLED: Final = (*_STOPPING, RELOAD, *UNUSED)


def share(
    addresses: Mapping[str, tuple[str, int]], count: int, keeper: SocketKeeper | None = None
) -> Sequence[Listening]:
    """Bind, for each of `count` processes, a socket for every listener; `keeper` may have them. Raises PortTaken."""
    shares: list[dict[str, socket.socket]] = [{} for _ in range(count)]
    for part, address in addresses.items():
        if keeper is not None and keeper.has(part, address):
            for number, each in enumerate(shares):
                each[part] = keeper.take(part, number, address, reuse_port=True)
            continue
        # Sockets with SO_REUSEPORT would also share the port with another daemon; one without it detects that.
        alone = take(address, f"the {part}")
        taken = alone.getsockname()[:2]
        alone.close()
        for number, each in enumerate(shares):
            if keeper is not None:
                each[part] = keeper.take(part, number, taken, reuse_port=True)
            else:
                each[part] = take(taken, f"the {part}", reuse_port=True)
    return shares


@dataclass(slots=True)
class _Child:
    """The parent's view of one process."""

    place: int
    pid: int
    pipe: int
    """A pipe: one byte when the process is ready, end of file when it has ended."""
    since: float
    ready: bool = False


class Family:
    """The supervising parent. Call `run` once, in a process with one thread and no event loop."""

    def __init__(
        self,
        shares: Sequence[Listening],
        serve: Callable[[int, Listening, Ready], None],
        announce: Callable[[], None],
        reload: Callable[[], None],
        *,
        first_stops_first: bool = False,
        drain: float = 0.0,
    ) -> None:
        """One process for each of `shares`; it calls `serve`, which returns after a SIGTERM. `announce`: all serve.

        `serve` gets the number of its share. With `first_stops_first`, process 0 passes requests to the others, which
        therefore serve until it has stopped.
        `reload` is called here for a SIGHUP, which each process gets, too. `drain`: seconds for which a process that
        was asked to stop still serves; a second request to stop ends that.
        """
        self._drain = drain
        self._reload, self._first_stops_first = reload, first_stops_first
        self._shares = shares
        self._serve = serve
        self._announce = announce
        self._announced = False
        self._children: dict[int, _Child] = {}
        """By pipe."""
        self._due: dict[int, float] = {}
        """Slot -> when to start its process (monotonic clock)."""
        self._pauses = [_SHORTEST_PAUSE] * len(shares)
        self._stop_by: float | None = None
        """When the last process has to have ended (monotonic clock); None until a stop is requested."""
        self._failure = 0
        self._poll = select.poll()
        self._watchdog = watchdog_period()
        self._watchdog_due = 0.0

    def run(self) -> int:
        """Serve until SIGINT or SIGTERM; the exit code. A process that fails at its first start stops all.

        An exception of `serve` in a child is raised here, in that child.
        """
        told, tell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll.register(told, select.POLLIN)
        for number in _HANDLED:
            signal.signal(number, lambda *_: None)  # writes the signal's number into the pipe
        signal.set_wakeup_fd(tell)
        gc.collect()
        gc.freeze()  # a child's garbage collector would write to shared pages, and so copy them
        self._due[0] = 0.0  # the first alone, so that an error common to all is reported once
        while self._due or self._children:
            for descriptor, _ in self._poll.poll(self._timeout()):
                if descriptor == told:
                    self._handle_signals(os.read(told, 64))
                else:
                    self._listen_to(self._children[descriptor])
            self._start_due_children()
            self._feed_watchdog()
            self._kill_overdue_children()
        return self._failure

    def _handle_signals(self, numbers: bytes) -> None:
        if not set(numbers).isdisjoint(_STOPPING):
            if self._stop_by is None:
                self._stop()
            else:
                self._stop_by = min(self._stop_by, time.monotonic() + _GRACE)
                self._terminate(self._children.values())
            return
        for number in dict.fromkeys(numbers):
            if number == RELOAD:
                notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
                self._reload()
                notify("READY=1")
                for child in self._children.values():
                    os.kill(child.pid, RELOAD)
            else:
                ignore(signal.Signals(number))

    def _timeout(self) -> float | None:
        """Milliseconds until the next timed action."""
        times = [*self._due.values(), *([self._stop_by] if self._stop_by is not None else [])]
        if self._watchdog is not None:
            times.append(self._watchdog_due)
        return max(0.0, min(times) - time.monotonic()) * 1000 + 1 if times else None

    def _feed_watchdog(self) -> None:
        """Show the service manager that this process supervises the others, which it restarts itself."""
        now = time.monotonic()
        if self._watchdog is not None and now >= self._watchdog_due:
            notify("WATCHDOG=1")
            self._watchdog_due = now + self._watchdog

    def _start_due_children(self) -> None:
        now = time.monotonic()
        for place in [place for place, due in self._due.items() if due <= now]:
            del self._due[place]
            self._fork(place)

    def _fork(self, place: int) -> None:
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        parent = os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)  # a signal that arrives now is for the child's own handlers
        pid = os.fork()
        if pid == 0:
            self._become_child(parent)
            os.close(ours)
            self._serve(place, self._only_own(place), lambda: _report_ready(theirs))
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
            raise SystemExit(0)  # it ended before the notification was set up
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
        elif self._first_stops_first and child.place == 0:
            self._terminate(self._children.values())

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
        log.error("process_restarted", child=child.pid, exit_code=code, seconds=round(pause, 1))

    def _stop(self) -> None:
        if self._stop_by is not None:
            return
        self._stop_by = time.monotonic() + self._drain + _GRACE
        notify("STOPPING=1")
        self._due.clear()
        for listening in self._shares:
            _close(listening)
        first = [child for child in self._children.values() if child.place == 0] if self._first_stops_first else []
        self._terminate(first or self._children.values())

    def _terminate(self, children: Iterable[_Child]) -> None:
        for child in children:
            os.kill(child.pid, signal.SIGTERM)

    def _kill_overdue_children(self) -> None:
        if self._stop_by is not None and time.monotonic() >= self._stop_by:
            for child in self._children.values():
                log.warning("stop_timed_out", child=child.pid)
                os.kill(child.pid, signal.SIGKILL)
            self._stop_by = time.monotonic() + 1


def _report_ready(pipe: int) -> None:
    os.write(pipe, b"r")


def _close(listening: Listening) -> None:
    for each in listening.values():
        each.close()
