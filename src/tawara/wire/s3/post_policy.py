"""Uploads by browser forms: verifies a form's policy and signature, and the conditions on its fields.

Signatures of version 2 are accepted here, unlike in requests: many uploaders still sign forms so, and what they sign
is the policy, which has a time of expiry.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from tawara.wire.s3.faults import FaultCode, S3Fault, invalid_argument
from tawara.wire.s3.signature import ALGORITHM, Scope, parse_credential, sign

LONGEST_POLICY: Final = 20_480
"""Bytes of a policy in base64."""
MOST_CONDITIONS: Final = 200
_EXEMPT: Final = frozenset({"x-amz-signature", "file", "policy", "awsaccesskeyid", "signature"})
_EXEMPT_PREFIXES: Final = ("x-ignore-", "x-amz-checksum-")
"""A checksum needs no condition: it can only make that the file is refused."""
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class PostAuthentication:
    """Who signed a form's policy, not yet verified."""

    access_key_id: str
    scope: Scope | None
    """None for version 2."""
    signature: str
    policy: str
    """As it was sent, in base64: the string that is signed."""


@dataclass(frozen=True, slots=True)
class PostPolicy:
    """A policy: until when it is valid, and its conditions (kind, field or None, operands)."""

    expires: int
    """Unix seconds."""
    conditions: tuple[tuple[str, str, str], ...]
    """(eq or starts-with, lower-case field, value)."""
    length: tuple[int, int] | None
    """Least and greatest length of the file in bytes."""


def parse_post_authentication(form: Mapping[str, str]) -> PostAuthentication | None:
    """Read the authentication of a form, by lower-case field names; None if it is anonymous.

    Raises S3Fault: InvalidArgument for a missing field or another algorithm.
    """
    if {"policy", "x-amz-signature", "awsaccesskeyid", "signature"}.isdisjoint(form):
        return None
    if "awsaccesskeyid" in form or "signature" in form:
        _require(form, ("policy", "awsaccesskeyid", "signature"))
        return PostAuthentication(form["awsaccesskeyid"], None, form["signature"], form["policy"])
    _require(form, ("policy", "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature"))
    if form["x-amz-algorithm"] != ALGORITHM:
        raise invalid_argument("x-amz-algorithm", form["x-amz-algorithm"], f"Please use {ALGORITHM}")
    access_key_id, scope = parse_credential(form["x-amz-credential"], FaultCode.INVALID_ARGUMENT)
    return PostAuthentication(access_key_id, scope, form["x-amz-signature"], form["policy"])


def _require(form: Mapping[str, str], names: Sequence[str]) -> None:
    for name in names:
        if not form.get(name):
            raise invalid_argument(name, "", f"Bucket POST must contain a field named '{name}'")


def verify_post(authentication: PostAuthentication, key: bytes) -> None:
    """Raise S3Fault (SignatureDoesNotMatch) unless `key` signed the policy.

    `key`: the signing key of the scope; for version 2 the secret.
    """
    if authentication.scope is None:
        digest = hmac.digest(key, authentication.policy.encode(), "sha1")
        expected = base64.b64encode(digest).decode()
    else:
        expected = sign(key, authentication.policy)
    if not hmac.compare_digest(expected.encode(), authentication.signature.encode()):
        raise S3Fault(FaultCode.SIGNATURE_DOES_NOT_MATCH, details=[("StringToSign", authentication.policy)])


