"""Operations on tags of objects and buckets."""

from __future__ import annotations

from functools import partial

from tawara.gateway.s3.bodies import read_document
from tawara.gateway.s3.buckets import XML
from tawara.gateway.s3.context import S3Context, S3Request, check_version
from tawara.http1.reply import Reply
from tawara.metadata import buckets, object_attributes
from tawara.model.access.grants import Right
from tawara.model.errors import UnknownKey
from tawara.wire.s3.attribute_record import decode_attributes, with_tags
from tawara.wire.s3.faults import FaultCode, S3Fault
from tawara.wire.s3.results import render_tagging
from tawara.wire.s3.tags import MOST_BUCKET_TAGS, MOST_OBJECT_TAGS, Tags
from tawara.wire.s3.xml_in import LONGEST, parse_tagging


class TaggingHandlers:
    """Answers operations on tags."""

    def __init__(self, context: S3Context) -> None:
        self._context = context

    # --- objects ------------------------------------------------------------------------------------------------------

    async def get_of_object(self, request: S3Request) -> Reply:
        """GetObjectTagging: an empty set for an object without tags."""
        request.require(Right.READ)
        check_version(request)
        domain, key = self._context.domain(request.head.target.bucket), request.head.target.key
        try:
            stored = await self._context.store.find(domain, key)
        except UnknownKey:
            raise _no_such_key(key) from None
        return Reply(200, XML, render_tagging(list(decode_attributes(stored.attributes).tags.items())))

    async def put_of_object(self, request: S3Request) -> Reply:
        """PutObjectTagging: replaces all tags; the object is not stored again."""
        request.require(Right.WRITE)
        check_version(request)
        self._context.domain(request.head.target.bucket)
        tags = parse_tagging(await self._document(request), MOST_OBJECT_TAGS)
        await self._change(request, tags)
        return Reply(200, {})

    async def delete_of_object(self, request: S3Request) -> Reply:
        """DeleteObjectTagging: removes all tags."""
        request.require(Right.WRITE)
        check_version(request)
        await self._change(request, ())
        return Reply(204, {})

    async def _change(self, request: S3Request, tags: Tags) -> None:
        domain, key = self._context.domain(request.head.target.bucket), request.head.target.key
        changed = partial(with_tags, tags=tags)
        now = await self._context.metadata.clock.seconds()
        try:
            await self._context.metadata.write(object_attributes.change, domain.dmid, key, changed, now=now)
        except UnknownKey:
            raise _no_such_key(key) from None

    # --- buckets ------------------------------------------------------------------------------------------------------

    async def get_of_bucket(self, request: S3Request) -> Reply:
        """GetBucketTagging: NoSuchTagSet for a bucket without tags."""
        request.require(Right.READ)
        domain = self._context.domain(request.head.target.bucket)
        body = await self._context.metadata.read(buckets.document, domain.dmid, buckets.TAGS)
        if body is None:
            raise S3Fault(FaultCode.NO_SUCH_TAG_SET, details=[("BucketName", domain.name)])
        return Reply(200, XML, body.encode())

    async def put_of_bucket(self, request: S3Request) -> Reply:
        """PutBucketTagging: replaces all tags."""
        request.require(Right.ADMIN)
        domain = self._context.domain(request.head.target.bucket)
        tags = parse_tagging(await self._document(request), MOST_BUCKET_TAGS)
        body = render_tagging(tags).decode()
        await self._context.metadata.write(buckets.set_document, domain.dmid, buckets.TAGS, body)
        return Reply(204, {})

    async def delete_of_bucket(self, request: S3Request) -> Reply:
        """DeleteBucketTagging: removes all tags."""
        request.require(Right.ADMIN)
        domain = self._context.domain(request.head.target.bucket)
        await self._context.metadata.write(buckets.set_document, domain.dmid, buckets.TAGS, None)
        return Reply(204, {})

    async def _document(self, request: S3Request) -> bytes:
        return await read_document(request, self._context.limits, most=LONGEST)


def _no_such_key(key: bytes) -> S3Fault:
    return S3Fault(FaultCode.NO_SUCH_KEY, details=[("Key", key.decode())])
