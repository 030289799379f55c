"""CompleteMultipartUpload: joins the parts of an upload to its object, which may take long.

One process at a time makes the object. Other requests to complete the same upload, there and elsewhere, wait for its
result and answer the same; so do those that come later, as long as the result is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import structlog
from aiohttp import web

from tawara import background
from tawara.gateway.s3.bodies import read_document
from tawara.gateway.s3.buckets import XML
from tawara.gateway.s3.context import S3Context, S3Request
from tawara.gateway.s3.multipart import uploaded_part
from tawara.gateway.s3.objects import check_current
from tawara.http1.reply import Reply
from tawara.model.access.grants import Right
from tawara.model.assembling import FileRange
from tawara.model.cluster import DEFAULT_CLASS, Domain
from tawara.model.errors import NoSource, TawaraError
from tawara.model.multipart import (
    SMALLEST_PART,
    ListedPart,
    ListFault,
    MultipartCompletion,
    MultipartUpload,
    ObjectPart,
    RefusedList,
    UploadedPart,
    choose_parts,
    joined_etag,
)
from tawara.model.object_checksums import format_value
from tawara.model.reserved_keys import part_number
from tawara.store.writer import ObjectDescription, WriteRequest
from tawara.wire.s3.attribute_record import decode_attributes, encode_attributes
from tawara.wire.s3.completion_checks import check_expectations, check_listed, joined_checksum
from tawara.wire.s3.completion_record import CompletionRecord, decode_completion, encode_completion
from tawara.wire.s3.faults import FaultCode, S3Fault, fault_of
from tawara.wire.s3.results import render_completion
from tawara.wire.s3.xml_in import LONGEST, parse_part_list
from tawara.wire.s3.xml_out import DECLARATION, quoted

log = structlog.get_logger(__name__)

PATIENCE: Final = 5.0
"""Seconds after which the answer begins with blanks, and between these: clients give up without any byte."""
_RETRY: Final = 0.2
"""Seconds between two looks at an upload that another process completes."""
_ATTEMPTS: Final = 3
"""Most attempts while parts are replaced, or their replicas move."""


class CompletionHandler:
    """Answers CompleteMultipartUpload. Close it once."""

    def __init__(self, context: S3Context, *, patience: float = PATIENCE) -> None:
        self._context, self._patience = context, patience
        self._running: set[asyncio.Task[CompletionRecord]] = set()

    async def close(self) -> None:
        """End the completions whose clients are gone."""
        await background.end(self._running)

    async def handle(self, request: S3Request) -> Reply | web.StreamResponse:
        """Make the object. What takes long is answered with 200 at once, then blanks, then the result or the error."""
        request.require(Right.WRITE)
        target = request.head.target
        domain = self._context.domain(target.bucket)
        upload = await self._context.multipart.find(domain, target.key, target.parameter("uploadId") or "")
        # Checksum fields are those of the object.
        body = await read_document(request, self._context.limits, most=LONGEST, has_checksum=False)
        listed = parse_part_list(body, upload.checksum[0] if upload.checksum else None)
        # A client that is gone asks again, and then finds the result.
        work = asyncio.create_task(self._complete(request, domain, upload, listed), name="completion of an upload")
        self._running.add(work)
        work.add_done_callback(self._ended)
        done, _ = await asyncio.wait([work], timeout=self._patience)
        if done:
            return Reply(200, XML, self._render(request, work.result()))
        return await self._answer_slowly(request, work)

    def _ended(self, work: asyncio.Task[CompletionRecord]) -> None:
        self._running.discard(work)
        if not work.cancelled() and (error := work.exception()) is not None:
            log.info("completion_failed", reason=str(error))

    async def _answer_slowly(self, request: S3Request, work: asyncio.Task[CompletionRecord]) -> web.StreamResponse:
        # nginx would keep the blanks in its buffer.
        fields = {**request.fields, **XML, "x-accel-buffering": "no"}
        response = web.StreamResponse(status=200, headers=fields)
        await response.prepare(request.http)
        # The declaration comes first in a document.
        await response.write(DECLARATION.encode())
        while not work.done():
            await response.write(b" ")
            await asyncio.wait([work], timeout=self._patience)
        try:
            body = self._render(request, work.result())
        except (S3Fault, TawaraError) as error:
            fault = error if isinstance(error, S3Fault) else fault_of(error)
            ids = {"request_id": request.fields["x-amz-request-id"], "host_id": request.fields["x-amz-id-2"]}
            body = fault.body(resource=request.head.target.resource, **ids)
        await response.write(body.removeprefix(DECLARATION.encode()))
        await response.write_eof()
        return response

    def _render(self, request: S3Request, record: CompletionRecord) -> bytes:
        target = request.head.target
        location = f"{request.http.scheme}://{request.head.fields.get('host') or ''}{target.resource}"
        return render_completion(location, target.bucket, target.key, record.etag, record.checksum())

    # --- making the object --------------------------------------------------------------------------------------------

    async def _complete(
        self, request: S3Request, domain: Domain, upload: MultipartUpload, listed: Sequence[ListedPart]
    ) -> CompletionRecord:
        while True:
            now = await self._context.multipart.find(domain, upload.key, upload.upload_id)
            if now.result is not None:
                return decode_completion(now.result)
            async with self._context.multipart.hold(upload) as holder:
                if holder is not None:
                    record = await self._join(request, domain, upload, listed, holder)
            if holder is not None:
                await self._context.multipart.clean_up(upload)
                return record
            await asyncio.sleep(_RETRY)

    async def _join(
        self, request: S3Request, domain: Domain, upload: MultipartUpload, listed: Sequence[ListedPart], holder: str
    ) -> CompletionRecord:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await self._join_once(request, domain, upload, listed, holder)
            except NoSource:  # a part was replaced or its replicas moved since the look-up
                if attempt == _ATTEMPTS:
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def _join_once(
        self, request: S3Request, domain: Domain, upload: MultipartUpload, listed: Sequence[ListedPart], holder: str
    ) -> CompletionRecord:
        algorithm = upload.checksum[0] if upload.checksum else None
        stored = {part_number(each.key): each for each in await self._context.multipart.all_parts(upload)}
        chosen = choose_parts(listed, {number: uploaded_part(each, algorithm) for number, each in stored.items()})
        if isinstance(chosen, RefusedList):
            raise _refusal(upload, chosen)
        check_listed(upload.checksum, listed)
        checksum = joined_checksum(upload.checksum, chosen)
        check_expectations(request.head.fields, upload.checksum, checksum, sum(each.length for each in chosen))
        etag = joined_etag([each.md5 for each in chosen])
        result = encode_completion(etag, checksum)
        record = decode_attributes(upload.attributes)
        given, tags = record.object_fields(None), tuple(record.tags.items())
        storage_class = domain.classes.get(upload.classid) or domain.class_named(DEFAULT_CLASS)
        assert storage_class is not None, "each domain has a default class"
        wanted = WriteRequest(
            domain=domain,
            key=upload.key,
            storage_class=storage_class,
            content_type=upload.content_type,
            md5=None,
            conditions=partial(check_current, request.head.fields),
            describe=partial(ObjectDescription, etag, encode_attributes(given, checksum, tags)),
            multipart=MultipartCompletion(upload.upload_id, holder, result, _object_parts(chosen)),
        )
        await self._context.writer.check(wanted)
        await self._context.assembler.assemble(wanted, [FileRange.whole(stored[each.number]) for each in chosen])
        return decode_completion(result)


def _object_parts(chosen: Sequence[UploadedPart]) -> tuple[ObjectPart, ...]:
    return tuple(
        ObjectPart(each.number, each.length, None if each.checksum is None else format_value(each.checksum))
        for each in chosen
    )


def _refusal(upload: MultipartUpload, refused: RefusedList) -> S3Fault:
    number: tuple[str, Any] = ("PartNumber", refused.number)
    match refused.fault:
        case ListFault.EMPTY:
            return S3Fault(FaultCode.MALFORMED_XML)
        case ListFault.ORDER:
            return S3Fault(FaultCode.INVALID_PART_ORDER, details=[("UploadId", upload.upload_id)])
        case ListFault.MISSING:
            details = [("UploadId", upload.upload_id), number, ("ETag", refused.etag)]
            return S3Fault(FaultCode.INVALID_PART, details=details)
        case ListFault.TOO_SMALL:
            sizes = [("ProposedSize", refused.length), ("MinSizeAllowed", SMALLEST_PART)]
            return S3Fault(FaultCode.ENTITY_TOO_SMALL, details=[*sizes, number, ("ETag", quoted(refused.etag))])
