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
"""The tracker of `tawara up` on this machine."""
REPLY_BYTES: Final = 8 * 1024 * 1024
"""Longest reply: 1,000 keys of 1,024 bytes, all escaped, are 3 MiB."""
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
    rests_until: float = 0.0

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
        """Times are seconds; `connections` is how many requests are under way at once."""
        self._trackers = [_Tracker(host, port) for host, port in addresses]
        random.shuffle(self._trackers)  # so that many clients do not all ask the same one
        self._connect_timeout = connect_timeout
        self._reply_timeout = reply_timeout
        self._free = asyncio.Semaphore(connections)

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The trackers, in the order of preference now."""
        return [(each.host, each.port) for each in self._trackers]

    async def close(self) -> None:
        """Close the connections that no request is using."""
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
        """The arguments of the OK reply; raises the error that an ERR reply means.

        Every tracker is asked until one answers, and the one that answered last is asked first the next time; one that
        failed, or whose database did, comes last for a while. A request whose answer got lost is asked again, unless it
        is `once`: then OutcomeUnknown is raised (not for DatabaseUnavailable: then nothing was changed). When it was
        asked again, an error of `settled_by` means that the first time did it: the reply is empty. `patience`:
        seconds that a tracker may take, if not as long as for any other command. Raises TrackerUnreachable when no
        tracker answers; Db and Busy when every tracker says so.
        """
        request = line.encode_request(command, args or {})
        lost = False
        failure: errors.TawaraError = errors.TrackerUnreachable()
        for tracker in self._in_turn():
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
                tracker.rests_until = asyncio.get_running_loop().time() + REST
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
        """What `read` makes of the reply; TrackerUnreachable if it cannot, for then no tracker has answered."""
        reply = await self.ask(command, args, timeout=timeout)
        try:
            return read(reply)
        except (KeyError, ValueError) as error:
            raise errors.TrackerUnreachable(f"The answer to {command} is not a tracker's") from error

    async def manage(self, address: tuple[str, int], command: str) -> list[str]:
        """The lines of a management command (`!version`, `!stats`) of one tracker (docs/mogilefs.md 6).

        Raises TrackerUnreachable.
        """
        tracker = next(each for each in self._trackers if (each.host, each.port) == address)
        async with self._free:
            with _speaking_with(tracker):
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

    def _in_turn(self) -> Iterator[_Tracker]:
        """The trackers in the order in which to ask; the first comes twice, for it may just have been restarted."""
        now = asyncio.get_running_loop().time()
        self._trackers.sort(key=lambda each: each.rests_until > now)  # stable
        yield from (order := list(self._trackers))
        yield order[0]

    async def _ask_one(
        self, tracker: _Tracker, request: bytes, timeout: float
    ) -> line.AcceptedRequest | line.RefusedRequest:
        """Raises _NotSent when the tracker cannot have seen the request, TrackerUnreachable when it can."""
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
                        with _speaking_with(tracker):
                            connection = await self._connect(tracker)
                    except errors.TrackerUnreachable as error:
                        raise _NotSent(error.message) from error
                with _speaking_with(tracker):
                    async with asyncio.timeout(timeout):
                        connection.writer.write(request)
                        await connection.writer.drain()
                        text = await connection.reader.readuntil(b"\n")
                    reply = line.decode_reply(text.rstrip(b"\r\n"))
            except BaseException as error:
                if connection is not None:
                    connection.close()  # an answer that came late would be taken for that of the next request
                if isinstance(error, errors.TrackerUnreachable):
                    tracker.rests_until = asyncio.get_running_loop().time() + REST
                raise
            tracker.rests_until = 0.0
            tracker.idle.append(connection)
            return reply

    async def _connect(self, tracker: _Tracker) -> _Connection:
        async with asyncio.timeout(self._connect_timeout):
            reader, writer = await asyncio.open_connection(tracker.host, tracker.port, limit=REPLY_BYTES)
            keepalive.enable(writer.get_extra_info("socket"))
            return _Connection(reader, writer)


@contextmanager
def _speaking_with(tracker: _Tracker) -> Iterator[None]:
    """The one place where what asyncio, the system and the codec raise becomes ours."""
    try:
        yield
    except TimeoutError as error:
        raise errors.TrackerUnreachable(f"{tracker}: no answer in time") from error
    except asyncio.IncompleteReadError as error:
        raise errors.TrackerUnreachable(f"{tracker} hung up") from error
    except (OSError, ValueError, asyncio.LimitOverrunError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise errors.TrackerUnreachable(f"{tracker}: {reason}") from error
