"""The operations of S3: by which method, resource, parameters and header fields a request names each."""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from tawara.wire.s3.faults import FaultCode, S3Fault
from tawara.wire.s3.head import RequestHead


class Level(Enum):
    """The resource of a request."""

    SERVICE = "service"
    BUCKET = "bucket"
    OBJECT = "object"


class Operation(NamedTuple):
    """An operation, named as in AWS's model of S3."""

    name: str
    method: str
    level: Level
    parameters: tuple[str, ...] = ()
    """Query parameters that select it, all of which must be given."""
    field: str | None = None
    """Header field (lower case) that selects it, too."""
    ours: bool = True
    """Whether this server is meant to have it; others are answered with NotImplemented."""


_BUCKET: Final = Level.BUCKET
_OBJECT: Final = Level.OBJECT

OURS: Final = (
    Operation("ListBuckets", "GET", Level.SERVICE),
    Operation("CreateBucket", "PUT", _BUCKET),
    Operation("DeleteBucket", "DELETE", _BUCKET),
    Operation("HeadBucket", "HEAD", _BUCKET),
    Operation("ListObjects", "GET", _BUCKET),
    Operation("ListObjectsV2", "GET", _BUCKET, ("list-type=2",)),
    Operation("ListObjectVersions", "GET", _BUCKET, ("versions",)),
    Operation("ListMultipartUploads", "GET", _BUCKET, ("uploads",)),
    Operation("DeleteObjects", "POST", _BUCKET, ("delete",)),
    Operation("PostObject", "POST", _BUCKET),
    Operation("GetBucketLocation", "GET", _BUCKET, ("location",)),
    Operation("GetBucketAcl", "GET", _BUCKET, ("acl",)),
    Operation("PutBucketAcl", "PUT", _BUCKET, ("acl",)),
    Operation("GetBucketVersioning", "GET", _BUCKET, ("versioning",)),
    Operation("PutBucketVersioning", "PUT", _BUCKET, ("versioning",)),
    Operation("GetBucketCors", "GET", _BUCKET, ("cors",)),
    Operation("PutBucketCors", "PUT", _BUCKET, ("cors",)),
    Operation("DeleteBucketCors", "DELETE", _BUCKET, ("cors",)),
    Operation("GetBucketLifecycleConfiguration", "GET", _BUCKET, ("lifecycle",)),
    Operation("PutBucketLifecycleConfiguration", "PUT", _BUCKET, ("lifecycle",)),
    Operation("DeleteBucketLifecycle", "DELETE", _BUCKET, ("lifecycle",)),
    Operation("GetBucketPolicy", "GET", _BUCKET, ("policy",)),
    Operation("PutBucketPolicy", "PUT", _BUCKET, ("policy",)),
    Operation("DeleteBucketPolicy", "DELETE", _BUCKET, ("policy",)),
    Operation("GetBucketPolicyStatus", "GET", _BUCKET, ("policyStatus",)),
    Operation("GetBucketTagging", "GET", _BUCKET, ("tagging",)),
    Operation("PutBucketTagging", "PUT", _BUCKET, ("tagging",)),
    Operation("DeleteBucketTagging", "DELETE", _BUCKET, ("tagging",)),
    Operation("GetBucketOwnershipControls", "GET", _BUCKET, ("ownershipControls",)),
    Operation("PutBucketOwnershipControls", "PUT", _BUCKET, ("ownershipControls",)),
    Operation("DeleteBucketOwnershipControls", "DELETE", _BUCKET, ("ownershipControls",)),
    Operation("GetPublicAccessBlock", "GET", _BUCKET, ("publicAccessBlock",)),
    Operation("PutPublicAccessBlock", "PUT", _BUCKET, ("publicAccessBlock",)),
    Operation("DeletePublicAccessBlock", "DELETE", _BUCKET, ("publicAccessBlock",)),
    Operation("GetBucketRequestPayment", "GET", _BUCKET, ("requestPayment",)),
    Operation("GetBucketNotificationConfiguration", "GET", _BUCKET, ("notification",)),
    Operation("PutBucketNotificationConfiguration", "PUT", _BUCKET, ("notification",)),
    Operation("GetObjectLockConfiguration", "GET", _BUCKET, ("object-lock",)),
    Operation("PutObjectLockConfiguration", "PUT", _BUCKET, ("object-lock",)),
    Operation("GetObject", "GET", _OBJECT),
    Operation("HeadObject", "HEAD", _OBJECT),
    Operation("PutObject", "PUT", _OBJECT),
    Operation("CopyObject", "PUT", _OBJECT, field="x-amz-copy-source"),
    Operation("DeleteObject", "DELETE", _OBJECT),
    Operation("GetObjectAttributes", "GET", _OBJECT, ("attributes",)),
    Operation("GetObjectTagging", "GET", _OBJECT, ("tagging",)),
    Operation("PutObjectTagging", "PUT", _OBJECT, ("tagging",)),
    Operation("DeleteObjectTagging", "DELETE", _OBJECT, ("tagging",)),
    Operation("GetObjectAcl", "GET", _OBJECT, ("acl",)),
    Operation("PutObjectAcl", "PUT", _OBJECT, ("acl",)),
    Operation("GetObjectLegalHold", "GET", _OBJECT, ("legal-hold",)),
    Operation("PutObjectLegalHold", "PUT", _OBJECT, ("legal-hold",)),
    Operation("GetObjectRetention", "GET", _OBJECT, ("retention",)),
    Operation("PutObjectRetention", "PUT", _OBJECT, ("retention",)),
    Operation("CreateMultipartUpload", "POST", _OBJECT, ("uploads",)),
    Operation("UploadPart", "PUT", _OBJECT, ("partNumber", "uploadId")),
    Operation("UploadPartCopy", "PUT", _OBJECT, ("partNumber", "uploadId"), "x-amz-copy-source"),
    Operation("CompleteMultipartUpload", "POST", _OBJECT, ("uploadId",)),
    Operation("AbortMultipartUpload", "DELETE", _OBJECT, ("uploadId",)),
    Operation("ListParts", "GET", _OBJECT, ("uploadId",)),
)
"""The operations that this server is meant to have."""


