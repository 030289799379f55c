"""aws-chunked bodies: AWS's published examples, botocore's bodies, and what is refused."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.wire.s3.checksum_fields import declared_checksum
from tawara.wire.s3.chunks import LONGEST_LINE, ChunkDecoder, SignatureChain
from tawara.wire.s3.faults import FaultCode, S3Fault
from tawara.wire.s3.payload import Framing, framing_of, object_length, trailer_names
from tawara.wire.s3.signature import Authentication, Scope, signing_key
from tests.unit.wire.s3.oracle import call, read

SCOPE = Scope("20130524", "us-east-1")
KEY = signing_key("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", SCOPE)
DATA = b"a" * 66_560


def chain(seed: str) -> SignatureChain:
    return SignatureChain(Authentication("AKID", SCOPE, ("host",), seed, "20130524T000000Z", ""), KEY)


def frame(chunks: Sequence[tuple[bytes, str]], trailer: bytes = b"\r\n") -> bytes:
    body = b""
    for data, signature in chunks:
        body += f"{len(data):x};chunk-signature={signature}\r\n".encode() + data + (b"\r\n" if data else b"")
    return body + trailer


SIGNED_SEED = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
SIGNED = frame(
    [
        (DATA[:65_536], "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
        (DATA[65_536:], "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
        (b"", "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
    ]
)
"""The example in AWS's documentation of chunked uploads."""
TRAILER_SEED = "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e"
TRAILER = frame(
    [
        (DATA[:65_536], "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2"),
        (DATA[65_536:], "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7"),
        (b"", "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992"),
    ],
    b"x-amz-checksum-crc32c:sOO8/Q==\r\n"
    b"x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n",
)
"""The example in AWS's documentation of trailing fields."""
CRC32C = frozenset({"x-amz-checksum-crc32c"})


def signed(length: int = len(DATA)) -> ChunkDecoder:
    return ChunkDecoder(Framing.SIGNED, length, chain=chain(SIGNED_SEED))


def unsigned(length: int, *trailers: str) -> ChunkDecoder:
    return ChunkDecoder(Framing.UNSIGNED_TRAILER, length, trailers=frozenset(trailers))


def decode(decoder: ChunkDecoder, *pieces: bytes) -> tuple[bytes, dict[str, str]]:
    data = b"".join(bytes(part) for piece in pieces for part in decoder.feed(piece))
    return data, dict(decoder.finish())


def refusal(decoder: ChunkDecoder, *pieces: bytes) -> FaultCode:
    with pytest.raises(S3Fault) as raised:
        decode(decoder, *pieces)
    return raised.value.code


def cut(body: bytes, places: Sequence[int]) -> list[bytes]:
    ends = sorted(place % (len(body) + 1) for place in places)
    return [body[start:end] for start, end in zip([0, *ends], [*ends, len(body)], strict=True)]


@given(places=st.lists(st.integers(0, 10**6), max_size=8))
def test_the_published_signed_body(places: list[int]) -> None:
    """C5: the signed body in AWS's documentation decodes, wherever it is cut on its way."""
    assert decode(signed(), *cut(SIGNED, places)) == (DATA, {})


@given(places=st.lists(st.integers(0, 10**6), max_size=8))
def test_the_published_signed_trailer(places: list[int]) -> None:
    """C5: so does the one with a signed trailing field."""
    decoder = ChunkDecoder(Framing.SIGNED_TRAILER, len(DATA), chain=chain(TRAILER_SEED), trailers=CRC32C)
    assert decode(decoder, *cut(TRAILER, places)) == (DATA, {"x-amz-checksum-crc32c": "sOO8/Q=="})