def parse_policy(encoded: str) -> PostPolicy:
    """Parse a policy in base64. Raises S3Fault (InvalidPolicyDocument)."""
    if len(encoded) > LONGEST_POLICY:
        raise _invalid("the policy is too long")
    try:
        document = json.loads(base64.b64decode(encoded.encode(), validate=True).decode())
    except (binascii.Error, ValueError, RecursionError):
        raise _invalid("not JSON in base64") from None
    if not isinstance(document, dict):
        raise _invalid("not an object")
    expiration, listed = document.get("expiration"), document.get("conditions")
    if not isinstance(expiration, str) or _TIME.fullmatch(expiration) is None:
        raise _invalid("expiration must be a time in ISO 8601")
    if not isinstance(listed, list) or len(listed) > MOST_CONDITIONS:
        raise _invalid("conditions must be a list")
    try:
        expires = datetime.strptime(expiration[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise _invalid("expiration must be a time in ISO 8601") from None
    conditions: list[tuple[str, str, str]] = []
    length = None
    for each in listed:
        parsed = _condition(each)
        if isinstance(parsed, list):
            conditions += parsed
        else:
            length = parsed
    return PostPolicy(int(expires), tuple(conditions), length)


def _condition(item: Any) -> list[tuple[str, str, str]] | tuple[int, int]:
    if isinstance(item, dict):
        if not item or not all(isinstance(value, str) for value in item.values()):
            raise _invalid("a condition's value must be text")
        return [("eq", name.lower(), value) for name, value in item.items()]
    if not isinstance(item, list) or len(item) != 3 or not isinstance(item[0], str):
        raise _invalid("a condition has three elements")
    kind, name, value = item[0].lower(), item[1], item[2]
    if kind == "content-length-range":
        bounds = [_whole(name), _whole(value)]
        return bounds[0], bounds[1]
    if kind not in ("eq", "starts-with") or not isinstance(name, str) or not isinstance(value, str):
        raise _invalid("unknown kind of condition")
    if not name.startswith("$"):
        raise _invalid("the field of a condition begins with $")
    return [(kind, name[1:].lower(), value)]


def _whole(value: Any) -> int:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**18:
        return value
    raise _invalid("content-length-range takes two lengths")


def check_policy(policy: PostPolicy, form: Mapping[str, str], bucket: str, now: int) -> None:
    """Judge the fields of a form (lower-case names) by its policy.

    Raises S3Fault: AccessDenied if it has expired, if a condition fails, or if a field has no condition.
    """
    if now >= policy.expires:
        raise S3Fault(FaultCode.ACCESS_DENIED, "Invalid according to Policy: Policy expired.")
    values = {**form, "bucket": bucket}
    covered = set()
    for kind, name, expected in policy.conditions:
        covered.add(name)
        value = values.get(name, "")
        if not (value.startswith(expected) if kind == "starts-with" else value == expected):
            raise S3Fault(
                FaultCode.ACCESS_DENIED,
                f'Invalid according to Policy: Policy Condition failed: ["{kind}", "${name}", "{expected}"]',
            )
    for name in form:
        if name not in covered and name not in _EXEMPT and not name.startswith(_EXEMPT_PREFIXES):
            raise S3Fault(FaultCode.ACCESS_DENIED, f"Invalid according to Policy: Extra input fields: {name}")


def check_post_length(policy: PostPolicy, length: int) -> None:
    """Judge the length of the file in bytes. Raises S3Fault: EntityTooLarge, EntityTooSmall."""
    if policy.length is None:
        return
    least, most = policy.length
    if length > most:
        raise S3Fault(FaultCode.ENTITY_TOO_LARGE, details=[("ProposedSize", length), ("MaxSizeAllowed", most)])
    if length < least:
        raise S3Fault(FaultCode.ENTITY_TOO_SMALL, details=[("ProposedSize", length), ("MinSizeAllowed", least)])


def post_key(template: str, filename: str) -> str:
    """The key of an upload: the field `key` with the name of the file in place of `${filename}`."""
    return template.replace("${filename}", re.split(r"[/\\]", filename)[-1])


def success_status(form: Mapping[str, str]) -> int:
    """The status of success: 200, 201 or 204; anything else is ignored."""
    text = form.get("success_action_status", "204")
    return int(text) if text in ("200", "201") else 204


def _invalid(reason: str) -> S3Fault:
    return S3Fault(FaultCode.INVALID_POLICY_DOCUMENT, f"Invalid Policy: {reason}")
