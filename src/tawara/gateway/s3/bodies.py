"""Receives bodies: decodes their framing, and verifies length, digests and signatures before the end is reached."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from pathlib import Path

from aiohttp import web
from aiohttp.web_protocol import RequestPayloadError

from tawara.gateway.nginx_protocol import GatewayStep
from tawara.gateway.s3.context import S3Context, S3Request
from tawara.http1.connections import send_continue
from tawara.model.limits import Limits
from tawara.model.object_checksums import ChecksumAlgorithm, new_digest
from tawara.store.writer import WriteRequest, WriteResult
from tawara.wire.s3.checksum_fields import (
    DeclaredChecksum,
    check_digest,
    checksum_value,
    content_md5,
    declared_checksum,
)
from tawara.wire.s3.chunks import ChunkDecoder, SignatureChain
from tawara.wire.s3.faults import FaultCode, S3Fault
from tawara.wire.s3.head import RequestHead
from tawara.wire.s3.payload import Framing, expected_digest, framing_of, object_length, trailer_names
from tawara.wire.s3.results import AnsweredChecksum
from tawara.wire.s3.xml_in import LONGEST


class BodyAdmitted(Exception):
    """nginx may receive the body of the request."""


class ReceivedBody:
    """The body of one request. Creating it checks what the head says about it: S3Fault."""

    def __init__(
        self,
        request: S3Request,
        limits: Limits,
        *,
        most: int,
        hash_md5: bool = False,
        algorithm: ChecksumAlgorithm | None = None,
        has_checksum: bool = True,
    ) -> None:
        """`most`: greatest length of the decoded body in bytes. `hash_md5`: compute the MD5, see `computed_md5`.

        `algorithm`: compute this checksum if the client gives none. `has_checksum`: whether checksum fields are of the
        body.
        """
        fields = request.head.fields
        self._request, self._limits = request, limits
        framing = framing_of(fields)
        self.length = object_length(fields, framing)
        """Bytes of the object, as announced."""
        if self.length > most:
            details = [("ProposedSize", self.length), ("MaxSizeAllowed", most)]
            raise S3Fault(FaultCode.ENTITY_TOO_LARGE, details=details)
        declared = declared_checksum(fields) if has_checksum else None
        if declared is None and algorithm is not None:
            declared = DeclaredChecksum(algorithm, None)
        self._declared = declared
        self.md5 = content_md5(fields)
        """What Content-MD5 says."""
        self._sha256 = expected_digest(fields) if framing is Framing.NONE else None
        self._decoder: ChunkDecoder | None = None
        if framing is not Framing.NONE:
            chain = SignatureChain(request.authentication, request.signing_key) if framing.is_signed else None
            self._decoder = ChunkDecoder(framing, self.length, chain=chain, trailers=trailer_names(fields))
        self.checksum: AnsweredChecksum | None = None
        """The client's checksum, once it is verified."""
        self._hash_md5 = hash_md5
        self.computed_md5: bytes | None = None
        """The MD5 of the whole body, if it is to be computed."""
        self.is_unverified = False
        """Whether the body has begun, and its end was not reached with everything as announced."""

    @property
    def algorithm(self) -> ChecksumAlgorithm | None:
        """The algorithm of `checksum`; None if there will be none."""
        return None if self._declared is None else self._declared.algorithm

    @property
    def arrives(self) -> bool:
        """Whether the body arrives while it is stored; else it is in a file or in memory, or only announced."""
        return self._request.step in (GatewayStep.DECIDE, GatewayStep.BODY)

    @property
    def has_digest(self) -> bool:
        """Whether the client gives a digest of the body besides the signature's."""
        return self.md5 is not None or self._declared is not None

    async def pieces(self) -> AsyncGenerator[bytes]:
        """Let the client send the body, and yield it decoded. At its end, all that was announced is verified.

        Raises S3Fault: IncompleteBody, BadDigest, XAmzContentSHA256Mismatch, RequestTimeout and those of ChunkDecoder.
        """
        self.begin()
        async for piece in self._decoded():
            self.update(piece)
            yield piece
        self.finish()

    async def store(self, context: S3Context, wanted: WriteRequest) -> WriteResult:
        """Store the body, however it comes: in a file of nginx, with the request, or while it arrives.

        Raises BodyAdmitted if nginx only asks whether to receive it, S3Fault, SpoolFull, and as FileWriter.
        """
        step, front, writer = self._request.step, context.gateway.front, context.writer
        if step in (GatewayStep.ADMIT, GatewayStep.UNRECEIVED):
            if front is not None:
                await front.check_spool(self.length)
            raise BodyAdmitted if step is GatewayStep.ADMIT else S3Fault(FaultCode.SLOW_DOWN)
        if step is GatewayStep.SMALL_PUT:
            return await writer.store_small(wanted, b"".join([piece async for piece in self.pieces()]))
        if step is not GatewayStep.STORE:
            return await writer.store_stream(wanted, self.pieces(), self.length)
        file = self._request.file
        assert file is not None, "the dispatcher gives the file that nginx received"
        try:
            if self._decoder is not None:  # nginx did not see that the body is framed
                return await writer.store_stream(wanted, self.pieces(), self.length)
            self.begin()
            return await writer.store_file(replace(wanted, observer=self), file)
        except Exception:
            if front is None or await front.has_body(file):
                raise
            raise ConnectionResetError from None  # nginx removed the file, since the client disconnected

    def begin(self) -> None:
        """Begin to digest the body."""
        self.is_unverified = True
        self._received = 0
        self._digest = None if self._declared is None else new_digest(self._declared.algorithm)
        self._running_sha256 = None if self._sha256 is None else hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False) if self._hash_md5 else None

    def update(self, piece: bytes | memoryview) -> None:
        """Digest the next bytes of the decoded body. Raises S3Fault (IncompleteBody) if it is longer than announced."""
        self._received += len(piece)
        if self._received > self.length:
            raise S3Fault(FaultCode.INCOMPLETE_BODY)
        for running in (self._digest, self._running_sha256, self._md5):
            if running is not None:
                running.update(piece)

    def finish(self) -> None:
        """Verify all that was announced, at the end of the body. Raises S3Fault."""
        if self._received != self.length:
            raise S3Fault(FaultCode.INCOMPLETE_BODY)
        if self._running_sha256 is not None and self._running_sha256.digest() != self._sha256:
            raise S3Fault(FaultCode.SHA256_MISMATCH)
        trailers = self._decoder.finish() if self._decoder is not None else {}
        declared = self._declared
        if declared is not None and self._digest is not None:
            self._verify(declared, self._digest.digest(), trailers.get(declared.algorithm.field))
        self.computed_md5 = None if self._md5 is None else self._md5.digest()
        self.is_unverified = False

    def _verify(self, declared: DeclaredChecksum, computed: bytes, trailer: str | None) -> None:
        expected = declared.value
        if declared.in_trailer:
            expected = checksum_value(declared.algorithm, trailer or "")
        if expected is not None:
            check_digest(declared.algorithm, expected, computed)
        self.checksum = AnsweredChecksum(declared.algorithm, computed)

    async def _decoded(self) -> AsyncIterator[bytes]:
        async for data in self._raw():
            if self._decoder is None:
                yield data
            else:
                for piece in self._decoder.feed(data):
                    yield bytes(piece)

    async def _raw(self) -> AsyncIterator[bytes]:
        received, file = self._request.received, self._request.file
        if file is not None:
            async for piece in _pieces_of(file, self._limits.chunk):
                yield piece
            return
        if not isinstance(received, web.BaseRequest):
            yield received.body
            return
        await send_continue(received)
        content = received.content
        while True:
            try:
                async with asyncio.timeout(self._limits.stalled_body):
                    data = await content.readany()
            except TimeoutError:
                raise S3Fault(FaultCode.REQUEST_TIMEOUT) from None
            except RequestPayloadError:
                raise S3Fault(FaultCode.INCOMPLETE_BODY) from None
            if not data:
                return
            yield data