@pytest.mark.parametrize("size", [0, 1, 65_536, 3_000_000])
def test_bodies_of_botocore(size: int) -> None:
    """C2: over https botocore sends the checksum as a trailing field; body and field are decoded."""
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    captured = call("put_object", scheme="https", Bucket="b", Key="k", Body=data)
    fields = captured.head().fields
    framing = framing_of(fields)
    assert framing is Framing.UNSIGNED_TRAILER
    declared = declared_checksum(fields)
    assert declared is not None
    assert declared.in_trailer
    decoder = ChunkDecoder(framing, object_length(fields, framing), trailers=trailer_names(fields))
    found, trailers = decode(decoder, captured.body)
    assert found == data
    assert base64.b64decode(trailers[declared.algorithm.field]) == zlib.crc32(data).to_bytes(4)


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=40), max_size=6), places=st.lists(st.integers(0, 300), max_size=5)
)
def test_chunks_of_any_size(chunks: list[bytes], places: list[int]) -> None:
    """C5: a chunk may have any size, the last one none, and extensions without meaning are passed over."""
    body = b"".join(b"%X;chunk-signature=%s\r\n%s\r\n" % (len(each), b"0" * 64, each) for each in chunks)
    data = b"".join(chunks)
    assert decode(unsigned(len(data)), *cut(body + b"0\r\n\r\n", places)) == (data, {})


@pytest.mark.parametrize(
    ("headers", "framing"),
    [
        ({"x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER"}, Framing.UNSIGNED_TRAILER),
        ({"x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}, Framing.SIGNED),
        (
            {"content-encoding": "gzip,aws-chunked", "x-amz-content-sha256": "UNSIGNED-PAYLOAD"},
            Framing.UNSIGNED_TRAILER,
        ),
        ({"x-amz-decoded-content-length": "5"}, Framing.UNSIGNED_TRAILER),
        ({"x-amz-content-sha256": "UNSIGNED-PAYLOAD", "content-encoding": "gzip"}, Framing.NONE),
    ],
)
def test_framing_is_recognised(headers: dict[str, str], framing: Framing) -> None:
    """C3: framing is recognised by the payload's word, or aws-chunked, or the decoded length."""
    assert framing_of(read("PUT", "http://h/b/k", headers).fields) is framing


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", FaultCode.NOT_IMPLEMENTED),
        ("STREAMING-UNKNOWN", FaultCode.INVALID_ARGUMENT),
    ],
)
def test_other_framings(value: str, code: FaultCode) -> None:
    """C5: chunks signed by ECDSA are NotImplemented."""
    with pytest.raises(S3Fault) as raised:
        framing_of(read("PUT", "http://h/b/k", {"x-amz-content-sha256": value}).fields)
    assert raised.value.code is code


def test_the_decoded_length() -> None:
    """C6: the decoded length must be x-amz-decoded-content-length, else IncompleteBody; without it 411."""
    body = b"5\r\nhello\r\n0\r\n\r\n"
    assert refusal(unsigned(6), body) is FaultCode.INCOMPLETE_BODY
    assert refusal(unsigned(4), body) is FaultCode.INCOMPLETE_BODY
    assert refusal(unsigned(5), body[:-6]) is FaultCode.INCOMPLETE_BODY
    with pytest.raises(S3Fault) as raised:
        object_length(read("PUT", "http://h/b/k", {"content-length": "9"}).fields, Framing.UNSIGNED_TRAILER)
    assert (raised.value.code, raised.value.status) == (FaultCode.MISSING_CONTENT_LENGTH, 411)


def test_a_body_without_length() -> None:
    """O11: a PUT without Content-Length is MissingContentLength 411, with one that is no number InvalidArgument."""
    for headers, code in (
        ({}, FaultCode.MISSING_CONTENT_LENGTH),
        ({"content-length": "x"}, FaultCode.INVALID_ARGUMENT),
    ):
        with pytest.raises(S3Fault) as raised:
            object_length(read("PUT", "http://h/b/k", headers).fields, Framing.NONE)
        assert raised.value.code is code


