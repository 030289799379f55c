"""Answers of the operations on buckets, objects and uploads, as XML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tawara.model.multipart import UploadedPart
from tawara.model.object_checksums import ChecksumAlgorithm, ChecksumType, format_value
from tawara.wire.s3.faults import S3Fault
from tawara.wire.s3.lists import S3Owner, key_text
from tawara.wire.s3.xml_out import Value, quoted, render, timestamp


@dataclass(frozen=True, slots=True)
class AnsweredChecksum:
    """An object's checksum as answers write it."""

    algorithm: ChecksumAlgorithm
    value: bytes
    parts: int | None = None
    """Number of parts of a composite checksum; None for one over the whole object."""

    @property
    def text(self) -> str:
        """Its value in base64, with `-N` if composite."""
        return format_value(self.value, self.parts)

    @property
    def type(self) -> ChecksumType:
        """What it was computed over."""
        return ChecksumType.FULL_OBJECT if self.parts is None else ChecksumType.COMPOSITE

    def fields(self) -> list[tuple[str, str]]:
        """The header fields of an answer."""
        return [(self.algorithm.field, self.text), ("x-amz-checksum-type", self.type.value)]

    def elements(self) -> list[tuple[str, Value]]:
        """The elements of an answer."""
        return [(self.algorithm.element, self.text), ("ChecksumType", self.type.value)]


@dataclass(frozen=True, slots=True)
class DeletionResult:
    """The result of one deletion of DeleteObjects."""

    key: bytes
    fault: S3Fault | None = None


@dataclass(frozen=True, slots=True)
class ListedUpload:
    """An upload in progress."""

    key: bytes
    upload_id: str
    initiated_at: int
    """Unix seconds."""
    storage_class: str
    initiator: S3Owner | None = None
    """The account that created it; None for the owner of the listing."""


def render_location(region: str) -> bytes:
    """Render the answer of GetBucketLocation: empty only for us-east-1."""
    text = "" if region == "us-east-1" else region
    # The root element itself has the text.
    return render("LocationConstraint", []).replace(b"></LocationConstraint>", f">{text}</LocationConstraint>".encode())


def render_copy(etag: str, modified: int, checksum: AnsweredChecksum | None = None, *, part: bool = False) -> bytes:
    """Render the answer of CopyObject or UploadPartCopy."""
    elements = [*(checksum.elements() if checksum is not None else ())]
    return render(
        "CopyPartResult" if part else "CopyObjectResult",
        [("LastModified", timestamp(modified)), ("ETag", quoted(etag)), *elements],
    )


def render_deletions(results: Iterable[DeletionResult], *, quiet: bool) -> bytes:
    """Render the answer of DeleteObjects: errors, and unless quiet also the keys that are deleted."""
    content: list[tuple[str, Value]] = []
    for each in results:
        key = key_text(each.key, encode=False)
        if each.fault is not None:
            fault = each.fault
            content.append(("Error", [("Key", key), ("Code", fault.code.code), ("Message", fault.message)]))
        elif not quiet:
            content.append(("Deleted", [("Key", key)]))
    return render("DeleteResult", content)


def render_initiation(bucket: str, key: bytes, upload_id: str) -> bytes:
    """Render the answer of CreateMultipartUpload."""
    return render(
        "InitiateMultipartUploadResult",
        [("Bucket", bucket), ("Key", key_text(key, encode=False)), ("UploadId", upload_id)],
    )


def render_completion(
    location: str, bucket: str, key: bytes, etag: str, checksum: AnsweredChecksum | None = None
) -> bytes:
    """Render the answer of CompleteMultipartUpload; `location`: URL of the object."""
    return render(
        "CompleteMultipartUploadResult",
        [
            ("Location", location),
            ("Bucket", bucket),
            ("Key", key_text(key, encode=False)),
            ("ETag", quoted(etag)),
            *(checksum.elements() if checksum is not None else ()),
        ],
    )


