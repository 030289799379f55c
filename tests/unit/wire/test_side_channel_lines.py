"""The lines of the side channel."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.model.cluster import HashType
from tawara.wire import side_channel as wire


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        (b"size /dev1/x\r\n", wire.SizeRequest("/dev1/x")),
        (b"size /dev1/x\n", wire.SizeRequest("/dev1/x")),
        (b"MD5 /dev1/x\r\n", wire.DigestRequest(HashType.MD5, "/dev1/x")),
        (b"SHA-1 /dev1/x fsck\r\n", wire.DigestRequest(HashType.SHA1, "/dev1/x", "fsck")),
        (b"crc64nvme /dev1/x", wire.DigestRequest(HashType.CRC64NVME, "/dev1/x")),
        (b"watch\r\n", wire.WatchRequest()),
        (b"\r\n", None),
        (b"shutdown\r\n", wire.SideChannelError(wire.NOT_HONOURED)),
        (b"SHUTDOWN now", wire.SideChannelError(wire.NOT_HONOURED)),
        (b"size", wire.SideChannelError(wire.UNKNOWN)),
        (b"size /dev1/../x", wire.SideChannelError(wire.INVALID_URI)),
        (b"MD5 /dev1/../x", wire.SideChannelError(wire.INVALID_URI)),
        (b"size /dev1/\xff", wire.SideChannelError(wire.NOT_ASCII)),
    ],
)
def test_requests_of_the_reference(line: bytes, request_: wire.Request | None) -> None:
    """Each request of docs/mogilefs.md is parsed; anything else is answered with an error."""
    assert wire.parse(line) == request_


@given(st.binary(max_size=200))
def test_any_line(line: bytes) -> None:
    """Any bytes give a request, an error of one line, or nothing."""
    request = wire.parse(line)
    if isinstance(request, wire.SideChannelError):
        assert request.answer.count(b"\n") == 1
        assert request.answer.endswith(b"\r\n")


def test_replies() -> None:
    """Replies are formatted as by mogstored."""
    assert wire.size("/dev1/x", 7) == b"/dev1/x 7\r\n"
    assert wire.size("/dev1/x", None) == b"/dev1/x -1\r\n"
    assert wire.digest("/dev1/x", HashType.MD5, b"\xab") == b"/dev1/x MD5=ab\r\n"
    assert wire.digest("/dev1/x", HashType.SHA1, None) == b"/dev1/x SHA-1=-1\r\n"
    assert wire.read_failed("/dev1/x", 4096) == b"ERR read /dev1/x at 4096 failed\r\n"
    assert wire.load({10: 0.4, 2: None}) == b"2\t-\n10\t0.40\n.\n"
