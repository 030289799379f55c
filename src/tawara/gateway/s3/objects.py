"""Operations on objects: reading, storing, deleting."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from aiohttp import web

from tawara.gateway import responses
from tawara.gateway.acceleration import needs_script
from tawara.gateway.body_sender import send_body
from tawara.gateway.fid_cache import reply_by_nginx
from tawara.gateway.nginx_protocol import GatewayStep
from tawara.gateway.reading import ReadResponse
from tawara.gateway.s3.bodies import ReceivedBody, read_document
from tawara.gateway.s3.buckets import XML
from tawara.gateway.s3.context import (
    STANDARD,
    S3Context,
    S3Request,
    check_version,
    class_name,
    class_named,
    no_version,
    refuse_acl,
)
from tawara.http1.reply import Reply
from tawara.model.access.grants import Right
from tawara.model.cluster import Checksum, Domain, HashType
from tawara.model.errors import NoSource, TawaraError, UnknownKey
from tawara.model.files import StoredFile
from tawara.model.multipart import ObjectPart, plain_etag, span_of_part
from tawara.model.object_checksums import ChecksumAlgorithm
from tawara.store.streaming import read_somewhere
from tawara.store.writer import ObjectDescription, WriteRequest
from tawara.wire import ranges
from tawara.wire.http import Validators, http_date
from tawara.wire.s3 import preconditions
from tawara.wire.s3.attribute_record import AttributeRecord, decode_attributes, encode_attributes
from tawara.wire.s3.attributes import Attribute, parse_attributes, parse_part_page, render_attributes
from tawara.wire.s3.checksum_fields import answers_checksum
from tawara.wire.s3.faults import FaultCode, S3Fault, fault_of, invalid_argument
from tawara.wire.s3.head import HeaderFields
from tawara.wire.s3.object_fields import (
    ObjectFields,
    answer_fields,
    parse_object_fields,
    parse_overrides,
)
from tawara.wire.s3.results import AnsweredChecksum, DeletionResult, render_deletions
from tawara.wire.s3.tags import Tags, parse_tag_field
from tawara.wire.s3.xml_in import LONGEST, KeyDeletion, parse_deletions, parse_length, parse_modified_at
from tawara.wire.s3.xml_out import quoted

_STORING: Final = 64
"""Received bodies that are stored at the same time; each copy of one takes memory for a piece."""
_LOOKUPS: Final = 20
"""Most look-ups of a key for one GET while the key is overwritten repeatedly."""
_NUMBER: Final = re.compile(r"[0-9]{1,5}", re.ASCII)
_JUDGED: Final = ("if-", "range")
"""Beginnings of the names of fields that nginx would judge itself."""
_ALGORITHMS: Final = {
    HashType.CRC32C: ChecksumAlgorithm.CRC32C,
    HashType.CRC64NVME: ChecksumAlgorithm.CRC64NVME,
}
"""Checksums of classes that are checksums of S3, too."""
_NOT_KEPT: Final = ("x-amz-website-redirect-location",)
_NOT_KEPT_PREFIXES: Final = ("x-amz-server-side-encryption", "x-amz-object-lock-")


class ObjectHandlers:
    """Answers operations on objects."""

    def __init__(self, context: S3Context) -> None:
        self._context = context
        self._receiving = 0
        """Number of bodies under way."""
        self._storing = asyncio.Semaphore(_STORING)
        self.streamed = 0
        """Bytes of objects that were sent by Python."""

    # --- reading ------------------------------------------------------------------------------------------------------

    async def get(self, request: S3Request) -> Reply | web.StreamResponse:
        """GetObject and HeadObject."""
        request.require(Right.READ)
        check_version(request)
        domain, key = self._context.domain(request.head.target.bucket), request.head.target.key
        stored = await self._find(domain, key)
        for _ in range(_LOOKUPS):
            try:
                return await self._respond(request, domain, stored)
            except NoSource:  # before the first byte
                now = await self._find(domain, key)
                if (now.fid, now.devids) == (stored.fid, stored.devids):
                    raise
                stored = now  # overwritten or moved since the look-up, and its bytes are already deleted
        raise NoSource

    async def attributes(self, request: S3Request) -> Reply:
        """GetObjectAttributes."""
        request.require(Right.READ)
        check_version(request)
        asked = parse_attributes(request.head.fields)
        domain = self._context.domain(request.head.target.bucket)
        pages = parse_part_page(request.head.fields)
        stored = await self._find(domain, request.head.target.key)
        parts = await self._context.multipart.object_parts(stored) if Attribute.PARTS in asked else []
        body = render_attributes(
            asked,
            etag=etag_of(stored),
            length=stored.length,
            storage_class=class_name(domain, stored.classid),
            checksum=checksum_of(stored, decode_attributes(stored.attributes)),
            parts=parts,
            page=pages,
        )
        fields = {name: value for name, value in validators(stored).items() if name != "etag"}
        return Reply(200, fields | XML, body)

    async def _find(self, domain: Domain, key: bytes) -> StoredFile:
        try:
            return await self._context.store.find(domain, key)
        except UnknownKey:
            raise S3Fault(FaultCode.NO_SUCH_KEY, details=[("Key", key.decode())]) from None

    async def _respond(self, request: S3Request, domain: Domain, stored: StoredFile) -> Reply | web.StreamResponse:
        head, fields = request.head, validators(stored)
        current = Validators(fields["etag"], stored.stored_at)
        conditions = preconditions.conditions_of(head.fields)
        try:
            preconditions.check_read(conditions, current)
        except S3Fault as fault:
            if fault.code is FaultCode.NOT_MODIFIED:
                return Reply(304, fields)
            raise
        range_field = head.fields.get("range") if conditions.ranges_apply(current) else None
        number = head.target.parameter("partNumber")
        parts = [] if number is None else await self._context.multipart.object_parts(stored)
        part = _part_of(number, range_field, stored.length, parts)
        record = decode_attributes(stored.attributes)
        overrides = parse_overrides(head.target, signed=True)
        fields |= dict(answer_fields(record.object_fields(stored.content_type), overrides))
        fields["accept-ranges"] = "bytes"
        name = class_name(domain, stored.classid)
        if name != STANDARD:
            fields["x-amz-storage-class"] = name
        status, span = 200, ranges.Span(0, stored.length)
        if part is not None:
            status, span = 206, part
            fields["content-range"] = part.content_range(stored.length)
        if parts:
            fields["x-amz-mp-parts-count"] = str(len(parts))
        checksum = checksum_of(stored, record)
        composite = checksum is not None and checksum.parts is not None
        if checksum is not None and answers_checksum(head.fields, partial=part is not None, composite=composite):
            fields |= checksum.fields()
        if record.tags:
            fields["x-amz-tagging-count"] = str(len(record.tags))
        if head.method == "HEAD":
            return Reply(status, fields, part=span)
        if not span.length:
            return Reply(status, fields)
        devids = await self._context.locator.devices(stored)
        if self._context.gateway.front is not None and request.step is not GatewayStep.STREAM:
            answer = ReadResponse(status, _named(request.fields | fields), span, partial=part is not None)
            return await self._send_by_nginx(request, answer, stored, devids)
        urls = self._context.locator.urls(stored, devids)
        limits = self._context.limits
        pieces = read_somewhere(self._context.nodes, urls, span, stored.length, timeout=limits.node_answer)
        fields = request.fields | fields | {"content-length": str(span.length)}
        return await send_body(
            request.http, status, fields, pieces, timeout=limits.stalled_body, count=self._count_streamed
        )

    def _count_streamed(self, length: int) -> None:
        self.streamed += length

    async def _send_by_nginx(
        self, request: S3Request, answer: ReadResponse, stored: StoredFile, devids: Sequence[int]
    ) -> Reply:
        """Return the reply by which nginx sends the object, or asks again if it cannot. Raises NoSource."""
        features = self._context.gateway.features
        judged_by_nginx = answer.partial or any(name.startswith(_JUDGED) for name in request.head.fields.names())
        if judged_by_nginx and not features.clears_fields:
            return responses.STREAMED_BY_PYTHON
        if needs_script(answer.headers) and not features.scripts:
            return responses.STREAMED_BY_PYTHON
        cluster = self._context.view.current
        replicas = await self._context.replicas.of(cluster, stored, devids)
        return reply_by_nginx(self._context.gateway.cache, answer, stored, replicas)

    # --- storing ------------------------------------------------------------------------------------------------------

    async def put(self, request: S3Request) -> Reply:
        """PutObject."""
        request.require(Right.WRITE)
        context, head = self._context, request.head
        domain = context.domain(head.target.bucket)
        refuse_what_is_not_kept(head.fields)
        given, tags = parse_object_fields(head.fields), parse_tag_field(head.fields)
        storage_class = class_named(domain, head.fields.get("x-amz-storage-class"))
        body = ReceivedBody(
            request,
            context.limits,
            most=context.limits.upload,
            hash_md5=storage_class.hashtype not in (None, HashType.MD5),
        )
        wanted = WriteRequest(
            domain=domain,
            key=head.target.key,
            storage_class=storage_class,
            content_type=given.content_type,
            md5=body.md5,
            conditions=partial(_check_write, head.fields, body),
            default_hash=HashType.MD5,
            describe=partial(describe_body, body, given, tags),
        )
        etag = await self.receive(wanted, body)
        fields = {"etag": quoted(etag)}
        if body.checksum is not None:
            fields |= body.checksum.fields()
        return Reply(200, fields)

    async def receive(self, wanted: WriteRequest, body: ReceivedBody) -> str:
        """Store the body of a request; return the entity tag. Raises S3Fault, and as ReceivedBody.store."""
        await self._context.writer.check(wanted)
        if not body.arrives:
            async with self._storing:
                result = await body.store(self._context, wanted)
            return plain_etag(result.fid, result.length, body.computed_md5 or md5_of(result.checksum))
        if self._receiving >= self._context.limits.s3_uploads:
            raise S3Fault(FaultCode.SLOW_DOWN)
        self._receiving += 1
        try:
            result = await body.store(self._context, wanted)
        finally:
            self._receiving -= 1
        return plain_etag(result.fid, result.length, body.computed_md5 or md5_of(result.checksum))

    # --- deleting -----------------------------------------------------------------------------------------------------

    async def delete(self, request: S3Request) -> Reply:
        """DeleteObject: the same answer whether there was an object or not."""
        request.require(Right.WRITE)
        check_version(request)
        domain = self._context.domain(request.head.target.bucket)
        fields = request.head.fields
        deletion = KeyDeletion(
            request.head.target.key,
            etag=fields.get("if-match"),
            modified_at=parse_modified_at(fields.get("x-amz-if-match-last-modified-time")),
            length=parse_length(fields.get("x-amz-if-match-size")),
        )
        await self._delete(domain, deletion)
        return Reply(204, {})

    async def delete_many(self, request: S3Request) -> Reply:
        """DeleteObjects."""
        domain = self._context.domain(request.head.target.bucket)
        body = await read_document(request, self._context.limits, most=LONGEST, digest_required=True)
        wanted = parse_deletions(body)
        results = await asyncio.gather(*(self._delete_one(request, domain, each) for each in wanted.deletions))
        return Reply(200, XML, render_deletions(results, quiet=wanted.quiet))

    async def _delete_one(self, request: S3Request, domain: Domain, deletion: KeyDeletion) -> DeletionResult:
        try:
            request.require_for(Right.WRITE, deletion.key)
            if deletion.version_id not in (None, "null"):
                raise no_version(deletion.version_id or "")
            await self._delete(domain, deletion)
        except S3Fault as fault:
            return DeletionResult(deletion.key, fault)
        except TawaraError as error:
            return DeletionResult(deletion.key, fault_of(error))
        return DeletionResult(deletion.key)

    async def _delete(self, domain: Domain, deletion: KeyDeletion) -> None:
        with suppress(UnknownKey):
            await self._context.store.delete(domain, deletion.key, partial(_check_delete, deletion))


def _named(fields: Mapping[str, str]) -> dict[str, str]:
    """Return header fields with the names that the fields for nginx are made of."""
    return {_SENT_AS.get(name, name): value for name, value in fields.items()}


_SENT_AS: Final = {"etag": "ETag", "content-type": "Content-Type", "last-modified": "Last-Modified"}


def validators(stored: StoredFile) -> dict[str, str]:
    """Return entity tag and time as header fields."""
    fields = {"etag": quoted(etag_of(stored))}
    if stored.stored_at is not None:
        fields["last-modified"] = http_date(stored.stored_at)
    return fields


def etag_of(stored: StoredFile) -> str:
    """Return the entity tag of a file, without quotes."""
    return stored.etag or plain_etag(stored.fid, stored.length, md5_of(stored.checksum))


def checksum_of(stored: StoredFile, record: AttributeRecord) -> AnsweredChecksum | None:
    """Return the checksum that came with an object, otherwise the one that its class keeps, if S3 knows it."""
    given, kept = record.checksum(), stored.checksum
    if given is not None or kept is None or kept.hashtype not in _ALGORITHMS:
        return given
    return AnsweredChecksum(_ALGORITHMS[kept.hashtype], kept.digest)


def refuse_what_is_not_kept(fields: HeaderFields) -> None:
    """Raise S3Fault (NotImplemented) for fields that would have to be stored and are not; they are never dropped."""
    lost = [name for name in fields.names() if name in _NOT_KEPT or name.startswith(_NOT_KEPT_PREFIXES)]
    if lost:
        names = ", ".join(sorted(lost))
        raise S3Fault(FaultCode.NOT_IMPLEMENTED, f"These header fields are not implemented: {names}")
    refuse_acl(fields)


def md5_of(checksum: Checksum | None) -> bytes | None:
    """Return a checksum's value if it is an MD5."""
    return checksum.digest if checksum is not None and checksum.hashtype is HashType.MD5 else None


