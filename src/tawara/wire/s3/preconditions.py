"""Conditions of S3 requests. They differ from RFC 9110 where there is no object, and for copies."""

from __future__ import annotations

from tawara.model.multipart import unquote
from tawara.wire.http import ConditionResult, Conditions, Validators
from tawara.wire.s3.faults import FaultCode, S3Fault
from tawara.wire.s3.head import HeaderFields
from tawara.wire.s3.xml_in import KeyDeletion


def conditions_of(fields: HeaderFields, prefix: str = "") -> Conditions:
    """The conditions of a read, or with the prefix `x-amz-copy-source-` those on the source of a copy.

    Entity tags without quotes get them: many clients send these as they stand in listings of other tools.
    """
    match, none_match = fields.get(f"{prefix}if-match"), fields.get(f"{prefix}if-none-match")
    return Conditions(
        if_match=None if match is None else _with_quotes(match),
        if_unmodified_since=fields.get(f"{prefix}if-unmodified-since"),
        if_none_match=None if none_match is None else _with_quotes(none_match),
        if_modified_since=fields.get(f"{prefix}if-modified-since"),
        if_range=None if prefix else fields.get("if-range"),
    )


def check_write(fields: HeaderFields, current: str | None) -> None:
    """Judge If-Match and If-None-Match of a PUT, a completion or a copy's target.

    `current`: entity tag of the current object without quotes; None if there is none, a delete marker included. Raises
    S3Fault: PreconditionFailed; NoSuchKey for If-Match where there is no object. Other than AWS, which knows `*` only,
    If-None-Match may list entity tags.
    """
    match, none_match = fields.get("if-match"), fields.get("if-none-match")
    if none_match is not None and current is not None and _lists(none_match, current):
        raise _failed("If-None-Match")
    if match is not None:
        if current is None:
            raise S3Fault(FaultCode.NO_SUCH_KEY)
        if not _lists(match, current):
            raise _failed("If-Match")


def check_delete(deletion: KeyDeletion, etag: str, modified_at: int | None, length: int) -> None:
    """Judge the conditions of a deletion on the object that there is. Raises S3Fault: PreconditionFailed.

    Without an object there is nothing that could be deleted wrongly. `etag` has no quotes; `modified_at`: unix seconds.
    """
    if deletion.etag is not None and not _lists(deletion.etag, etag):
        raise _failed("If-Match")
    if deletion.modified_at is not None and deletion.modified_at != modified_at:
        raise _failed("x-amz-if-match-last-modified-time")
    if deletion.length is not None and deletion.length != length:
        raise _failed("x-amz-if-match-size")


def check_read(conditions: Conditions, current: Validators) -> None:
    """Judge the conditions of a GET or HEAD in RFC 9110's order. Raises S3Fault: NotModified, PreconditionFailed."""
    match conditions.judge(current, reading=True):
        case ConditionResult.NOT_MODIFIED:
            raise S3Fault(FaultCode.NOT_MODIFIED)
        case ConditionResult.FAILED:
            raise _failed("If-Match" if conditions.if_match is not None else "If-Unmodified-Since")
        case ConditionResult.PROCEED:
            return


def check_copy_source(fields: HeaderFields, source: Validators) -> None:
    """Judge the conditions on the source of a copy; each that fails is PreconditionFailed, also where a GET has 304.

    If-Match that holds overrides If-Unmodified-Since, and If-None-Match overrides If-Modified-Since.
    """
    if conditions_of(fields, "x-amz-copy-source-").judge(source, reading=True) is not ConditionResult.PROCEED:
        raise _failed("x-amz-copy-source-if-*")


def _with_quotes(tags: str) -> str:
    if '"' in tags or tags.strip() == "*":
        return tags
    return ", ".join(f'"{each.strip()}"' for each in tags.split(","))


def _lists(field: str, etag: str) -> bool:
    return field.strip() == "*" or etag in [unquote(each.strip()) for each in field.split(",")]


def _failed(condition: str) -> S3Fault:
    return S3Fault(FaultCode.PRECONDITION_FAILED, details=[("Condition", condition)])
