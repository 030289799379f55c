"""Answers S3 requests: authenticates each, passes it to the handler of its operation, and turns errors into XML."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import structlog
from aiohttp import hdrs, web

from tawara.gateway.s3.authenticator import S3Authenticator
from tawara.gateway.s3.buckets import XML, BucketHandlers
from tawara.gateway.s3.completions import CompletionHandler
from tawara.gateway.s3.context import STANDARD, S3Context, S3Request
from tawara.gateway.s3.copies import CopyHandler
from tawara.gateway.s3.multipart import MultipartHandlers
from tawara.gateway.s3.objects import ObjectHandlers
from tawara.http1.connections import SERVER, send_response
from tawara.http1.reply import Reply
from tawara.model.errors import TawaraError
from tawara.wire.s3.faults import FaultCode, S3Fault, fault_of
from tawara.wire.s3.head import HeaderFields, RequestHead, parse_target
from tawara.wire.s3.operations import operation_of

log = structlog.get_logger(__name__)

S3Handler = Callable[[S3Request], Awaitable[Reply | web.StreamResponse]]
_OWNER: Final = "x-amz-expected-bucket-owner"


def s3_handlers(context: S3Context, completions: CompletionHandler) -> Mapping[str, S3Handler]:
    """Return the handler of each operation that is implemented."""
    buckets, objects = BucketHandlers(context), ObjectHandlers(context)
    multipart = MultipartHandlers(context, objects)
    return {
        "ListBuckets": buckets.list_buckets,
        "CreateBucket": buckets.create_bucket,
        "HeadBucket": buckets.head_bucket,
        "DeleteBucket": buckets.delete_bucket,
        "GetBucketLocation": buckets.get_location,
        "ListObjects": buckets.list_objects,
        "ListObjectsV2": buckets.list_objects,
        "DeleteObjects": objects.delete_many,
        "GetObject": objects.get,
        "HeadObject": objects.get,
        "PutObject": objects.put,
        "DeleteObject": objects.delete,
        "GetObjectAttributes": objects.attributes,
        "CopyObject": CopyHandler(context).handle,
        "CreateMultipartUpload": multipart.create,
        "UploadPart": multipart.upload_part,
        "UploadPartCopy": multipart.copy_part,
        "ListParts": multipart.list_parts,
        "ListMultipartUploads": multipart.list_uploads,
        "AbortMultipartUpload": multipart.abort,
        "CompleteMultipartUpload": completions.handle,
    }


class S3Dispatcher:
    """Answers requests of one listener."""

    def __init__(self, context: S3Context, authenticator: S3Authenticator, base_hosts: Sequence[str]) -> None:
        """`base_hosts`: names below which a host name names a bucket (virtual-host style)."""
        self._context, self._authenticator, self._base_hosts = context, authenticator, tuple(base_hosts)
        self._completions = CompletionHandler(context)
        self._handlers = s3_handlers(context, self._completions)

    async def close(self) -> None:
        """End the work whose clients are gone."""
        await self._completions.close()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; a client that does not read the response is disconnected."""
        fields = {
            hdrs.SERVER: SERVER,
            "x-amz-request-id": secrets.token_hex(8).upper(),
            "x-amz-id-2": secrets.token_urlsafe(24),
        }
        resource = "/"
        try:
            head = read_head(request, self._base_hosts)
            resource = head.target.resource
            if head.target.bucket and not head.target.key:
                fields["x-amz-bucket-region"] = self._context.region
            reply = await self._handle(request, head, fields)
        except (ConnectionError, S3Fault, TawaraError) as error:
            if isinstance(error, ConnectionError):
                raise
            reply = self._refusal(request, error, resource, fields)
        except Exception as error:
            log.exception("request_failed", method=request.method, exc_info=error)
            reply = self._refusal(request, S3Fault(FaultCode.INTERNAL_ERROR), resource, fields)
        if isinstance(reply, web.StreamResponse):
            return reply
        return await send_response(request, _response(reply, fields), timeout=self._context.limits.stalled_body)

    async def _handle(
        self, request: web.BaseRequest, head: RequestHead, fields: dict[str, str]
    ) -> Reply | web.StreamResponse:
        now = int(datetime.now(UTC).timestamp())
        signer = await self._authenticator.authenticate(head, now)
        operation = operation_of(head)
        handler = self._handlers.get(operation.name)
        if handler is None:
            raise S3Fault(FaultCode.NOT_IMPLEMENTED, f"This server does not implement {operation.name}")
        if head.fields.get(_OWNER) not in (None, signer.key.account.id):
            raise S3Fault(FaultCode.ACCESS_DENIED)
        storage_class = head.fields.get("x-amz-storage-class")
        await self._context.view.refresh_for_name(
            head.target.bucket, "" if storage_class in (None, STANDARD) else storage_class
        )
        return await handler(S3Request(request, head, signer.key, signer.authentication, signer.signing_key, fields))

    def _refusal(
        self, request: web.BaseRequest, error: S3Fault | TawaraError, resource: str, fields: Mapping[str, str]
    ) -> Reply:
        """Return the reply to a failed request; HEAD has no body, and neither has 304."""
        fault = error if isinstance(error, S3Fault) else fault_of(error)
        if isinstance(error, TawaraError) and fault.status >= 500:
            log.warning("request_failed", method=request.method, status=fault.status, reason=error.message)
        if request.method == "HEAD" or fault.status == 304:
            return Reply(fault.status, dict(XML))
        body = fault.body(resource=resource, request_id=fields["x-amz-request-id"], host_id=fields["x-amz-id-2"])
        return Reply(fault.status, dict(XML), body)


def read_head(request: web.BaseRequest, base_hosts: Sequence[str]) -> RequestHead:
    """Return the head of a request. Raises S3Fault."""
    fields = HeaderFields(request.raw_headers)
    raw = request.raw_path.encode("utf-8", "surrogateescape")
    return RequestHead(request.method, parse_target(raw, fields.get("host"), base_hosts), fields)


def _response(reply: Reply, fields: Mapping[str, str]) -> web.Response:
    named = {**fields, **reply.fields}
    if reply.part is not None:
        named[hdrs.CONTENT_LENGTH] = str(reply.part.length)
        return web.Response(status=reply.status, headers=named)
    return web.Response(status=reply.status, headers=named, body=reply.body)