def _other(name: str, method: str, level: Level, *parameters: str) -> Operation:
    return Operation(name, method, level, parameters, ours=False)


def _configurations(noun: str, parameter: str) -> tuple[Operation, ...]:
    """Configurations of which a bucket has several, selected by `id`."""
    return (
        _other(f"ListBucket{noun}Configurations", "GET", _BUCKET, parameter),
        _other(f"GetBucket{noun}Configuration", "GET", _BUCKET, parameter, "id"),
        _other(f"PutBucket{noun}Configuration", "PUT", _BUCKET, parameter, "id"),
        _other(f"DeleteBucket{noun}Configuration", "DELETE", _BUCKET, parameter, "id"),
    )


OTHERS: Final = (
    *_configurations("Analytics", "analytics"),
    *_configurations("IntelligentTiering", "intelligent-tiering"),
    *_configurations("Inventory", "inventory"),
    *_configurations("Metrics", "metrics"),
    _other("CreateBucketMetadataConfiguration", "POST", _BUCKET, "metadataConfiguration"),
    _other("GetBucketMetadataConfiguration", "GET", _BUCKET, "metadataConfiguration"),
    _other("DeleteBucketMetadataConfiguration", "DELETE", _BUCKET, "metadataConfiguration"),
    _other("CreateBucketMetadataTableConfiguration", "POST", _BUCKET, "metadataTable"),
    _other("GetBucketMetadataTableConfiguration", "GET", _BUCKET, "metadataTable"),
    _other("DeleteBucketMetadataTableConfiguration", "DELETE", _BUCKET, "metadataTable"),
    _other("UpdateBucketMetadataAnnotationTableConfiguration", "PUT", _BUCKET, "metadataAnnotationTable"),
    _other("UpdateBucketMetadataInventoryTableConfiguration", "PUT", _BUCKET, "metadataInventoryTable"),
    _other("UpdateBucketMetadataJournalTableConfiguration", "PUT", _BUCKET, "metadataJournalTable"),
    _other("GetBucketAbac", "GET", _BUCKET, "abac"),
    _other("PutBucketAbac", "PUT", _BUCKET, "abac"),
    _other("GetBucketAccelerateConfiguration", "GET", _BUCKET, "accelerate"),
    _other("PutBucketAccelerateConfiguration", "PUT", _BUCKET, "accelerate"),
    _other("GetBucketEncryption", "GET", _BUCKET, "encryption"),
    _other("PutBucketEncryption", "PUT", _BUCKET, "encryption"),
    _other("DeleteBucketEncryption", "DELETE", _BUCKET, "encryption"),
    _other("GetBucketLogging", "GET", _BUCKET, "logging"),
    _other("PutBucketLogging", "PUT", _BUCKET, "logging"),
    _other("GetBucketReplication", "GET", _BUCKET, "replication"),
    _other("PutBucketReplication", "PUT", _BUCKET, "replication"),
    _other("DeleteBucketReplication", "DELETE", _BUCKET, "replication"),
    _other("PutBucketRequestPayment", "PUT", _BUCKET, "requestPayment"),
    _other("GetBucketWebsite", "GET", _BUCKET, "website"),
    _other("PutBucketWebsite", "PUT", _BUCKET, "website"),
    _other("DeleteBucketWebsite", "DELETE", _BUCKET, "website"),
    _other("CreateSession", "GET", _BUCKET, "session"),
    _other("ListObjectAnnotations", "GET", _OBJECT, "annotation"),
    _other("GetObjectAnnotation", "GET", _OBJECT, "annotation", "annotationName"),
    _other("PutObjectAnnotation", "PUT", _OBJECT, "annotation", "annotationName"),
    _other("DeleteObjectAnnotation", "DELETE", _OBJECT, "annotation", "annotationName"),
    _other("GetObjectTorrent", "GET", _OBJECT, "torrent"),
    _other("RenameObject", "PUT", _OBJECT, "renameObject"),
    _other("RestoreObject", "POST", _OBJECT, "restore"),
    _other("SelectObjectContent", "POST", _OBJECT, "select", "select-type=2"),
    _other("UpdateObjectEncryption", "PUT", _OBJECT, "encryption"),
)
"""The operations of the model that are answered with NotImplemented."""

