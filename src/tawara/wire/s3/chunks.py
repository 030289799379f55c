"""Decodes aws-chunked bodies: signed or unsigned chunks of any size, with or without trailing fields.

A chunk is `HEX[;chunk-signature=SIGNATURE] CRLF DATA CRLF`; the last has no data, and trailing fields and an empty line
follow it. Data is handed on before the signature of its chunk is known: the caller keeps nothing of a body unless
`finish` returns.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from enum import Enum
from typing import Final

from tawara.wire.s3.faults import FaultCode, S3Fault
from tawara.wire.s3.payload import Framing
from tawara.wire.s3.signature import EMPTY_SHA256, Authentication, sign

LONGEST_LINE: Final = 4096
"""Most bytes of the line before a chunk, and of a trailing field."""
MOST_TRAILERS: Final = 16
TRAILER_SIGNATURE: Final = "x-amz-trailer-signature"
_SIZE: Final = re.compile(rb"([0-9a-fA-F]{1,16})[ \t]*((?:;[\x20-\x7e]*)?)")
_EXTENSION: Final = re.compile(rb";\s*chunk-signature=([0-9a-f]{64})\s*")
_TRAILER: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e]*?)[ \t]*")


class SignatureChain:
    """The signatures of a body's chunks, each computed over the one before it."""

    def __init__(self, authentication: Authentication, key: bytes) -> None:
        """`key`: the signing key with which the head was verified."""
        self._prefix = f"{authentication.time}\n{authentication.scope}\n"
        self._previous = authentication.signature
        self._key = key

    def check_chunk(self, digest: str, signature: str) -> None:
        """Verify the next chunk, whose data has this SHA-256. Raises S3Fault (SignatureDoesNotMatch)."""
        self._check("PAYLOAD", f"{EMPTY_SHA256}\n{digest}", signature)

    def check_trailer(self, trailer: bytes, signature: str) -> None:
        """Verify the trailing fields, as lines `name:value` that end with LF. Raises S3Fault."""
        self._check("TRAILER", hashlib.sha256(trailer).hexdigest(), signature)

    def _check(self, kind: str, rest: str, signature: str) -> None:
        text = f"AWS4-HMAC-SHA256-{kind}\n{self._prefix}{self._previous}\n{rest}"
        expected = sign(self._key, text)
        if not hmac.compare_digest(expected, signature):
            details = [("StringToSign", text), ("SignatureProvided", signature)]
            raise S3Fault(FaultCode.SIGNATURE_DOES_NOT_MATCH, details=details)
        self._previous = expected


class _State(Enum):
    SIZE = "the line before a chunk"
    DATA = "the data of a chunk"
    DATA_END = "the end of line after the data"
    TRAILER = "trailing fields, or the empty line"
    END = "nothing more"


