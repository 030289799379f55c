"""Distinguishing clients of the line protocol from programs that use another protocol."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.tracker.verbs import QUICK, THOROUGH
from tawara.wire.line import encode_request, is_request_line, may_begin


@pytest.mark.parametrize(
    "line",
    [
        b"POST / HTTP/1.1\r\n",
        b"GET /x?delete+domain=files HTTP/1.0\r\n",
        b"delete domain=files&key=x HTTP/1.1\n",
        b"DELETE /files/x HTTP/1.1\r\n",
        b"\r\nPOST / HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n",
        b"M-SEARCH * HTTP/1.1\r\n",
        b"Host: tracker:7001\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x16\x03\x01\ndelete domain=files&key=x\n",
        b"\0\xff\n",
        b"<policy-file-request/>\0",
        b'{"method":"delete"}\r\n',
        b"*1\r\n$4\r\nPING\r\n",
        b"&key=x\n",
        b"OPTIONS * RTSP/1.0\r\n",
        b"OPTIONS rtsp://host/?a=b RTSP/1.0\r\n",
        b"REGISTER sip:host SIP/2.0\r\n",
        b"EHLO host\r\n",
        b"USER anonymous\r\n",
        b"CLIENT libcurl 7.88.1\r\n",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 40000 7001\r\n",
        b"get key\r\n",
    ],
)
def test_other_protocols_are_recognised(line: bytes) -> None:
    """No client of the line protocol begins with an HTTP request, or with anything but the name of a command."""
    assert not may_begin(line)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\r\n",
        b"\n\nnoop\n",
        b" noop\n",
        b"!version\r\n",
        b"nope\n",
        b"NOOP\n",
        b"nope 0\n",
        b"nope &a=b\n",
        b"no",
        b"!",
    ],
)
def test_valid_beginnings(line: bytes) -> None:
    """Empty lines, blanks, management commands and unknown commands are answered as usual."""
    assert may_begin(line)


@given(
    st.sampled_from(sorted({**QUICK, **THOROUGH})),
    st.dictionaries(st.sampled_from(["domain", "key", "path"]), st.binary(max_size=40) | st.just(b"a HTTP/1.1")),
    st.integers(0, 60),
)
def test_every_request_may_begin_a_connection(command: str, args: dict[str, bytes], cut: int) -> None:
    """This holds for any arguments, and any split of the first line."""
    line = encode_request(command, args)
    assert may_begin(line)
    assert may_begin(line[:cut])
    assert not is_request_line(line.rstrip(b"\r\n"))
