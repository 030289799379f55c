"""Uploads in parts: creates, lists and aborts them, and receives and copies parts; `completions` makes the objects."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Final

from tawara.gateway.s3.bodies import ReceivedBody
from tawara.gateway.s3.buckets import XML
from tawara.gateway.s3.context import S3Context, S3Request, class_name, class_named
from tawara.gateway.s3.objects import (
    ObjectHandlers,
    describe_body,
    etag_of,
    md5_of,
    refuse_what_is_not_kept,
    validators,
)
from tawara.http1.reply import Reply
from tawara.metadata import multipart as rows
from tawara.model.access import grants
from tawara.model.access.grants import Right
from tawara.model.assembling import FileRange
from tawara.model.cluster import DEFAULT_CLASS, Domain, HashType, StorageClass
from tawara.model.errors import NoSource, UnknownKey
from tawara.model.files import StoredFile
from tawara.model.multipart import LARGEST_PART, MultipartUpload, UploadedPart, is_part_number
from tawara.model.object_checksums import ChecksumAlgorithm, new_digest
from tawara.model.reserved_keys import part_key, part_number
from tawara.nodes.source_ranges import read_ranges
from tawara.store.conditions import UNCONDITIONAL
from tawara.store.writer import ObjectDescription, WriteRequest
from tawara.wire.http import Validators
from tawara.wire.s3 import preconditions
from tawara.wire.s3.attribute_record import decode_attributes, encode_attributes
from tawara.wire.s3.checksum_fields import declared_upload
from tawara.wire.s3.copy_source import FIELD, SOURCE_OWNER, CopySource, parse_copy_source, parse_source_range
from tawara.wire.s3.faults import FaultCode, S3Fault, invalid_argument
from tawara.wire.s3.lists import S3Owner, parse_encoding, parse_most
from tawara.wire.s3.object_fields import ObjectFields, parse_object_fields
from tawara.wire.s3.results import (
    AnsweredChecksum,
    ListedUpload,
    render_copy,
    render_initiation,
    render_parts,
    render_uploads,
)
from tawara.wire.s3.tags import parse_tag_field
from tawara.wire.s3.xml_in import part_number_fault
from tawara.wire.s3.xml_out import quoted

_NUMBER: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
_LOOK_UPS: Final = 3
"""Most look-ups of a source that is overwritten, or whose replicas move, while it is copied."""


class MultipartHandlers:
    """Answers operations on uploads in parts."""

    def __init__(self, context: S3Context, objects: ObjectHandlers) -> None:
        self._context, self._objects = context, objects

    # --- uploads ------------------------------------------------------------------------------------------------------

    async def create(self, request: S3Request) -> Reply:
        """CreateMultipartUpload."""
        request.require(Right.WRITE)
        head = request.head
        domain = self._context.domain(head.target.bucket)
        refuse_what_is_not_kept(head.fields)
        given = parse_object_fields(head.fields)
        checksum = declared_upload(head.fields)
        upload = await self._context.multipart.create(
            domain,
            head.target.key,
            class_named(domain, head.fields.get("x-amz-storage-class")),
            account=request.owner.id,
            content_type=given.content_type,
            attributes=encode_attributes(given, None, parse_tag_field(head.fields)),
            checksum=checksum,
        )
        fields = dict(XML)
        if checksum is not None:
            fields |= {"x-amz-checksum-algorithm": checksum[0].value, "x-amz-checksum-type": checksum[1].value}
        return Reply(200, fields, render_initiation(domain.name, head.target.key, upload.upload_id))

    async def abort(self, request: S3Request) -> Reply:
        """AbortMultipartUpload."""
        request.require(Right.WRITE)
        _, upload = await self._upload(request)
        await self._context.multipart.abort(upload)
        return Reply(204, {})

    async def list_uploads(self, request: S3Request) -> Reply:
        """ListMultipartUploads."""
        target = request.head.target
        prefix = (target.parameter("prefix") or "").encode()
        delimiter = (target.parameter("delimiter") or "").encode()
        key_marker = (target.parameter("key-marker") or "").encode()
        id_marker = target.parameter("upload-id-marker") or ""
        most, encode = parse_most(target, "max-uploads"), parse_encoding(target)
        request.require_for(Right.LIST, prefix)
        domain = self._context.domain(target.bucket)
        marker = (key_marker, id_marker if key_marker else "")
        page = await self._context.metadata.read(rows.page, domain.dmid, prefix, delimiter, marker, most)
        body = render_uploads(
            domain.name,
            request.owner,
            [
                replace(_listed(domain, each), initiator=S3Owner(each.account, page.accounts.get(each.account, "")))
                for each in page.uploads
            ],
            page.prefixes,
            prefix=prefix,
            delimiter=delimiter,
            key_marker=key_marker,
            upload_id_marker=id_marker,
            most=most,
            next_marker=page.last if page.truncated else None,
            encode=encode,
        )
        return Reply(200, XML, body)

    # --- parts --------------------------------------------------------------------------------------------------------

    async def list_parts(self, request: S3Request) -> Reply:
        """ListParts."""
        request.require(Right.WRITE)
        target = request.head.target
        most = parse_most(target, "max-parts")
        after = _marker(target.parameter("part-number-marker"))
        domain, upload = await self._upload(request)
        found = await self._context.multipart.list_parts(upload, after, most + 1)
        algorithm = upload.checksum[0] if upload.checksum else None
        listed = [(uploaded_part(each, algorithm), each.stored_at or 0) for each in found[:most]]
        body = render_parts(
            _listed(domain, upload),
            domain.name,
            request.owner,
            listed,
            after=after,
            most=most,
            truncated=len(found) > most > 0,
            checksum=upload.checksum,
        )
        return Reply(200, XML, body)

    async def upload_part(self, request: S3Request) -> Reply:
        """UploadPart: replaces an earlier part of the same number."""
        request.require(Right.WRITE)
        number = _number(request)
        domain, upload = await self._upload(request)
        refuse_what_is_not_kept(request.head.fields)
        storage_class = _class_of(domain, upload)
        algorithm = upload.checksum[0] if upload.checksum else None
        body = ReceivedBody(
            request,
            self._context.limits,
            most=min(LARGEST_PART, self._context.limits.upload),
            hash_md5=storage_class.hashtype not in (None, HashType.MD5),
            algorithm=algorithm,
        )
        if algorithm is not None and body.algorithm is not algorithm:
            actual = "null" if body.algorithm is None else body.algorithm.lower()
            raise S3Fault(
                FaultCode.INVALID_REQUEST,
                f"Checksum Type mismatch occurred, expected checksum Type: {algorithm.lower()},"
                f" actual checksum Type: {actual}",
            )
        wanted = replace(
            _part(domain, upload, number, storage_class),
            md5=body.md5,
            conditions=partial(_check_verified, body),
            describe=partial(describe_body, body, ObjectFields()),
        )
        etag = await self._objects.receive(wanted, body)
        await self._context.multipart.keep_part(upload)
        fields = {"etag": quoted(etag)}
        if body.checksum is not None:
            fields[body.checksum.algorithm.field] = body.checksum.text
        return Reply(200, fields)

    async def copy_part(self, request: S3Request) -> Reply:
        """UploadPartCopy."""
        request.require(Right.WRITE)
        number = _number(request)
        source = parse_copy_source(request.head.fields.get(FIELD) or "")
        if not grants.allowed(request.key.grants, Right.READ, source.bucket, source.key):
            raise S3Fault(FaultCode.ACCESS_DENIED)
        if source.version_id not in (None, "null"):
            raise S3Fault(FaultCode.INVALID_ARGUMENT, "Invalid version id specified")
        owner = request.head.fields.get(SOURCE_OWNER)
        await self._context.check_owner(source.bucket, owner, request.key.account.id)
        domain, upload = await self._upload(request)
        for attempt in range(1, _LOOK_UPS + 1):
            try:
                return await self._copy_part(request, source, domain, upload, number)
            except NoSource:  # overwritten or moved since the look-up
                if attempt == _LOOK_UPS:
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def _copy_part(
        self, request: S3Request, source: CopySource, domain: Domain, upload: MultipartUpload, number: int
    ) -> Reply:
        fields = request.head.fields
        try:
            stored = await self._context.store.find(self._context.domain(source.bucket), source.key)
        except UnknownKey:
            raise S3Fault(FaultCode.NO_SUCH_KEY, details=[("Key", source.key.decode())]) from None
        current = validators(stored)
        preconditions.check_copy_source(fields, Validators(current["etag"], stored.stored_at))
        text = fields.get(f"{FIELD}-range")
        start, length = (0, stored.length) if text is None else parse_source_range(text, stored.length)
        if length > LARGEST_PART:
            raise S3Fault(FaultCode.INVALID_REQUEST, "The range is larger than the largest part")
        wanted = _part(domain, upload, number, _class_of(domain, upload))
        part = FileRange(stored, start, length)
        if upload.checksum is None:
            # The entity tag needs the MD5, whatever checksum the class keeps. The parts of one source stay on its
            # devices, where they can be joined.
            wanted = replace(wanted, storage_class=replace(wanted.storage_class, hashtype=HashType.MD5), preferred=())
            result = await self._context.assembler.assemble(wanted, [part])
            md5 = md5_of(result.checksum)
            assert md5 is not None, "the class of the part keeps it"
            etag, checksum = md5.hex(), None
        else:
            etag, checksum = await self._send_part(wanted, part, upload.checksum[0])
        await self._context.multipart.keep_part(upload)
        now = await self._context.metadata.clock.seconds()
        return Reply(200, XML, render_copy(etag, now, checksum, part=True))

    async def _send_part(
        self, wanted: WriteRequest, part: FileRange, algorithm: ChecksumAlgorithm
    ) -> tuple[str, AnsweredChecksum]:
        """Copy a part through this process, which computes its checksum; return it and the entity tag."""
        source = await self._context.assembler.source(part)
        digest, md5 = new_digest(algorithm), hashlib.md5(usedforsecurity=False)
        computed: list[AnsweredChecksum] = []

        async def pieces() -> AsyncIterator[bytes]:
            async with aclosing(read_ranges(self._context.nodes, [source])) as found:
                async for piece in found:
                    digest.update(piece)
                    md5.update(piece)
                    yield piece
            computed.append(AnsweredChecksum(algorithm, digest.digest()))

        def describe() -> ObjectDescription:
            return ObjectDescription(md5.hexdigest(), encode_attributes(ObjectFields(), computed[0]))

        await self._context.writer.store_stream(replace(wanted, describe=describe), pieces(), part.length)
        return md5.hexdigest(), computed[0]

    async def _upload(self, request: S3Request) -> tuple[Domain, MultipartUpload]:
        """Return the upload that a request names, and its domain. Raises S3Fault, NoSuchUpload."""
        target = request.head.target
        domain = self._context.domain(target.bucket)
        upload_id = target.parameter("uploadId") or ""
        return domain, await self._context.multipart.find_open(domain, target.key, upload_id)


def uploaded_part(stored: StoredFile, algorithm: ChecksumAlgorithm | None) -> UploadedPart:
    """Return what a stored part is to its upload; `algorithm` is the one declared for that."""
    checksum = decode_attributes(stored.attributes).checksum() if algorithm is not None else None
    value = checksum.value if checksum is not None and checksum.algorithm is algorithm else None
    return UploadedPart(part_number(stored.key), stored.length, bytes.fromhex(etag_of(stored)), value)


def _part(domain: Domain, upload: MultipartUpload, number: int, storage_class: StorageClass) -> WriteRequest:
    return WriteRequest(
        domain=domain,
        key=part_key(upload.upload_id, number),
        storage_class=storage_class,
        content_type=None,
        md5=None,
        conditions=UNCONDITIONAL,
        default_hash=HashType.MD5,
        preferred=upload.devids,
    )


def _class_of(domain: Domain, upload: MultipartUpload) -> StorageClass:
    """Return the class of an upload; the default one if it was removed meanwhile."""
    found = domain.classes.get(upload.classid) or domain.class_named(DEFAULT_CLASS)
    assert found is not None, "each domain has a default class"
    return found


def _check_verified(body: ReceivedBody, _stored: StoredFile | None) -> None:
    """Commit nothing of a body that was not verified."""
    if body.is_unverified:
        raise S3Fault(FaultCode.INCOMPLETE_BODY)


def _number(request: S3Request) -> int:
    text = request.head.target.parameter("partNumber") or ""
    if _NUMBER.fullmatch(text) is None or not is_part_number(int(text)):
        raise part_number_fault(text)
    return int(text)


def _marker(text: str | None) -> int:
    if not text:
        return 0
    if _NUMBER.fullmatch(text) is None:
        raise invalid_argument("part-number-marker", text, "Provided part-number-marker not an integer")
    return min(int(text), 99_999)


def _listed(domain: Domain, upload: MultipartUpload) -> ListedUpload:
    return ListedUpload(upload.key, upload.upload_id, upload.initiated_at, class_name(domain, upload.classid))
