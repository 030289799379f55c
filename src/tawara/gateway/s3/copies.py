"""CopyObject: a new file from the bytes of another, made on the devices that hold them where possible."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Final

from tawara.gateway.s3.buckets import XML
from tawara.gateway.s3.context import S3Context, S3Request, class_named
from tawara.gateway.s3.objects import check_current, etag_of, md5_of, refuse_what_is_not_kept, validators
from tawara.http1.reply import Reply
from tawara.model.access import grants
from tawara.model.access.grants import Right
from tawara.model.assembling import FileRange
from tawara.model.cluster import HashType
from tawara.model.errors import NoSource, UnknownKey
from tawara.model.files import StoredFile
from tawara.model.multipart import plain_etag
from tawara.store.writer import ObjectDescription, WriteRequest
from tawara.wire.http import Validators
from tawara.wire.s3 import preconditions
from tawara.wire.s3.attribute_record import decode_attributes, encode_attributes, with_tags
from tawara.wire.s3.copy_source import (
    FIELD,
    SOURCE_OWNER,
    CopySource,
    Directive,
    check_self_copy,
    parse_copy_source,
    parse_directive,
)
from tawara.wire.s3.faults import FaultCode, S3Fault
from tawara.wire.s3.object_fields import parse_object_fields
from tawara.wire.s3.results import render_copy
from tawara.wire.s3.tags import parse_tag_field

LARGEST: Final = 5 * 1024**3
"""Bytes of the largest object that one copy makes."""
_LOOK_UPS: Final = 3
"""Most look-ups of a source that is overwritten, or whose replicas move, while it is copied."""


class CopyHandler:
    """Answers CopyObject."""

    def __init__(self, context: S3Context) -> None:
        self._context = context

    async def handle(self, request: S3Request) -> Reply:
        """Copy an object, with its fields and metadata or with those of the request."""
        request.require(Right.WRITE)
        fields = request.head.fields
        source = parse_copy_source(fields.get(FIELD) or "")
        if not grants.allowed(request.key.grants, Right.READ, source.bucket, source.key):
            raise S3Fault(FaultCode.ACCESS_DENIED)
        if source.version_id not in (None, "null"):
            raise S3Fault(FaultCode.INVALID_ARGUMENT, "Invalid version id specified")
        refuse_what_is_not_kept(fields)
        await self._context.check_owner(source.bucket, fields.get(SOURCE_OWNER), request.key.account.id)
        for attempt in range(1, _LOOK_UPS + 1):
            try:
                return await self._copy(request, source)
            except NoSource:  # overwritten or moved since the look-up
                if attempt == _LOOK_UPS:
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def _copy(self, request: S3Request, source: CopySource) -> Reply:
        stored = await self._find(source)
        head, current = request.head, validators(stored)
        preconditions.check_copy_source(head.fields, Validators(current["etag"], stored.stored_at))
        if stored.length > LARGEST:
            raise S3Fault(FaultCode.INVALID_REQUEST, "The source is larger than the largest object that a copy makes")
        wanted = self._wanted(request, source, stored)
        result = await self._context.assembler.assemble(wanted, [FileRange.whole(stored)])
        described = wanted.describe()
        etag = described.etag or plain_etag(result.fid, result.length, md5_of(result.checksum))
        now = await self._context.metadata.clock.seconds()
        checksum = decode_attributes(described.attributes).checksum()
        return Reply(200, XML, render_copy(etag, now, checksum))

    async def _find(self, source: CopySource) -> StoredFile:
        try:
            return await self._context.store.find(self._context.domain(source.bucket), source.key)
        except UnknownKey:
            raise S3Fault(FaultCode.NO_SUCH_KEY, details=[("Key", source.key.decode())]) from None

    def _wanted(self, request: S3Request, source: CopySource, stored: StoredFile) -> WriteRequest:
        head = request.head
        replace = parse_directive(head.fields, "x-amz-metadata-directive") is Directive.REPLACE
        domain = self._context.domain(head.target.bucket)
        storage_class = class_named(domain, head.fields.get("x-amz-storage-class"))
        check_self_copy(
            same=(source.bucket, source.key) == (head.target.bucket, head.target.key),
            changed=replace or storage_class.classid != stored.classid,
        )
        content_type, attributes = stored.content_type, stored.attributes
        etag, record = etag_of(stored), decode_attributes(stored.attributes)
        checksum, given = record.checksum(), record.object_fields(stored.content_type)
        joined = "-" in etag and not _names_fid(etag, stored) and storage_class.hashtype in (None, HashType.MD5)
        if joined:  # the copy is one object: its entity tag is the MD5 of the whole, and it has no composite checksum
            storage_class = dataclasses.replace(storage_class, hashtype=HashType.MD5)
            checksum = None if checksum is None or checksum.parts is not None else checksum
        if replace:
            given = parse_object_fields(head.fields)
            content_type = given.content_type
        if replace or joined:
            attributes = encode_attributes(given, checksum, tuple(record.tags.items()))
        if parse_directive(head.fields, "x-amz-tagging-directive") is Directive.REPLACE:
            attributes = with_tags(attributes, parse_tag_field(head.fields))
        return WriteRequest(
            domain=domain,
            key=head.target.key,
            storage_class=storage_class,
            content_type=content_type,
            md5=None,
            conditions=partial(check_current, head.fields),
            # An entity tag that names the source's fid would be that of other content.
            describe=partial(ObjectDescription, None if joined or _names_fid(etag, stored) else etag, attributes),
        )


def _names_fid(etag: str, stored: StoredFile) -> bool:
    return etag == plain_etag(stored.fid, stored.length, None)
