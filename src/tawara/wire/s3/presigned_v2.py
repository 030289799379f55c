"""URLs presigned by signatures of version 2 (HMAC-SHA1): parsing and verification.

boto3 and awscli presign so at their defaults for the region us-east-1. In header fields version 2 is refused.
"""

from __future__ import annotations

import base64
import hmac
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote_from_bytes

from tawara.wire.s3.canonical import canonical_uri
from tawara.wire.s3.faults import FaultCode, S3Fault
from tawara.wire.s3.head import RequestHead
from tawara.wire.s3.operations import OPERATIONS

_EXPIRES: Final = re.compile(r"[0-9]{1,12}", re.ASCII)
_KEY_ID: Final = re.compile(r"[^/\s]{1,128}")
_SIGNED_PARAMETERS: Final = frozenset(
    {
        *("accelerate", "acl", "analytics", "cors", "delete", "inventory", "lifecycle", "location", "logging"),
        *("metrics", "notification", "object-lock", "partNumber", "policy", "replication", "requestPayment", "restore"),
        *("select", "select-type", "storageClass", "tagging", "torrent", "uploadId", "uploads", "versionId"),
        *("versioning", "versions", "website", "response-cache-control", "response-content-disposition"),
        *("response-content-encoding", "response-content-language", "response-content-type", "response-expires"),
    }
)
"""Parameters of the query that the signature covers."""
_NOT_COVERED: Final = (
    frozenset(each.partition("=")[0] for operation in OPERATIONS for each in operation.parameters)
    - _SIGNED_PARAMETERS
    - {"list-type"}
)
"""Parameters that select another operation, and that the signature does not cover."""


@dataclass(frozen=True, slots=True)
class PresignedV2:
    """What a URL says about who signed it, not yet verified."""

    access_key_id: str
    expires: int
    """Unix seconds."""
    signature: str


def presigned_v2_of(head: RequestHead) -> PresignedV2 | None:
    """Parse the authentication of a URL; None if it is not presigned by version 2.

    Raises S3Fault: AccessDenied if it is malformed, or has a parameter or field that must be covered and is not;
    InvalidArgument if a header field authenticates the request, too; InvalidToken.
    """
    target = head.target
    key_id, signature = target.parameter("AWSAccessKeyId"), target.parameter("Signature")
    if key_id is None or signature is None or target.parameter("X-Amz-Algorithm") is not None:
        return None
    if head.fields.get("authorization"):
        raise S3Fault(FaultCode.INVALID_ARGUMENT, "Only one authentication mechanism is allowed: header or query")
    if target.parameter("x-amz-security-token") or head.fields.get("x-amz-security-token"):
        raise S3Fault(FaultCode.INVALID_TOKEN)
    expires = target.parameter("Expires") or ""
    if _EXPIRES.fullmatch(expires) is None or _KEY_ID.fullmatch(key_id) is None:
        raise S3Fault(FaultCode.ACCESS_DENIED, "Query-string authentication requires the Signature, Expires and key id")
    names = [name for name, _ in target.query]
    if len(set(names)) < len(names) or not _NOT_COVERED.isdisjoint(names):
        raise S3Fault(FaultCode.ACCESS_DENIED, "The signature does not cover all parameters; use AWS4-HMAC-SHA256")
    return PresignedV2(key_id, int(expires), signature)


def check_expiry(presigned: PresignedV2, now: int) -> None:
    """Raise S3Fault (AccessDenied) unless the URL is valid at `now` (unix seconds)."""
    if now > presigned.expires:
        raise S3Fault(FaultCode.ACCESS_DENIED, "Request has expired")


def string_to_sign_v2(head: RequestHead, presigned: PresignedV2) -> str:
    """Return the string that is signed for a request."""
    fields, target = head.fields, head.target
    amz = sorted(name for name in fields.names() if name.startswith("x-amz-"))
    resource = (
        f"/{target.bucket}/{quote_from_bytes(target.key, safe='/~')}" if target.key else canonical_uri(target.path)
    )
    signed = sorted((name, value) for name, value in target.query if name in _SIGNED_PARAMETERS)
    query = "&".join(f"{name}={value}" if value else name for name, value in signed)
    return "\n".join(
        [
            head.method,
            fields.get("content-md5") or "",
            fields.get("content-type") or "",
            str(presigned.expires),
            *(f"{name}:{fields.get(name)}" for name in amz),
            f"{resource}?{query}" if query else resource,
        ]
    )


def verify_v2(head: RequestHead, presigned: PresignedV2, secret: str) -> None:
    """Raise S3Fault (SignatureDoesNotMatch) unless `secret` signed this request."""
    text = string_to_sign_v2(head, presigned)
    expected = base64.b64encode(hmac.digest(secret.encode(), text.encode(), "sha1"))
    if not hmac.compare_digest(expected, presigned.signature.encode()):
        raise S3Fault(
            FaultCode.SIGNATURE_DOES_NOT_MATCH,
            details=[
                ("AWSAccessKeyId", presigned.access_key_id),
                ("StringToSign", text),
                ("SignatureProvided", presigned.signature),
            ],
        )
