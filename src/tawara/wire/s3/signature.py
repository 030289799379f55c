"""Signature Version 4 in header fields and in queries (presigned URLs): parsing, times, verification.

`authentication_of` parses; the caller then finds the secret of `access_key_id`, and calls `check_time` and `verify`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from calendar import timegm
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final, NoReturn

from tawara.wire.http import parse_date
from tawara.wire.s3 import payload
from tawara.wire.s3.canonical import canonical_request
from tawara.wire.s3.faults import FaultCode, S3Fault
from tawara.wire.s3.head import RequestHead
from tawara.wire.s3.xml_out import timestamp

ALGORITHM: Final = "AWS4-HMAC-SHA256"
SKEW: Final = 900
"""Seconds by which a client's clock may differ."""
LONGEST_EXPIRES: Final = 604_800
"""Longest validity of a presigned URL, in seconds."""
EMPTY_SHA256: Final = hashlib.sha256(b"").hexdigest()

_CREDENTIAL: Final = re.compile(
    r"(?P<id>[^/\s]{1,128})/(?P<day>\d{8})/(?P<region>[\w-]{0,64})/(?P<service>\w{1,32})/aws4_request", re.ASCII
)
_PARTS: Final = re.compile(r"\s*(Credential|SignedHeaders|Signature)=([^,\s]*)\s*(?:,|\Z)", re.ASCII)
_SIGNATURE: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_NAMES: Final = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+(?:;[!#$%&'*+.^_`|~0-9a-z-]+)*", re.ASCII)
_TIME: Final = re.compile(r"\d{8}T\d{6}Z", re.ASCII)
_PRESIGNED: Final = (
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
)
_V2: Final = f"The authorization mechanism that you provided is not supported. Please use {ALGORITHM}."


@dataclass(frozen=True, slots=True)
class Scope:
    """The scope of a signing key."""

    day: str
    """YYYYMMDD."""
    region: str
    service: str = "s3"

    def __str__(self) -> str:
        return f"{self.day}/{self.region}/{self.service}/aws4_request"


@dataclass(frozen=True, slots=True)
class Authentication:
    """What a request says about who signed it, not yet verified."""

    access_key_id: str
    scope: Scope
    signed: tuple[str, ...]
    """Lower-case names of the signed header fields, in order."""
    signature: str
    time: str
    """Time of the signature as it was written: YYYYMMDDTHHMMSSZ."""
    payload: str
    """The last line of the canonical request."""
    expires: int | None = None
    """Seconds of validity of a presigned URL; None for a signature in the header."""

    @property
    def signed_at(self) -> int:
        """Time of the signature, unix seconds."""
        return _seconds(self.time)


# --- parsing ----------------------------------------------------------------------------------------------------------


def authentication_of(head: RequestHead) -> Authentication | None:
    """Parse the authentication of a request; None if it is anonymous.

    Raises S3Fault if it is malformed, of another version or ambiguous, if a field that must be signed is not, or if it
    has a session token: no such tokens are given out.
    """
    query = {name for name, _ in head.target.query}
    header = head.fields.get("authorization") or None
    presigned = bool(query & {"X-Amz-Algorithm", "X-Amz-Signature", "X-Amz-Credential"})
    if header is not None and presigned:
        raise S3Fault(FaultCode.INVALID_ARGUMENT, "Only one authentication mechanism is allowed: header or query")
    if header is None and not presigned:
        if {"AWSAccessKeyId", "Signature"} <= query:
            raise S3Fault(FaultCode.INVALID_REQUEST, _V2)
        return None
    found = _of_header(head, header) if header is not None else _of_query(head)
    if head.fields.get("x-amz-security-token") or head.target.parameter("X-Amz-Security-Token"):
        raise S3Fault(FaultCode.INVALID_TOKEN)
    _check_signed(head, found.signed)
    return found


def _of_header(head: RequestHead, header: str) -> Authentication:
    algorithm, _, rest = header.partition(" ")
    if algorithm != ALGORITHM:
        _refuse_algorithm(algorithm)
    parts: dict[str, str] = {}
    position = 0
    while (match := _PARTS.match(rest, position)) is not None and match.end() > position:
        if match[1] in parts:
            break
        parts[match[1]] = match[2]
        position = match.end()
    if len(parts) < 3 or rest[position:].strip():
        raise S3Fault(FaultCode.AUTHORIZATION_HEADER_MALFORMED)
    access_key_id, scope = _credential(parts["Credential"], FaultCode.AUTHORIZATION_HEADER_MALFORMED)
    signed = _signed_names(parts["SignedHeaders"], FaultCode.AUTHORIZATION_HEADER_MALFORMED)
    if _SIGNATURE.fullmatch(parts["Signature"]) is None:
        raise S3Fault(FaultCode.AUTHORIZATION_HEADER_MALFORMED, "The signature is not 64 digits in lower-case hex")
    time = _header_time(head)
    if not time.startswith(scope.day):
        raise S3Fault(FaultCode.AUTHORIZATION_HEADER_MALFORMED, "The credential's date is not that of the request")
    digest = head.fields.get(payload.FIELD)
    if digest is None:
        raise S3Fault(FaultCode.INVALID_REQUEST, f"Missing required header for this request: {payload.FIELD}")
    payload.check_payload_field(digest)
    payload.framing_of(head.fields)
    return Authentication(access_key_id, scope, signed, parts["Signature"], time, digest)


def _refuse_algorithm(algorithm: str) -> NoReturn:
    if algorithm == "AWS":
        raise S3Fault(FaultCode.INVALID_REQUEST, _V2)
    if algorithm.startswith("AWS4-ECDSA"):
        raise S3Fault(FaultCode.NOT_IMPLEMENTED, "Signatures by ECDSA (SigV4A) are not implemented")
    if algorithm.startswith("AWS4"):
        raise S3Fault(FaultCode.AUTHORIZATION_HEADER_MALFORMED)
    raise S3Fault(FaultCode.INVALID_ARGUMENT, "Unsupported authorization type")


def _of_query(head: RequestHead) -> Authentication:
    fault = FaultCode.AUTHORIZATION_QUERY_PARAMETERS
    given = {name: head.target.parameter(name) for name in _PRESIGNED}
    values = {name: value for name, value in given.items() if value}
    if len(values) < len(given):
        missing = ", ".join(sorted(given.keys() - values.keys()))
        raise S3Fault(fault, f"A presigned URL needs the parameters {', '.join(_PRESIGNED)}; missing: {missing}")
    if values["X-Amz-Algorithm"] != ALGORITHM:
        if values["X-Amz-Algorithm"].startswith("AWS4-ECDSA"):
            _refuse_algorithm(values["X-Amz-Algorithm"])
        raise S3Fault(fault, f"X-Amz-Algorithm only supports {ALGORITHM}")
    access_key_id, scope = _credential(values["X-Amz-Credential"], fault)
    signed = _signed_names(values["X-Amz-SignedHeaders"], fault)
    time = values["X-Amz-Date"]
    if _TIME.fullmatch(time) is None or _seconds(time, fault) < 0:
        raise S3Fault(fault, "X-Amz-Date must be in the form YYYYMMDDTHHMMSSZ")
    if not time.startswith(scope.day):
        raise S3Fault(fault, "The credential's date is not that of X-Amz-Date")
    expires = values["X-Amz-Expires"]
    if re.fullmatch(r"-?[0-9]{1,18}", expires) is None:
        raise S3Fault(fault, "X-Amz-Expires should be a number")
    if not 1 <= int(expires) <= LONGEST_EXPIRES:
        raise S3Fault(fault, f"X-Amz-Expires must be between 1 and {LONGEST_EXPIRES} seconds")
    if _SIGNATURE.fullmatch(values["X-Amz-Signature"]) is None:
        raise S3Fault(FaultCode.SIGNATURE_DOES_NOT_MATCH)
    digest = head.fields.get(payload.FIELD) if payload.FIELD in signed else None
    digest = digest or head.target.parameter("X-Amz-Content-Sha256") or payload.UNSIGNED
    payload.check_payload_field(digest)
    payload.framing_of(head.fields)
    return Authentication(access_key_id, scope, signed, values["X-Amz-Signature"], time, digest, int(expires))


def parse_credential(text: str, fault: FaultCode) -> tuple[str, Scope]:
    """Parse `ID/DAY/REGION/s3/aws4_request`; raises S3Fault with the code `fault`. Any region is accepted."""
    return _credential(text, fault)


def _credential(text: str, fault: FaultCode) -> tuple[str, Scope]:
    match = _CREDENTIAL.fullmatch(text)
    if match is None:
        raise S3Fault(fault, "The credential must be in the form <key-id>/YYYYMMDD/REGION/s3/aws4_request")
    if match["service"] != "s3":
        raise S3Fault(fault, "The credential's service must be s3")
    return match["id"], Scope(match["day"], match["region"])


def _signed_names(text: str, fault: FaultCode) -> tuple[str, ...]:
    names = tuple(text.split(";"))
    if _NAMES.fullmatch(text) is None or len(set(names)) < len(names):
        raise S3Fault(fault, "SignedHeaders is not a list of lower-case names")
    return names


def _header_time(head: RequestHead) -> str:
    """The time of the request in the form of x-amz-date. Raises S3Fault (AccessDenied) if it has none."""
    value = head.fields.get("x-amz-date")
    if value is not None and _TIME.fullmatch(value):
        _seconds(value)
        return value
    seconds = parse_date(value if value is not None else head.fields.get("date"))
    if seconds is None or seconds < 0:
        raise S3Fault(FaultCode.ACCESS_DENIED, "AWS authentication requires a valid Date or x-amz-date header")
    return timestamp(seconds).replace("-", "").replace(":", "").replace(".000", "")


def _check_signed(head: RequestHead, signed: Sequence[str]) -> None:
    """Raise S3Fault unless Host and each x-amz-* field that was sent are signed."""
    unsigned = [name for name in head.fields.names() if name.startswith("x-amz-") and name not in signed]
    if "host" not in signed:
        unsigned.append("host")
    # Presigned URLs carry the digest's word in the canonical request only; clients then send the field unsigned.
    if unsigned == [payload.FIELD] and head.target.parameter("X-Amz-Signature") is not None:
        return
    if unsigned:
        names = ", ".join(sorted(unsigned))
        raise S3Fault(
            FaultCode.ACCESS_DENIED,
            "There were headers present in the request which were not signed",
            [("HeadersNotSigned", names)],
        )


def _seconds(time: str, fault: FaultCode = FaultCode.ACCESS_DENIED) -> int:
    try:
        return _parse_time(time)
    except ValueError:
        raise S3Fault(fault, "The date of the signature is not valid") from None


@lru_cache(256)
def _parse_time(time: str) -> int:
    """Parse a time into unix seconds; cached, since a presigned URL is used often. Raises ValueError."""
    return timegm(datetime.strptime(time, "%Y%m%dT%H%M%SZ").timetuple())


# --- verification -----------------------------------------------------------------------------------------------------


def check_time(authentication: Authentication, now: int) -> None:
    """Raise S3Fault if the signature is not valid at `now` (unix seconds): RequestTimeTooSkewed, AccessDenied."""
    signed_at = authentication.signed_at
    if authentication.expires is None:
        if abs(now - signed_at) > SKEW:
            raise S3Fault(
                FaultCode.REQUEST_TIME_TOO_SKEWED,
                details=[
                    ("RequestTime", authentication.time),
                    ("ServerTime", _iso(now)),
                    ("MaxAllowedSkewMilliseconds", SKEW * 1000),
                ],
            )
    elif now < signed_at - SKEW:
        raise S3Fault(FaultCode.ACCESS_DENIED, "Request is not valid yet", [("ServerTime", _iso(now))])
    elif now > (end := signed_at + authentication.expires):
        details = [("X-Amz-Expires", str(authentication.expires)), ("Expires", _iso(end)), ("ServerTime", _iso(now))]
        raise S3Fault(FaultCode.ACCESS_DENIED, "Request has expired", details)


def signing_key(secret: str, scope: Scope) -> bytes:
    """Derive the key that signs in `scope`; the same for a whole day, so it can be cached."""
    key = b"AWS4" + secret.encode()
    for part in (scope.day, scope.region, scope.service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def string_to_sign(authentication: Authentication, canonical: bytes) -> str:
    """Return the string that is signed for a canonical request."""
    digest = hashlib.sha256(canonical).hexdigest()
    return f"{ALGORITHM}\n{authentication.time}\n{authentication.scope}\n{digest}"


def sign(key: bytes, text: str) -> str:
    """Return the signature of `text` in hex."""
    return hmac.digest(key, text.encode(), "sha256").hex()


def verify(head: RequestHead, authentication: Authentication, key: bytes, hosts: Sequence[str] = ()) -> None:
    """Raise S3Fault (SignatureDoesNotMatch) unless `key` signed this request.

    `hosts`: values of Host to try beside the one that was sent, for requests that a front end sent on under another
    name. The fault states the canonical request, with which users find their mistake.
    """
    canonical = text = ""
    for host in (None, *hosts):
        found = canonical_request(
            head.method,
            head.target.path,
            head.target.query,
            head.fields,
            authentication.signed,
            authentication.payload,
            host=None if host is None else host.encode(),
        )
        signed = string_to_sign(authentication, found)
        if hmac.compare_digest(sign(key, signed), authentication.signature):
            return
        if not text:
            canonical, text = found.decode("utf-8", "replace"), signed
    raise S3Fault(
        FaultCode.SIGNATURE_DOES_NOT_MATCH,
        details=[
            ("AWSAccessKeyId", authentication.access_key_id),
            ("StringToSign", text),
            ("SignatureProvided", authentication.signature),
            ("CanonicalRequest", canonical),
        ],
    )


def _iso(seconds: int) -> str:
    return timestamp(seconds).replace(".000Z", "Z")