async def _pieces_of(file: Path, size: int) -> AsyncIterator[bytes]:
    """Yield the content of a file in pieces of `size` bytes. Raises OSError."""
    opened = await asyncio.to_thread(file.open, "rb")
    try:
        while piece := await asyncio.to_thread(opened.read, size):
            yield piece
    finally:
        opened.close()


async def admit_document(context: S3Context, head: RequestHead, step: GatewayStep) -> None:
    """Decide whether nginx may receive the body of an operation that reads a document; nothing for other steps.

    Raises BodyAdmitted, S3Fault (EntityTooLarge, SlowDown), SpoolFull.
    """
    front = context.gateway.front
    if step not in (GatewayStep.ADMIT, GatewayStep.UNRECEIVED) or front is None:
        return
    length = object_length(head.fields, framing_of(head.fields))
    if length > LONGEST:
        raise S3Fault(FaultCode.ENTITY_TOO_LARGE)
    await front.check_spool(length)
    raise BodyAdmitted if step is GatewayStep.ADMIT else S3Fault(FaultCode.SLOW_DOWN)


async def read_document(
    request: S3Request, limits: Limits, *, most: int, digest_required: bool = False, has_checksum: bool = True
) -> bytes:
    """Return a small body; empty without one. `has_checksum`: see ReceivedBody. Raises S3Fault."""
    fields = request.head.fields
    if fields.get("content-length") is None and fields.get("transfer-encoding") is None:
        return b""
    body = ReceivedBody(request, limits, most=most, has_checksum=has_checksum)
    if digest_required and not body.has_digest:
        raise S3Fault(FaultCode.INVALID_REQUEST, "Missing required header for this request: Content-MD5")
    data = b"".join([piece async for piece in body.pieces()])
    if body.md5 is not None:
        check_digest(ChecksumAlgorithm.MD5, body.md5, hashlib.md5(data, usedforsecurity=False).digest())
    return data
