"""Connections to several trackers; a request goes to the next one when one fails.

A request whose reply was lost may have been carried out. Most requests are idempotent and are repeated; for some, the
error of the repetition shows that the first succeeded; any other raises `OutcomeUnknown`, for the caller to resolve.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, TypeVar

from tawara.model import errors
from tawara.nodes import keepalive
from tawara.wire import line
from tawara.wire.line import Args

T = TypeVar("T")
DEFAULT_PORT: Final = 7001
HERE: Final = f"127.0.0.1:{DEFAULT_PORT}"
"""Default address: the tracker of `tawara up` on this machine."""
REPLY_BYTES: Final = 8 * 1024 * 1024
"""Longest reply in bytes; 1,000 keys of 1,024 bytes, all escaped, are 3 MiB."""
REST: Final = 15.0
"""Seconds for which a failed tracker is used only if no other is left."""
_MANAGEMENT_LINES: Final = 100_000
_ADDRESS: Final = re.compile(
    r"""(?: \[ (?P<bracketed> [0-9a-f:.]+ ) \] | (?P<host> [^:\[\]\s]+ ) ) (?: : (?P<port> [0-9]{1,5} ) )?
    | (?P<bare> [0-9a-f]* : [0-9a-f]* : [0-9a-f:.]* )""",  # an IPv6 address without a port
    re.VERBOSE | re.IGNORECASE,
)


class OutcomeUnknown(errors.UnavailableError):
    """The tracker disconnected before it answered; the request may have been carried out."""

    code = "outcome_unknown"
    message = "The tracker disconnected before it answered: the request may have been carried out, or not"
    hint = "Look whether it was, then repeat it if not."


def parse_address(text: str) -> tuple[str, int]:
    """`HOST`, `HOST:PORT`, an IPv6 address, or `[IPv6]:PORT`. Raises UsageError."""
    match = _ADDRESS.fullmatch(text.strip())
    if match is None or not 0 < int(match["port"] or DEFAULT_PORT) < 65536:
        raise errors.UsageError(
            f"{text!r} is not an address", hint="A tracker is HOST:PORT, several have commas between."
        )
    return match["bracketed"] or match["host"] or match["bare"], int(match["port"] or DEFAULT_PORT)


def parse_addresses(text: str | Sequence[str]) -> list[tuple[str, int]]:
    """Addresses with commas between, or a sequence of them. Raises UsageError, also when there is none."""
    pieces = text.split(",") if isinstance(text, str) else text
    addresses = [parse_address(each) for each in pieces if each.strip()]
    if not addresses:
        raise errors.UsageError("No tracker is named", hint="A tracker is HOST:PORT, several have commas between.")
    return list(dict.fromkeys(addresses))


@dataclass
class _Tracker:
    host: str
    port: int
    idle: list[_Connection] = field(default_factory=list)
    skip_until: float = 0.0

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def fresh(self) -> bool:
        """Whether the connection is still open and has no unexpected data."""
        return not (self.reader.at_eof() or self.writer.is_closing() or self.reader.exception())

    def close(self) -> None:
        self.writer.transport.abort()


class _NotSent(errors.TrackerUnreachable):
    """The request was certainly not sent to any tracker."""

    code = "not_sent"
    message = "No tracker answers"
    hint = errors.TrackerUnreachable.hint


class Trackers:
    """A pool of connections to trackers, owned by the event loop in which it is used."""

    def __init__(
        self,
        addresses: Sequence[tuple[str, int]],
        *,
        connect_timeout: float = 2.0,
        reply_timeout: float = 30.0,
        connections: int = 8,
    ) -> None:
        """Times are seconds; `connections` is the number of concurrent requests."""
        self._trackers = [_Tracker(host, port) for host, port in addresses]
        random.shuffle(self._trackers)  # spreads many clients over the trackers
        self._connect_timeout = connect_timeout
        self._reply_timeout = reply_timeout
        self._free = asyncio.Semaphore(connections)

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Addresses of the trackers, in their current order of preference."""
        return [(each.host, each.port) for each in self._trackers]

    async def close(self) -> None:
        """Close the idle connections."""
        for tracker in self._trackers:
            while tracker.idle:
                tracker.idle.pop().close()

    async def ask(
        self,
        command: str,
        args: Args | None = None,
        *,
        once: bool = False,
        settled_by: tuple[type[errors.TawaraError], ...] = (),
        timeout: float | None = None,
    ) -> Mapping[str, bytes]:
        """Send a request; return the arguments of the OK reply, or raise the error of the ERR reply.

        The trackers are tried in turn until one replies; the last that replied is tried first the next time, and one
        that failed, or whose database did, is tried last for a while. A request whose reply was lost is repeated,
        unless `once` is set: then OutcomeUnknown is raised (but not for DatabaseUnavailable, which means that nothing
        was changed). If the repetition fails with an error of `settled_by`, the first attempt succeeded, and an empty
        reply is returned. `patience`: seconds to wait for a tracker; None for the default. Raises TrackerUnreachable
        if no tracker replies; Db and Busy if every tracker replies so.
        """
        request = line.encode_request(command, args or {})
        lost = False
        failure: errors.TawaraError = errors.TrackerUnreachable()
        for tracker in self._in_order_of_trial():
            try:
                reply = await self._ask_one(tracker, request, timeout or self._reply_timeout)
            except _NotSent as error:
                failure = errors.TrackerUnreachable(error.message)
                continue
            except errors.TrackerUnreachable as error:
                if once:
                    raise OutcomeUnknown(f"{command}: {error.message}") from error
                failure, lost = error, True
                continue
            if isinstance(reply, line.AcceptedRequest):
                return reply.args
            failure = reply.as_error()
            if isinstance(failure, errors.Db):
                tracker.skip_until = asyncio.get_running_loop().time() + REST
            if isinstance(failure, errors.Db) and once and not isinstance(failure, errors.DatabaseUnavailable):
                raise OutcomeUnknown(f"{command}: {failure.message}") from failure
            if lost and isinstance(failure, settled_by):
                return {}
            if not isinstance(failure, errors.Db | errors.Busy):
                raise failure
            lost = lost or isinstance(failure, errors.Db)
        raise failure

    async def ask_for(
        self,
        read: Callable[[Mapping[str, bytes]], T],
        command: str,
        args: Args | None = None,
        *,
        timeout: float | None = None,
    ) -> T:
        """Send a request and parse its reply with `read`. Raises TrackerUnreachable also for a malformed reply."""
        reply = await self.ask(command, args, timeout=timeout)
        try:
            return read(reply)
        except (KeyError, ValueError) as error:
            raise errors.TrackerUnreachable(f"The answer to {command} is not a tracker's") from error

    async def manage(self, address: tuple[str, int], command: str) -> list[str]:
        """Run a management command (`!version`, `!stats`) on one tracker; return its lines (docs/mogilefs.md 6).

        Raises TrackerUnreachable.
        """
        tracker = next(each for each in self._trackers if (each.host, each.port) == address)
        async with self._free:
            with _converting_errors(tracker):
                connection = await self._connect(tracker)
                try:
                    connection.writer.write(f"!{command}\r\n".encode())
                    lines: list[str] = []
                    async with asyncio.timeout(self._reply_timeout):
                        while (text := (await connection.reader.readuntil(b"\n")).strip()) != b".":
                            lines.append(text.decode(errors="replace"))
                            if len(lines) > _MANAGEMENT_LINES:
                                raise errors.TrackerUnreachable(f"{tracker}: the answer does not end")
                finally:
                    connection.close()
        return lines

    # --- one tracker --------------------------------------------------------------------------------------------------

    def _in_order_of_trial(self) -> Iterator[_Tracker]:
        """The trackers in the order to try them; the first comes twice, because it may just have been restarted."""
        now = asyncio.get_running_loop().time()
        self._trackers.sort(key=lambda each: each.skip_until > now)  # stable
        yield from (order := list(self._trackers))
        yield order[0]

    async def _ask_one(
        self, tracker: _Tracker, request: bytes, timeout: float
    ) -> line.AcceptedRequest | line.RefusedRequest:
        """Send to one tracker. Raises _NotSent if it cannot have received the request, else TrackerUnreachable."""
        async with self._free:
            connection = None
            while tracker.idle and connection is None:
                connection = tracker.idle.pop()
                if not connection.fresh():
                    connection.close()
                    connection = None
            try:
                if connection is None:
                    try:
                        with _converting_errors(tracker):
                            connection = await self._connect(tracker)
                    except errors.TrackerUnreachable as error:
                        raise _NotSent(error.message) from error
                with _converting_errors(tracker):
                    async with asyncio.timeout(timeout):
                        connection.writer.write(request)
                        await connection.writer.drain()
                        text = await connection.reader.readuntil(b"\n")
                    reply = line.decode_reply(text.rstrip(b"\r\n"))
            except BaseException as error:
                if connection is not None:
                    connection.close()  # a late reply would be mistaken for that of the next request
                if isinstance(error, errors.TrackerUnreachable):
                    tracker.skip_until = asyncio.get_running_loop().time() + REST
                raise
            tracker.skip_until = 0.0
            tracker.idle.append(connection)
            return reply

    async def _connect(self, tracker: _Tracker) -> _Connection:
        async with asyncio.timeout(self._connect_timeout):
            reader, writer = await asyncio.open_connection(tracker.host, tracker.port, limit=REPLY_BYTES)
            keepalive.enable(writer.get_extra_info("socket"))
            return _Connection(reader, writer)


@contextmanager
def _converting_errors(tracker: _Tracker) -> Iterator[None]:
    """Convert exceptions of asyncio, the system and the codec to TrackerUnreachable."""
    try:
        yield
    except TimeoutError as error:
        raise errors.TrackerUnreachable(f"{tracker}: no answer in time") from error
    except asyncio.IncompleteReadError as error:
        raise errors.TrackerUnreachable(f"{tracker} hung up") from error
    except (OSError, ValueError, asyncio.LimitOverrunError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise errors.TrackerUnreachable(f"{tracker}: {reason}") from error
