"""Answers S3 requests: authenticates each, passes it to the handler of its operation, and turns errors into XML."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final

import structlog
from aiohttp import hdrs, web

from tawara.gateway.http_server import Handler
from tawara.gateway.nginx_protocol import FURTHER_STEPS, GatewayStep, HeaderField
from tawara.gateway.requests import HttpRequest
from tawara.gateway.s3.authenticator import S3Authenticator
from tawara.gateway.s3.bodies import BodyAdmitted, admit_document
from tawara.gateway.s3.buckets import XML, BucketHandlers
from tawara.gateway.s3.completions import CompletionHandler
from tawara.gateway.s3.context import STANDARD, S3Context, S3Request
from tawara.gateway.s3.copies import CopyHandler
from tawara.gateway.s3.forms import FormHandler, FormRequest, is_form
from tawara.gateway.s3.multipart import MultipartHandlers
from tawara.gateway.s3.objects import ObjectHandlers
from tawara.gateway.s3.tagging import TaggingHandlers
from tawara.http1.connections import SERVER
from tawara.http1.reply import Reply
from tawara.model.errors import TawaraError
from tawara.model.node_errors import Stalled
from tawara.model.trusted_peers import Network, is_trusted
from tawara.wire.s3.faults import FaultCode, S3Fault, fault_of
from tawara.wire.s3.head import HeaderFields, RequestHead, parse_target
from tawara.wire.s3.operations import operation_of

log = structlog.get_logger(__name__)

S3Handler = Callable[[S3Request], Awaitable[Reply | web.StreamResponse]]
_OWNER: Final = "x-amz-expected-bucket-owner"
_ADMITTED_BY_HANDLER: Final = frozenset({"PutObject", "UploadPart"})
"""Operations whose bodies have any length; their handlers decide whether nginx may receive them."""


def s3_handlers(context: S3Context, objects: ObjectHandlers, completions: CompletionHandler) -> Mapping[str, S3Handler]:
    """Return the handler of each operation that is implemented."""
    buckets, tagging = BucketHandlers(context), TaggingHandlers(context)
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
        "GetObjectTagging": tagging.get_of_object,
        "PutObjectTagging": tagging.put_of_object,
        "DeleteObjectTagging": tagging.delete_of_object,
        "GetBucketTagging": tagging.get_of_bucket,
        "PutBucketTagging": tagging.put_of_bucket,
        "DeleteBucketTagging": tagging.delete_of_bucket,
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

    def __init__(
        self,
        context: S3Context,
        authenticator: S3Authenticator,
        base_hosts: Sequence[str],
        trusted: Sequence[Network] = (),
    ) -> None:
        """`base_hosts`: names below which a host name names a bucket (virtual-host style).

        `trusted`: front ends whose X-Forwarded-Host counts.
        """
        self._context, self._authenticator = context, authenticator
        self._base_hosts, self._trusted = tuple(base_hosts), tuple(trusted)
        self._objects, self._completions = ObjectHandlers(context), CompletionHandler(context)
        self._handlers = s3_handlers(context, self._objects, self._completions)
        self._forms = FormHandler(context, authenticator)

    async def close(self) -> None:
        """End the work whose clients are gone."""
        await self._completions.close()

    @property
    def streamed(self) -> int:
        """Bytes of objects that Python has sent."""
        return self._objects.streamed

    def steps(self) -> Mapping[GatewayStep, Handler]:
        """Return the handler of each step that a request can have."""
        if self._context.gateway.front is None:  # the header fields of a step come from a client and are ignored
            return {GatewayStep.DECIDE: partial(self.answer, step=GatewayStep.DECIDE)}
        return {step: partial(self.answer, step=step) for step in FURTHER_STEPS}

    async def answer(self, request: HttpRequest, *, step: GatewayStep) -> Reply | web.StreamResponse:
        """Answer one request, or the part of it that nginx asks for. Raises ConnectionError for a client that left."""
        fields = _own_fields()
        resource = "/"
        try:
            head = self._read_head(request, step)
            resource = head.target.resource
            if head.target.bucket and not head.target.key:
                fields["x-amz-bucket-region"] = self._context.region
            reply = await self._handle(request, head, fields, step)
        except BodyAdmitted:
            return Reply(204, {})
        except (ConnectionError, S3Fault, TawaraError) as error:
            if isinstance(error, ConnectionError):
                raise
            reply = _refusal(request, error, resource, fields)
        except Exception as error:
            log.exception("request_failed", method=request.method, exc_info=error)
            reply = _refusal(request, S3Fault(FaultCode.INTERNAL_ERROR), resource, fields)
        if isinstance(reply, web.StreamResponse):
            return reply
        return Reply(reply.status, {**fields, **reply.fields}, reply.body, reply.part)

    def _read_head(self, request: HttpRequest, step: GatewayStep) -> RequestHead:
        """Return the head of a request as its client sent it. Raises S3Fault."""
        behind_nginx = self._context.gateway.front is not None
        fields = HeaderFields(restore_fields(request.raw_headers) if behind_nginx else request.raw_headers)
        if self._trusted and (forwarded := fields.lines("x-forwarded-host")):
            peer = request.headers.get(HeaderField.PEER) if behind_nginx else getattr(request, "remote", None)
            if is_trusted(peer, self._trusted):
                # The first name is the one that the client used; front ends behind the first add theirs. A client that
                # sends the field itself gains nothing: the signature covers the name.
                fields = fields.with_host(forwarded[0].split(b",")[0].strip())
        raw = request.raw_path.encode("utf-8", "surrogateescape")
        method = "PUT" if step is GatewayStep.ADMIT else request.method  # nginx asks by a GET
        return RequestHead(method, parse_target(raw, fields.get("host"), self._base_hosts), fields)

    async def _handle(
        self, request: HttpRequest, head: RequestHead, fields: dict[str, str], step: GatewayStep
    ) -> Reply | web.StreamResponse:
        now = int(datetime.now(UTC).timestamp())
        if head.method == "OPTIONS":
            raise preflight_fault(head)
        if is_form(head):
            return await self._forms.handle(FormRequest(request, head, fields), now)
        signer = await self._authenticator.authenticate(head, now)
        operation = operation_of(head)
        handler = self._handlers.get(operation.name)
        if handler is None:
            raise S3Fault(FaultCode.NOT_IMPLEMENTED, f"This server does not implement {operation.name}")
        storage_class = head.fields.get("x-amz-storage-class")
        await self._context.view.refresh_for_name(
            head.target.bucket, "" if storage_class in (None, STANDARD) else storage_class
        )
        await self._context.check_owner(head.target.bucket, head.fields.get(_OWNER), signer.key.account.id)
        if operation.name not in _ADMITTED_BY_HANDLER:
            await admit_document(self._context, head, step)
        key, authentication, signing_key, file = signer.key, signer.authentication, signer.signing_key, None
        front = self._context.gateway.front
        if step is GatewayStep.STORE and front is not None:
            file = front.spool.body(request.headers.get(HeaderField.BODY) or "")
            if file is None:
                raise S3Fault(FaultCode.INVALID_REQUEST)
        return await handler(S3Request(request, head, key, authentication, signing_key, fields, step, file))


def _own_fields() -> dict[str, str]:
    """Return the header fields of every answer, with new ids."""
    return {
        hdrs.SERVER: SERVER,
        "x-amz-request-id": secrets.token_hex(8).upper(),
        "x-amz-id-2": secrets.token_urlsafe(24),
    }


def refusal(request: HttpRequest, error: Exception) -> Reply:
    """Return the reply to a request that failed before it was dispatched."""
    if not isinstance(error, S3Fault | TawaraError):
        log.error("request_failed", method=request.method, exc_info=error)
        error = S3Fault(FaultCode.INTERNAL_ERROR)
    if isinstance(error, Stalled):
        error = S3Fault(FaultCode.REQUEST_TIMEOUT)
    fields = _own_fields()
    reply = _refusal(request, error, "/", fields)
    return Reply(reply.status, fields | reply.fields, reply.body)


def _refusal(request: HttpRequest, error: S3Fault | TawaraError, resource: str, fields: Mapping[str, str]) -> Reply:
    """Return the reply to a failed request; HEAD has no body, and neither has 304."""
    fault = error if isinstance(error, S3Fault) else fault_of(error)
    if isinstance(error, TawaraError) and fault.status >= 500:
        log.warning("request_failed", method=request.method, status=fault.status, reason=error.message)
    if request.method == "HEAD" or fault.status == 304:
        return Reply(fault.status, dict(XML))
    body = fault.body(resource=resource, request_id=fields["x-amz-request-id"], host_id=fields["x-amz-id-2"])
    return Reply(fault.status, dict(XML), body)


def preflight_fault(head: RequestHead) -> S3Fault:
    """Return the answer to a preflight request, which needs no signature: no bucket allows other origins."""
    if head.fields.get("origin") is None:
        return S3Fault(FaultCode.BAD_REQUEST, "Insufficient information. Origin request header needed.")
    return S3Fault(FaultCode.ACCESS_FORBIDDEN, "CORSResponse: CORS is not enabled for this bucket.")


def restore_fields(lines: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return header fields from nginx as the client sent them, since a signature may cover them.

    nginx passes on some under other names, and may have changed the fields that describe the body.
    """
    kept, passed = [], []
    for name, value in lines:
        lower = name.lower()
        if not lower.startswith(_INTERNAL):
            kept.append((lower, value))
        elif lower in _RESTORED:
            passed.append((_RESTORED[lower], value))
    if passed:
        replaced = {name for name, _ in passed}
        kept = [(name, value) for name, value in kept if name not in replaced]
    return kept + passed


_INTERNAL: Final = b"x-tawara-"
_RESTORED: Final = {
    HeaderField.LENGTH.lower().encode(): b"content-length",
    HeaderField.CODING.lower().encode(): b"transfer-encoding",
    HeaderField.EXPECT.lower().encode(): b"expect",
    HeaderField.CONNECTION.lower().encode(): b"connection",
}