class ChunkDecoder:
    """Decodes one body; holds at most one line of it."""

    def __init__(
        self,
        framing: Framing,
        length: int,
        *,
        chain: SignatureChain | None = None,
        trailers: frozenset[str] = frozenset(),
    ) -> None:
        """`length`: that of the object, in bytes; `trailers`: lower-case names of the trailing fields announced.

        `chain` verifies the signatures of a signed framing.
        """
        assert (chain is not None) == framing.is_signed
        self._framing = framing
        self._announced = trailers
        self._chain = chain
        self._remaining = length
        self._state = _State.SIZE
        self._line = bytearray()
        self._chunk = 0
        self._signature = ""
        self._digest = hashlib.sha256()
        self._trailers: dict[str, str] = {}

    @property
    def is_complete(self) -> bool:
        """Whether the end of the framing was seen."""
        return self._state is _State.END

    def feed(self, data: bytes) -> list[memoryview]:
        """Take the next bytes of the body; return the object's bytes among them, as parts of `data`.

        Raises S3Fault: IncompleteBody if there are more than announced, SignatureDoesNotMatch, InvalidRequest or
        MalformedTrailerError for other framing.
        """
        view = memoryview(data)
        pieces: list[memoryview] = []
        position = 0
        while position < len(view):
            if self._state is _State.DATA:
                piece = view[position : position + self._chunk]
                position += len(piece)
                self._take(piece)
                pieces.append(piece)
            elif self._state is _State.END:
                raise S3Fault(FaultCode.INVALID_REQUEST, "The body goes on after its last chunk")
            else:
                position = self._feed_line(data, position)
        return pieces

    def finish(self) -> Mapping[str, str]:
        """Return the trailing fields by lower-case name, at the end of the body.

        Raises S3Fault: IncompleteBody if the body or the object is shorter than announced, MalformedTrailerError if an
        announced field is missing.
        """
        if self._state is _State.TRAILER and not self._line and self._chain is None:
            self._end()  # some clients leave out the empty line
        if self._state is not _State.END or self._remaining:
            raise S3Fault(FaultCode.INCOMPLETE_BODY)
        return self._trailers

    def _take(self, piece: memoryview) -> None:
        self._chunk -= len(piece)
        if self._chain is not None:
            self._digest.update(piece)
        if not self._chunk:
            self._state = _State.DATA_END

    def _feed_line(self, data: bytes, position: int) -> int:
        """Collect a line up to its LF, and act on it once it is complete; return where it ends in `data`."""
        end = data.find(b"\n", position, position + LONGEST_LINE)
        stop = end + 1 if end >= 0 else min(len(data), position + LONGEST_LINE)
        self._line += data[position:stop]
        if len(self._line) > LONGEST_LINE or (end < 0 and stop < len(data)):
            raise S3Fault(FaultCode.INVALID_REQUEST, "The aws-chunked framing has too long a line")
        if end >= 0:
            line = bytes(self._line[:-1])
            self._line.clear()
            self._act_on(line)
        return stop

    def _act_on(self, line: bytes) -> None:
        if self._state is _State.TRAILER:
            self._begin_trailer(line.removesuffix(b"\r"))
            return
        if not line.endswith(b"\r"):
            raise S3Fault(FaultCode.INVALID_REQUEST, "The aws-chunked framing is not well-formed")
        line = line[:-1]
        if self._state is _State.SIZE:
            self._begin_chunk(line)
        elif line:
            raise S3Fault(FaultCode.INVALID_REQUEST, "A chunk's data is longer than its size")
        else:
            self._end_chunk()
            self._state = _State.SIZE

    def _begin_chunk(self, line: bytes) -> None:
        match = _SIZE.fullmatch(line)
        if match is None:
            raise S3Fault(FaultCode.INVALID_REQUEST, "The aws-chunked framing is not well-formed")
        self._chunk = int(match[1], 16)
        if self._chain is not None:
            extension = _EXTENSION.fullmatch(match[2])
            if extension is None:
                raise S3Fault(FaultCode.INVALID_REQUEST, "A chunk has no signature")
            self._signature = extension[1].decode()
            self._digest = hashlib.sha256()
        if self._chunk > self._remaining:
            raise S3Fault(FaultCode.INCOMPLETE_BODY, "The body is longer than x-amz-decoded-content-length")
        self._remaining -= self._chunk
        if self._chunk:
            self._state = _State.DATA
            return
        self._end_chunk()
        self._state = _State.TRAILER

    def _end_chunk(self) -> None:
        if self._chain is not None:
            self._chain.check_chunk(self._digest.hexdigest(), self._signature)

    def _begin_trailer(self, line: bytes) -> None:
        if not line:
            # minio-go writes an empty line before the signature of the trailing fields, too.
            if self._chain is None or not self._trailers or TRAILER_SIGNATURE in self._trailers:
                self._end()
            return
        match = _TRAILER.fullmatch(line)
        if match is None or not self._framing.has_trailer or len(self._trailers) >= MOST_TRAILERS:
            raise S3Fault(FaultCode.MALFORMED_TRAILER)
        name = match[1].decode().lower()
        if name in self._trailers or not (name in self._announced or name == TRAILER_SIGNATURE):
            raise S3Fault(FaultCode.MALFORMED_TRAILER)
        self._trailers[name] = match[2].decode()

    def _end(self) -> None:
        signature = self._trailers.pop(TRAILER_SIGNATURE, None)
        if not self._announced <= self._trailers.keys():
            raise S3Fault(FaultCode.MALFORMED_TRAILER, "An announced trailing field is missing")
        if self._chain is not None and self._framing.has_trailer:
            if signature is None:
                raise S3Fault(FaultCode.MALFORMED_TRAILER, f"{TRAILER_SIGNATURE} is missing")
            lines = "".join(f"{name}:{value}\n" for name, value in self._trailers.items())
            self._chain.check_trailer(lines.encode(), signature)
        self._state = _State.END