def render_parts(
    upload: ListedUpload,
    bucket: str,
    owner: S3Owner,
    parts: Sequence[tuple[UploadedPart, int]],
    *,
    after: int,
    most: int,
    truncated: bool,
    checksum: tuple[ChecksumAlgorithm, ChecksumType] | None = None,
) -> bytes:
    """Render the answer of ListParts: a page of parts, each with the time of its upload (unix seconds)."""
    listed: list[tuple[str, Value]] = []
    for part, modified in parts:
        value: list[tuple[str, Value]] = []
        if checksum is not None and part.checksum is not None:
            value = [(checksum[0].element, format_value(part.checksum))]
        listed.append(
            (
                "Part",
                [
                    ("PartNumber", part.number),
                    ("LastModified", timestamp(modified)),
                    ("ETag", quoted(part.etag)),
                    ("Size", part.length),
                    *value,
                ],
            )
        )
    declared: list[tuple[str, Value]] = []
    if checksum is not None:
        declared = [("ChecksumAlgorithm", checksum[0].value), ("ChecksumType", checksum[1].value)]
    return render(
        "ListPartsResult",
        [
            ("Bucket", bucket),
            ("Key", key_text(upload.key, encode=False)),
            ("UploadId", upload.upload_id),
            ("PartNumberMarker", after),
            ("NextPartNumberMarker", parts[-1][0].number if parts else 0),
            ("MaxParts", most),
            ("IsTruncated", truncated),
            *listed,
            ("Initiator", _owner(owner)),
            ("Owner", _owner(owner)),
            ("StorageClass", upload.storage_class),
            *declared,
        ],
    )


def render_uploads(
    bucket: str,
    owner: S3Owner,
    uploads: Sequence[ListedUpload],
    prefixes: Sequence[bytes] = (),
    *,
    prefix: bytes = b"",
    delimiter: bytes = b"",
    key_marker: bytes = b"",
    upload_id_marker: str = "",
    most: int,
    next_marker: tuple[bytes, str] | None,
    encode: bool,
) -> bytes:
    """Render the answer of ListMultipartUploads.

    `next_marker`: key and upload id after which the next page begins; None on the last one.
    """

    def text(key: bytes) -> str:
        return key_text(key, encode=encode)

    listed: list[tuple[str, Value]] = [
        (
            "Upload",
            [
                ("Key", text(each.key)),
                ("UploadId", each.upload_id),
                ("Initiator", _owner(each.initiator or owner)),
                ("Owner", _owner(each.initiator or owner)),
                ("StorageClass", each.storage_class),
                ("Initiated", timestamp(each.initiated_at)),
            ],
        )
        for each in uploads
    ]
    following: list[tuple[str, Value]] = []
    if next_marker is not None:
        following = [("NextKeyMarker", text(next_marker[0])), ("NextUploadIdMarker", next_marker[1])]
    return render(
        "ListMultipartUploadsResult",
        [
            ("Bucket", bucket),
            ("KeyMarker", text(key_marker)),
            ("UploadIdMarker", upload_id_marker),
            *following,
            ("Prefix", text(prefix)),
            ("Delimiter", text(delimiter) if delimiter else None),
            ("EncodingType", "url" if encode else None),
            ("MaxUploads", most),
            ("IsTruncated", next_marker is not None),
            *listed,
            *(("CommonPrefixes", [("Prefix", text(each))]) for each in prefixes),
        ],
    )


def render_tagging(tags: Sequence[tuple[str, str]]) -> bytes:
    """Render the tags of an object or bucket."""
    listed: list[tuple[str, Value]] = [("Tag", [("Key", key), ("Value", value)]) for key, value in tags]
    return render("Tagging", [("TagSet", listed)])


def _owner(owner: S3Owner) -> list[tuple[str, Value]]:
    return [("ID", owner.id), ("DisplayName", owner.name)]