def describe_body(body: ReceivedBody, given: ObjectFields, tags: Tags = ()) -> ObjectDescription:
    """Return what is stored with the object, once its body is complete."""
    etag = None if body.computed_md5 is None else body.computed_md5.hex()
    return ObjectDescription(etag, encode_attributes(given, body.checksum, tags))


def _check_write(fields: HeaderFields, body: ReceivedBody, stored: StoredFile | None) -> None:
    """Judge the conditions, before the body and at the commit; nothing is committed of a body that was not verified."""
    if body.is_unverified:
        raise S3Fault(FaultCode.INCOMPLETE_BODY)
    check_current(fields, stored)


def check_current(fields: HeaderFields, stored: StoredFile | None) -> None:
    """Judge the conditions of a request on the file that the key names now (None: none). Raises S3Fault."""
    preconditions.check_write(fields, None if stored is None else etag_of(stored))


def _check_delete(deletion: KeyDeletion, stored: StoredFile | None) -> None:
    if stored is not None:
        preconditions.check_delete(deletion, etag_of(stored), stored.stored_at, stored.length)


def _part_of(
    number: str | None, range_field: str | None, length: int, parts: Sequence[ObjectPart]
) -> ranges.Span | None:
    """Return the part that a request asks for; None for the whole. Raises S3Fault.

    `parts`: those of an object that was uploaded in parts.
    """
    if number is not None:
        if range_field is not None:
            raise S3Fault(FaultCode.INVALID_REQUEST, "Cannot specify both Range header and partNumber query parameter")
        if _NUMBER.fullmatch(number) is None:
            raise invalid_argument("partNumber", number, "Part number must be an integer")
        found = span_of_part(int(number), [(each.number, each.length) for each in parts], length)
        if found is None:
            raise S3Fault(FaultCode.INVALID_PART_NUMBER)
        return ranges.Span(found.start, found.length) if found.length else None
    span = ranges.resolve(range_field, length)
    if span is ranges.NotPartial.UNSATISFIABLE:
        details = [("RangeRequested", range_field), ("ActualObjectSize", length)]
        raise S3Fault(FaultCode.INVALID_RANGE, details=details)
    return span if isinstance(span, ranges.Span) else None
