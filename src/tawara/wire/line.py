"""Encodes and decodes the tracker's line protocol: requests, replies, escaping, and splitting a stream into lines.

docs/mogilefs.md 2. A request is `COMMAND name=value&…` LF; a reply is `OK name=value&…` or
`ERR code text[ callid]`, CRLF. Names and values are escaped; values are bytes and stay bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple, TypeAlias
from urllib.parse import unquote_to_bytes

from tawara.model.errors import BY_CODE, TawaraError

Value: TypeAlias = bytes | str | int | None
"""Types of an argument; None is sent as an empty value, text as UTF-8."""
Args: TypeAlias = Mapping[str, Value]

# --- escaping (docs/mogilefs.md 2.2) ----------------------------------------------------------------------------------

SAFE = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_,-./\\:"
"""The bytes that are sent as they are. Clients rely on exactly this set: some never unescape a reply."""
_UNSAFE = re.compile(b"[^" + re.escape(SAFE) + b"]")
_ESCAPED = {bytes([code]): b"+" if code == 0x20 else b"%%%02X" % code for code in range(256)}


def escape(value: bytes) -> bytes:
    """Encode blanks as `+` and every other byte outside the safe set as `%XX`."""
    if not value.translate(None, SAFE):
        return value
    return _UNSAFE.sub(lambda match: _ESCAPED[match[0]], value)


def unescape(value: bytes) -> bytes:
    """Reverse `escape`; a `%` without two hexadecimal digits after it is kept."""
    return unquote_to_bytes(value.replace(b"+", b" "))


def _to_bytes(value: Value) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    return b"" if value is None else b"%d" % value


def encode_args(args: Args) -> bytes:
    """Encode arguments as `name=value` joined by `&`, escaped. Names are sent as UTF-8."""
    pieces = [b"%s=%s" % (name.encode(), _to_bytes(value)) for name, value in args.items()]
    joined = b"&".join(pieces)
    # Fast path: if only separators remain after removal of the safe bytes, nothing needs escaping. That is one pass
    # in C for the whole reply instead of one for each name and value.
    if joined.translate(None, SAFE) == (b"=&" * len(pieces))[:-1]:
        return joined
    return b"&".join(
        [b"%s=%s" % (escape(name.encode()), escape(_to_bytes(value))) for name, value in args.items()],
    )


def decode_args(raw: bytes) -> dict[str, bytes]:
    """Decode the arguments of a line. Values of a repeated name are joined by NUL; a missing value is empty.

    Bytes of names that are not UTF-8 become surrogates. An unescaped `=` in a value is part of the value.
    """
    args: dict[str, bytes] = {}
    plain = b"%" not in raw and b"+" not in raw
    for piece in raw.split(b"&"):
        if not piece or piece == b"0":
            continue
        name, _, value = piece.partition(b"=")
        if not plain:
            name, value = unescape(name), unescape(value)
        key = name.decode("utf-8", "surrogateescape")
        args[key] = args[key] + b"\0" + value if key in args else value
    return args


# --- the server's side ------------------------------------------------------------------------------------------------


class Request(NamedTuple):
    """A decoded request line."""

    command: str
    """In lower case; empty if the line is not a command."""
    args: Mapping[str, bytes]
    management: bool = False
    """Whether it is a `!` command (docs/mogilefs.md 6), whose arguments are in `argument` instead of `args`."""
    argument: bytes = b""

    @property
    def callid(self) -> bytes:
        """The client's id of the request, repeated in the reply; empty if not given."""
        return self.args.get("callid", b"")


_COMMAND = re.compile(rb"\s*(\w+)\s*(.*)", re.DOTALL)
_MANAGEMENT = re.compile(rb"!(\S+)\s*(.*)", re.DOTALL)


_GREETING = re.compile(rb"\s*(?:!\S|\w+(?:\s*\Z|\s+(?:0?(?:&|\s*\Z)|[^\s&=]+=)))")
"""A management command, or a word without arguments or with `name=value`: not `EHLO host` or `USER name`."""
_REQUEST_LINE = re.compile(rb" [A-Za-z]+/\d(?:\.\d)?\s*\Z")


def is_request_line(line: bytes) -> bool:
    """Whether the line is a request line of HTTP, or of a protocol that took its form from it (RTSP, SIP, ICAP).

    Clients of this protocol send blanks in values as `+`.
    """
    return b" " in line and b"/" in line[-12:] and _REQUEST_LINE.search(line) is not None


