"""The tracker's line protocol as bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.model import errors
from tawara.wire import line
from tawara.wire.line import AcceptedRequest, LineBuffer, RefusedRequest, Request

NAMES = st.text(min_size=1, max_size=8).filter(lambda name: name != "0")
ARGS = st.dictionaries(NAMES, st.binary(max_size=20), max_size=6)
ALL_BYTES = bytes(range(256))


@given(st.binary())
def test_escaping_round_trips(value: bytes) -> None:
    """Any bytes are unescaped to themselves, and only the safe characters are sent."""
    escaped = line.escape(value)
    assert line.unescape(escaped) == value
    assert not escaped.translate(None, line.SAFE + b"+%")


def test_exactly_the_safe_characters_are_not_escaped() -> None:
    """Each of the 256 bytes is escaped as by MogileFS."""
    safe = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_,-./\\:"
    for code in range(256):
        byte = bytes([code])
        expected = byte if byte in safe else b"+" if byte == b" " else b"%%%02X" % code
        assert line.escape(byte) == expected


@pytest.mark.parametrize(
    ("escaped", "plain"),
    [(b"a+b", b"a b"), (b"%2b", b"+"), (b"%2B", b"+"), (b"100%", b"100%"), (b"%zz%4", b"%zz%4"), (b"%00", b"\0")],
)
def test_unescape_is_lenient(escaped: bytes, plain: bytes) -> None:
    """Either case of hexadecimal digits is accepted, and a lone % is kept."""
    assert line.unescape(escaped) == plain


@given(ARGS)
def test_arguments_round_trip(args: dict[str, bytes]) -> None:
    """Any names and values of a request are parsed back."""
    request = line.parse_request(line.encode_request("noop", args).removesuffix(b"\r\n"))
    assert request == Request("noop", args)


@given(ARGS)
def test_replies_round_trip(args: dict[str, bytes]) -> None:
    """Any values of an OK reply are parsed back, and the reply is one line."""
    reply = line.ok(args)
    assert reply.count(b"\n") == 1
    assert line.decode_reply(reply.removesuffix(b"\r\n")) == AcceptedRequest(args)


@given(st.text(min_size=1), st.binary())
def test_errors_round_trip(text: str, callid: bytes) -> None:
    """Any text of an error is parsed back completely."""
    reply = line.error("unknown_key", text, callid)
    assert line.decode_reply(reply.removesuffix(b"\r\n")) == RefusedRequest("unknown_key", text, callid)


@given(st.binary(max_size=60))
def test_any_line_is_a_request(garbage: bytes) -> None:
    """Any bytes are parsed as a request, possibly with an unknown command."""
    request = line.parse_request(garbage)
    assert request.command == request.command.lower()


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"noop", Request("noop", {})),
        (b"  NoOp  ", Request("noop", {})),
        (b"get_paths domain=d&key=a%20b+c", Request("get_paths", {"domain": b"d", "key": b"a b c"})),
        (b"x a=1&&0&b=2", Request("x", {"a": b"1", "b": b"2"})),
        (b"x a=1&a=2", Request("x", {"a": b"1\x002"})),
        (b"x a=b=c", Request("x", {"a": b"b=c"})),
        (b"x a", Request("x", {"a": b""})),
        (b"x %61=%62", Request("x", {"a": b"b"})),
        (b"!version", Request("version", {}, management=True)),
        (b"!want 2 delete ", Request("want", {}, management=True, argument=b"2 delete")),
        (b"! version", Request("", {})),
        (b"&&&", Request("", {})),
        (b"\xff\xfe", Request("", {})),
    ],
)
def test_requests_of_the_reference(raw: bytes, expected: Request) -> None:
    """Commands in any case, blanks before them, empty pieces, repeated names, `!` lines are parsed."""
    assert line.parse_request(raw) == expected


def test_replies_of_the_reference() -> None:
    """An OK is always followed by a blank, values are escaped only where necessary, a callid is returned."""
    assert line.ok({}) == b"OK \r\n"
    assert line.ok({"path": "http://h:7500/dev1/0/000/000/0000000001.fid", "n": 2, "none": None}) == (
        b"OK path=http://h:7500/dev1/0/000/000/0000000001.fid&n=2&none=\r\n"
    )
    assert line.ok({"a": b"x=y&z", "ü": "é"}, b"7") == b"OK a=x%3Dy%26z&%C3%BC=%C3%A9&callid=7\r\n"
    assert line.error("no_key", "", b"a b") == b"ERR no_key no_key a+b\r\n"
    assert line.refusal(errors.UnknownCommand()) == b"ERR unknown_command Unknown+server+command\r\n"


@given(st.lists(st.tuples(NAMES, st.binary(max_size=6)), max_size=5))
def test_the_fast_encoder_gives_the_same(pairs: list[tuple[str, bytes]]) -> None:
    """Encoding a whole reply in one pass gives the same as escaping each piece."""
    args = dict(pairs)
    slow = b"&".join(line.escape(name.encode()) + b"=" + line.escape(value) for name, value in args.items())
    assert line.encode_args(args) == slow


def test_error_replies_become_the_same_errors() -> None:
    """A client raises the same error as the tracker; an unknown code keeps its name."""
    assert isinstance(RefusedRequest("key_exists", "no").as_error(), errors.KeyExists)
    strange = RefusedRequest("strange", "very").as_error()
    assert type(strange) is errors.TawaraError
    assert str(strange) == "strange: very"


@pytest.mark.parametrize("raw", [b"", b"HTTP/1.1 400", b"ERR", b"OKAY", b"ERR a b c d"])
def test_invalid_replies_are_refused(raw: bytes) -> None:
    """A reply of another protocol raises an error."""
    with pytest.raises(ValueError, match="not a tracker's reply"):
        line.decode_reply(raw)


def _cut(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({min(cut, len(data)) for cut in cuts} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


STREAM = st.lists(st.sampled_from([b"\n", b"\r\n", b"a", b"\r", b"bcdefgh", b"\0"]), max_size=40).map(b"".join)


@given(STREAM, st.lists(st.integers(0, 80)), st.integers(0, 12))
def test_lines_do_not_depend_on_the_pieces(data: bytes, cuts: list[int], limit: int) -> None:
    """However a stream is split, the same lines result, and the same decision about a line that is too long."""
    whole, pieces = LineBuffer(limit), LineBuffer(limit)
    expected = whole.feed(data)
    found = [each for piece in _cut(data, cuts) for each in pieces.feed(piece)]
    assert (found, pieces.overlong, len(pieces)) == (expected, whole.overlong, len(whole))
    assert len(pieces) <= limit


def test_a_long_line_ends_the_stream_after_the_lines_before_it() -> None:
    """The limit counts everything before the LF; earlier lines are returned, later ones are not."""
    lines = LineBuffer(5)
    assert lines.feed(b"12345\n1234\r\n123456") == [b"12345", b"1234"]
    assert lines.overlong
    assert lines.feed(b"\nnoop\n") == []