@pytest.mark.parametrize("place", [0, 200, 66_000])
def test_a_changed_signed_body(place: int) -> None:
    """A body that differs from what was signed is refused, whether its data or its frames were changed."""
    changed = bytearray(SIGNED)
    changed[place] ^= 1
    assert refusal(signed(), bytes(changed)) in (
        FaultCode.SIGNATURE_DOES_NOT_MATCH,
        FaultCode.INVALID_REQUEST,
        FaultCode.INCOMPLETE_BODY,
    )


def test_swapped_and_missing_chunks() -> None:
    """Signed chunks in another order, without the last, or without signatures are refused."""
    middle = SIGNED.index(b"400;chunk")
    first, second = SIGNED[:middle], SIGNED[middle:]
    assert refusal(signed(), second[: second.index(b"\r\n0;chunk") + 2], first) is FaultCode.SIGNATURE_DOES_NOT_MATCH
    assert refusal(signed(), SIGNED[:-2]) is FaultCode.INCOMPLETE_BODY
    assert refusal(signed(), SIGNED[: SIGNED.index(b"\r\n0;chunk") + 2]) is FaultCode.INCOMPLETE_BODY
    assert refusal(signed(1), b"1\r\na\r\n0\r\n\r\n") is FaultCode.INVALID_REQUEST


def test_trailers_must_be_announced() -> None:
    """A trailing field that was not announced, or is announced and missing, twice or malformed, is refused."""
    body = b"1\r\na\r\n0\r\n"
    line = b"x-amz-checksum-crc32:NhCmhg==\r\n"
    for trailers, rest in (
        ([], line),
        (["x-amz-checksum-crc32"], b""),
        (["x-amz-checksum-crc32"], line * 2),
        (["x-amz-checksum-crc32"], b"no field\r\n"),
    ):
        assert refusal(unsigned(1, *trailers), body + rest + b"\r\n") is FaultCode.MALFORMED_TRAILER
    decoder = ChunkDecoder(Framing.SIGNED_TRAILER, len(DATA), chain=chain(TRAILER_SEED), trailers=CRC32C)
    assert refusal(decoder, TRAILER.replace(b"sOO8", b"sOO9")) is FaultCode.SIGNATURE_DOES_NOT_MATCH
    decoder = ChunkDecoder(Framing.SIGNED_TRAILER, len(DATA), chain=chain(TRAILER_SEED), trailers=CRC32C)
    without = TRAILER[: TRAILER.index(b"x-amz-trailer-signature")] + b"\r\n"
    with pytest.raises(S3Fault):
        decode(decoder, without)


@pytest.mark.parametrize("body", [b"1\r\na\r\n0\r\n", b"1\r\na\r\n0\r\n\r\n"])
def test_the_last_empty_line_may_be_missing(body: bytes) -> None:
    """A body that ends after its last chunk's line is complete."""
    assert decode(unsigned(1), body) == (b"a", {})


def test_nothing_follows_the_end() -> None:
    """Bytes after the end of the framing are refused."""
    assert refusal(unsigned(1), b"1\r\na\r\n0\r\n\r\nx") is FaultCode.INVALID_REQUEST


def test_a_line_is_bounded() -> None:
    """A line that does not end is refused before it fills memory, however it is cut."""
    for piece in (b"1;" + b"x" * 10 * LONGEST_LINE, b"1;x"):
        decoder = unsigned(1)
        with pytest.raises(S3Fault):
            for _ in range(2 * LONGEST_LINE):
                decoder.feed(piece)


@given(
    body=st.one_of(
        st.binary(max_size=200),
        st.lists(st.sampled_from([b"1", b"0", b";", b"\r\n", b"a", b"chunk-signature=", b"x-a:b", b"f" * 16])).map(
            b"".join
        ),
    )
)
def test_any_bytes_as_framing(body: bytes) -> None:
    """Any bytes as framing are decoded or refused with 4xx."""
    for decoder in (unsigned(3, "x-a"), signed(3)):
        try:
            data, _ = decode(decoder, body)
            assert len(data) == 3
        except S3Fault as fault:
            assert 400 <= fault.status < 500
