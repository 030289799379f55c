"""Uploads by browser forms (POST of multipart/form-data): a signed policy in the form stands for a signed request."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from aiohttp import web
from aiohttp.web_protocol import RequestPayloadError

from tawara.gateway.requests import HttpRequest
from tawara.gateway.s3.authenticator import S3Authenticator
from tawara.gateway.s3.buckets import XML
from tawara.gateway.s3.context import S3Context, class_named
from tawara.gateway.s3.objects import refuse_what_is_not_kept
from tawara.http1.connections import send_continue
from tawara.http1.reply import Reply
from tawara.model.access import grants
from tawara.model.access.grants import Right
from tawara.model.cluster import HashType
from tawara.model.files import StoredFile
from tawara.model.object_checksums import ChecksumAlgorithm, new_digest
from tawara.store.writer import ObjectDescription, WriteRequest
from tawara.wire.s3.attribute_record import encode_attributes
from tawara.wire.s3.checksum_fields import check_digest, content_md5, declared_checksum
from tawara.wire.s3.faults import FaultCode, S3Fault
from tawara.wire.s3.form import FormReader, FormValues, success_reply
from tawara.wire.s3.head import HeaderFields, RequestHead, check_key
from tawara.wire.s3.object_fields import ObjectFields, parse_object_fields
from tawara.wire.s3.post_policy import (
    PostPolicy,
    check_policy,
    check_post_length,
    parse_policy,
    parse_post_authentication,
    post_key,
)
from tawara.wire.s3.results import AnsweredChecksum
from tawara.wire.s3.tags import MOST_OBJECT_TAGS, Tags
from tawara.wire.s3.xml_in import parse_tagging
from tawara.wire.s3.xml_out import quoted

_FORM: Final = "multipart/form-data"
_AT_ONCE: Final = 65_536
"""Bytes of the body that are parsed at once."""


@dataclass(frozen=True, slots=True)
class FormRequest:
    """A POST of a form, whose policy is not yet verified."""

    received: HttpRequest
    head: RequestHead
    fields: dict[str, str]
    """Header fields of every answer to this request."""


def is_form(head: RequestHead) -> bool:
    """Whether a request uploads a file by a form."""
    media_type = (head.fields.get("content-type") or "").lower()
    is_bucket = bool(head.target.bucket) and not head.target.key and not head.target.query
    return head.method == "POST" and is_bucket and media_type.startswith(_FORM)


class FormHandler:
    """Answers uploads by forms."""

    def __init__(self, context: S3Context, authenticator: S3Authenticator) -> None:
        self._context, self._authenticator = context, authenticator

    async def handle(self, request: FormRequest, now: int) -> Reply:
        """Verify the policy, and store the file as the form says. `now`: unix seconds of this machine's clock."""
        received = request.received
        if not isinstance(received, web.BaseRequest):  # nginx passes on what has no body in this form
            raise S3Fault(FaultCode.INCOMPLETE_BODY)
        body = FormBody(received, request.head, self._context)
        await send_continue(received)
        form = await body.read_fields()
        policy = await self._authenticate(request, form, now)
        domain = self._context.domain(request.head.target.bucket)
        key = post_key(form.required("key"), form.filename).encode()
        check_key(key)
        if not key:
            raise S3Fault(FaultCode.INVALID_ARGUMENT, "User key must have a length greater than 0.")
        fields = HeaderFields(form.header_lines())
        refuse_what_is_not_kept(fields)
        given = parse_object_fields(fields)
        tags = parse_tagging(form["tagging"].encode(), MOST_OBJECT_TAGS) if form.get("tagging") else ()
        storage_class = class_named(domain, fields.get("x-amz-storage-class"))
        file = PostedFile(body, policy, fields, most=self._context.limits.upload)
        wanted = WriteRequest(
            domain=domain,
            key=key,
            storage_class=storage_class,
            content_type=given.content_type,
            md5=file.md5,
            conditions=partial(_check_write, file),
            default_hash=HashType.MD5,
            describe=partial(
                _describe, file, given, tags, keep_etag=storage_class.hashtype not in (None, HashType.MD5)
            ),
        )
        await self._context.writer.check(wanted)
        await self._context.writer.store_stream(wanted, file.pieces(), None)
        location = f"{received.scheme}://{request.head.fields.get('host') or ''}/{domain.name}/"
        status, answered, xml = success_reply(form, domain.name, key, quoted(file.etag), location)
        return Reply(status, answered | (XML if xml else {}), xml)

    async def _authenticate(self, request: FormRequest, form: FormValues, now: int) -> PostPolicy:
        """Verify who signed the policy, that it covers the form, and that the key may store. Raises S3Fault."""
        if form.get("x-amz-security-token"):
            raise S3Fault(FaultCode.INVALID_TOKEN)
        bucket = request.head.target.bucket
        found = parse_post_authentication(form)
        if found is None:
            raise S3Fault(FaultCode.ACCESS_DENIED)
        access_key = await self._authenticator.authenticate_form(found)
        policy = parse_policy(found.policy)
        check_policy(policy, form, bucket, now)
        key = post_key(form.required("key"), form.filename).encode()
        if not grants.allowed(access_key.grants, Right.WRITE, bucket, key):
            raise S3Fault(FaultCode.ACCESS_DENIED)
        return policy