def may_begin(data: bytes) -> bool:
    """Whether `data`, which may be part of a line, is a valid beginning of a connection of this protocol.

    Detects clients of other protocols (HTTP, TLS, SSH, SMTP, FTP). A web page can make a browser connect to the
    tracker, and a URL an application, and the rest of their requests may contain lines chosen by an attacker.
    """
    line, end, _ = data.lstrip(b"\r\n").partition(b"\n")
    if end:
        return _GREETING.match(line) is not None and not is_request_line(line)
    return not line or line[:1].isalnum() or line[:1] in b"_! \t"


def parse_request(line: bytes) -> Request:
    """Decode a line without LF. Never fails: an invalid line becomes a request with an empty command."""
    if match := _COMMAND.match(line):
        return Request(match[1].decode("ascii").lower(), decode_args(match[2]) if match[2] else {})
    if match := _MANAGEMENT.match(line):
        return Request(match[1].decode("ascii", "replace").lower(), {}, management=True, argument=match[2].rstrip())
    return Request("", {})


def ok(args: Args, callid: bytes = b"") -> bytes:
    """Encode an OK reply, including CRLF."""
    if callid:
        args = {**args, "callid": callid}
    return b"OK %s\r\n" % encode_args(args)


def error(code: str, text: str, callid: bytes = b"") -> bytes:
    """Encode an ERR reply, including CRLF; the text is never empty, because clients split the line at blanks."""
    line = b"ERR %s %s" % (code.encode(), escape((text or code).encode()))
    return b"%s %s\r\n" % (line, escape(callid)) if callid else line + b"\r\n"


def refusal(trouble: TawaraError, callid: bytes = b"") -> bytes:
    """Encode the ERR reply for an error."""
    return error(trouble.code, trouble.wire_text, callid)


# --- the client's side ------------------------------------------------------------------------------------------------


class AcceptedRequest(NamedTuple):
    """A decoded OK reply."""

    args: Mapping[str, bytes]


class RefusedRequest(NamedTuple):
    """A decoded ERR reply."""

    code: str
    text: str
    callid: bytes = b""

    def as_error(self) -> TawaraError:
        """Return the exception for the reply's error code."""
        known = BY_CODE.get(self.code)
        if known and self.text in (self.code, known.text):
            return known()  # the default message is more specific than the code
        return known(self.text) if known else TawaraError(f"{self.code}: {self.text}")


def encode_request(command: str, args: Args) -> bytes:
    """Encode a request, including its line end."""
    return b"%s %s\r\n" % (command.encode(), encode_args(args)) if args else b"%s\r\n" % command.encode()


_ERR = re.compile(rb"ERR (\w+)(?: (\S*))?(?: (\S*))?\s*")


def decode_reply(line: bytes) -> AcceptedRequest | RefusedRequest:
    """Decode a reply without its line end. Raises ValueError if it is not a reply."""
    if line.startswith(b"OK") and (len(line) == 2 or line[2] == 0x20):
        return AcceptedRequest(decode_args(line[3:].strip()))
    if match := _ERR.fullmatch(line):
        text = unescape(match[2] or b"").decode("utf-8", "replace")
        return RefusedRequest(match[1].decode("ascii"), text or match[1].decode("ascii"), unescape(match[3] or b""))
    raise ValueError(f"not a tracker's reply: {line[:80]!r}")


# --- both -------------------------------------------------------------------------------------------------------------


class LineBuffer:
    """Splits a stream into lines of at most `limit` bytes (without LF)."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._partial = bytearray()
        self.overlong = False
        """Whether a line exceeded the limit. Further input is then ignored, because line boundaries are unknown."""

    @property
    def partial(self) -> bytes:
        """The received part of the incomplete line."""
        return bytes(self._partial)

    def __len__(self) -> int:
        """Received bytes of the incomplete line."""
        return len(self._partial)

    def feed(self, data: bytes) -> list[bytes]:
        """Add received data; return the lines completed by it, without LF or CRLF, up to an overlong line."""
        if self.overlong:
            return []
        first, *rest = data.split(b"\n")
        self._partial += first
        if not rest:
            self._check(len(self._partial))
            return []
        ended = [bytes(self._partial), *rest]
        last = ended.pop()
        self._partial = bytearray(last)
        lines: list[bytes] = []
        for line in ended:
            if self._check(len(line)):
                return lines
            lines.append(line[:-1] if line.endswith(b"\r") else line)
        self._check(len(last))
        return lines

    def _check(self, length: int) -> bool:
        if length > self._limit:
            self.overlong = True
            self._partial = bytearray()
        return self.overlong