OPERATIONS: Final = OURS + OTHERS


def _by_resource() -> dict[tuple[str, Level], tuple[Operation, ...]]:
    """Method and resource -> operations, those that demand most first."""
    found: dict[tuple[str, Level], list[Operation]] = {}
    for each in OPERATIONS:
        found.setdefault((each.method, each.level), []).append(each)
    for several in found.values():
        several.sort(key=lambda each: (len(each.parameters), each.field is not None), reverse=True)
    return {key: tuple(several) for key, several in found.items()}


_BY_RESOURCE: Final = _by_resource()
_SUBRESOURCES: Final = frozenset(each.parameters[0].partition("=")[0] for each in OPERATIONS if each.parameters) - {
    "list-type",
    "partNumber",
}
"""Parameters that name another resource. A request that has one but names no operation changes nothing."""


def operation_of(head: RequestHead) -> Operation:
    """Find the operation that a request names.

    Raises S3Fault: NotImplemented, naming the operation, for those that are not ours; MethodNotAllowed if there is no
    such operation at all.
    """
    target = head.target
    level = Level.OBJECT if target.key else Level.BUCKET if target.bucket else Level.SERVICE
    given = {name for name, _ in target.query} | {f"{name}={value}" for name, value in target.query}
    for each in _BY_RESOURCE.get((head.method, level), ()):
        if not given.issuperset(each.parameters) or (each.field and head.fields.get(each.field) is None):
            continue
        if not each.parameters and not _SUBRESOURCES.isdisjoint(given):
            break
        if not each.ours:
            raise S3Fault(FaultCode.NOT_IMPLEMENTED, f"This server does not implement {each.name}")
        return each
    raise S3Fault(FaultCode.METHOD_NOT_ALLOWED, details=[("Method", head.method), ("ResourceType", level.name)])