class FormBody:
    """Reads the body of a form: first the fields, then the file."""

    def __init__(self, received: web.BaseRequest, head: RequestHead, context: S3Context) -> None:
        self._received, self._limits = received, context.limits
        self._reader = FormReader(head.fields.get("content-type") or "")
        self._waiting: list[bytes] = []
        """Pieces of the file that arrived with the last fields."""

    async def read_fields(self) -> FormValues:
        """Read up to the file. Raises S3Fault."""
        while self._reader.file is None:
            self._waiting += self._reader.feed(await self._read())
        return self._reader.values(self._reader.file)

    async def file(self) -> AsyncIterator[bytes]:
        """Read the file; what follows it in the form is ignored. Raises S3Fault like `read_fields`."""
        for piece in self._waiting:
            yield piece
        while not self._reader.is_complete:
            for piece in self._reader.feed(await self._read()):
                yield piece

    async def _read(self) -> bytes:
        try:
            async with asyncio.timeout(self._limits.stalled_body):
                data = await self._received.content.read(_AT_ONCE)
        except TimeoutError:
            raise S3Fault(FaultCode.REQUEST_TIMEOUT) from None
        except RequestPayloadError:
            raise S3Fault(FaultCode.INCOMPLETE_BODY) from None
        if not data:
            self._reader.end()
        return data


class PostedFile:
    """The file of a form, verified at its end as the policy and the form say."""

    def __init__(self, body: FormBody, policy: PostPolicy, fields: HeaderFields, *, most: int) -> None:
        """`most`: greatest length in bytes. Raises S3Fault for fields that cannot be read."""
        self._body, self._policy = body, policy
        self._most = most if policy.length is None else min(most, policy.length[1])
        self._declared = declared_checksum(fields)
        self.md5 = content_md5(fields)
        self.checksum: AnsweredChecksum | None = None
        self.etag = ""
        """The MD5 in hex, once the file is complete."""
        self.is_unverified = False
        """Whether the file has begun, and its end was not reached with everything as announced."""

    async def pieces(self) -> AsyncGenerator[bytes]:
        """Yield the file. Raises S3Fault: EntityTooLarge, EntityTooSmall, BadDigest, and those of FormBody."""
        self.is_unverified = True
        md5 = hashlib.md5(usedforsecurity=False)
        algorithm = None if self._declared is None else self._declared.algorithm
        digest = None if algorithm is None else new_digest(algorithm)
        length = 0
        async for piece in self._body.file():
            length += len(piece)
            if length > self._most:
                details = [("ProposedSize", length), ("MaxSizeAllowed", self._most)]
                raise S3Fault(FaultCode.ENTITY_TOO_LARGE, details=details)
            md5.update(piece)
            if digest is not None:
                digest.update(piece)
            yield piece
        check_post_length(self._policy, length)
        if self.md5 is not None:
            check_digest(ChecksumAlgorithm.MD5, self.md5, md5.digest())
        if self._declared is not None and digest is not None:
            value = digest.digest()
            check_digest(self._declared.algorithm, self._declared.value or value, value)
            self.checksum = AnsweredChecksum(self._declared.algorithm, value)
        self.etag = md5.hexdigest()
        self.is_unverified = False


def _describe(file: PostedFile, given: ObjectFields, tags: Tags, *, keep_etag: bool) -> ObjectDescription:
    return ObjectDescription(file.etag if keep_etag else None, encode_attributes(given, file.checksum, tags))


def _check_write(file: PostedFile, stored: StoredFile | None) -> None:
    """Forms have no conditions, but nothing is committed of a file that was not verified."""
    del stored
    if file.is_unverified:
        raise S3Fault(FaultCode.INCOMPLETE_BODY)
