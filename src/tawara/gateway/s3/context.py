"""What the handlers of S3 share, and a request as it is passed to them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web

from tawara.gateway.nginx_protocol import GatewayStep
from tawara.gateway.nginx_replicas import NginxReplicas
from tawara.gateway.protocol_listener import GatewayParts
from tawara.gateway.requests import HttpRequest
from tawara.metadata import buckets
from tawara.metadata.contract import Metadata
from tawara.metadata.view import ClusterView
from tawara.model.access import grants
from tawara.model.access.grants import Right
from tawara.model.access.keys import AccessKey
from tawara.model.cluster import DEFAULT_CLASS, Domain, StorageClass
from tawara.model.limits import Limits
from tawara.nodes.client import NodeClient
from tawara.store.file_assembler import FileAssembler
from tawara.store.multipart_uploads import MultipartUploads
from tawara.store.replica_locator import ReplicaLocator
from tawara.store.service import FileStore
from tawara.store.writer import FileWriter
from tawara.wire.s3.faults import FaultCode, S3Fault, invalid_argument
from tawara.wire.s3.head import HeaderFields, RequestHead
from tawara.wire.s3.lists import S3Owner
from tawara.wire.s3.signature import Authentication

_CANNED_ACLS: Final = (
    *("private", "public-read", "public-read-write", "authenticated-read", "aws-exec-read"),
    *("bucket-owner-read", "bucket-owner-full-control", "log-delivery-write"),
)
_OWNER_ONLY: Final = (None, "private", "bucket-owner-full-control")
STANDARD = "STANDARD"
"""The storage class of S3 that is the class `default` of a domain."""


@dataclass(frozen=True, slots=True)
class S3Context:
    """The parts of the store that the handlers use."""

    metadata: Metadata
    view: ClusterView
    nodes: NodeClient
    store: FileStore
    writer: FileWriter
    locator: ReplicaLocator
    assembler: FileAssembler
    multipart: MultipartUploads
    limits: Limits
    region: str
    gateway: GatewayParts
    replicas: NginxReplicas
    """Finds what nginx can send."""

    def domain(self, name: str) -> Domain:
        """Return the domain of a bucket. Raises S3Fault (NoSuchBucket)."""
        domain = self.view.current.domains.get(name)
        if domain is None:
            raise S3Fault(FaultCode.NO_SUCH_BUCKET, details=[("BucketName", name)])
        return domain

    async def check_owner(self, bucket: str, expected: str | None, account: str) -> None:
        """Raise S3Fault (AccessDenied) unless a bucket belongs to the account that a request expects.

        `account`: that of the access key, to which buckets without an owner belong. Nothing is checked if `expected` is
        None or the bucket does not exist.
        """
        domain = self.view.current.domains.get(bucket)
        if expected is None or domain is None:
            return
        row = await self.metadata.read(buckets.find, domain.dmid)
        if expected != (account if row is None else row.owner):
            raise S3Fault(FaultCode.ACCESS_DENIED)


@dataclass(frozen=True, slots=True)
class S3Request:
    """A request whose signature was verified."""

    received: HttpRequest
    head: RequestHead
    key: AccessKey
    authentication: Authentication
    signing_key: bytes
    fields: dict[str, str]
    """Header fields of every answer to this request."""
    step: GatewayStep = GatewayStep.DECIDE
    """What is to be done for it now."""
    file: Path | None = None
    """The body that nginx has received."""

    @property
    def http(self) -> web.BaseRequest:
        """The request as the complete HTTP server has it, for bodies that are streamed."""
        assert isinstance(self.received, web.BaseRequest), "answered without the complete server"
        return self.received

    @property
    def owner(self) -> S3Owner:
        """The account of the access key."""
        return S3Owner(self.key.account.id, self.key.account.name)

    def require(self, right: Right) -> None:
        """Raise S3Fault (AccessDenied) unless the access key has `right` to the request's bucket and key."""
        self.require_for(right, self.head.target.key)

    def require_for(self, right: Right, key: bytes) -> None:
        """The same for a key of the request's bucket; for LIST, the prefix of the keys."""
        if not grants.allowed(self.key.grants, right, self.head.target.bucket, key):
            raise S3Fault(FaultCode.ACCESS_DENIED)

    def may_see(self, bucket: str) -> bool:
        """Whether the access key has any right to the bucket or to keys of it."""
        return any(each.allows(right, bucket, each.prefix) for each in self.key.grants for right in Right)


def class_named(domain: Domain, name: str | None) -> StorageClass:
    """Return the class of a storage class of S3. Raises S3Fault (InvalidStorageClass)."""
    found = domain.class_named("" if name in (None, STANDARD) else name or "")
    if found is None:
        raise S3Fault(FaultCode.INVALID_STORAGE_CLASS, details=[("StorageClassRequested", name)])
    return found


def class_name(domain: Domain, classid: int) -> str:
    """Return the storage class of S3 of a class."""
    found = domain.classes.get(classid)
    return STANDARD if found is None or found.name == DEFAULT_CLASS else found.name


def check_version(request: S3Request) -> None:
    """Raise S3Fault (InvalidArgument) for a version of the object: there is only `null`."""
    version = request.head.target.parameter("versionId")
    if version not in (None, "null"):
        raise no_version(version or "")


def no_version(version: str) -> S3Fault:
    """Return the fault for a version that no object has."""
    return invalid_argument("versionId", version, "Invalid version id specified")


def refuse_acl(fields: HeaderFields) -> None:
    """Raise S3Fault for an ACL that gives others access: NotImplemented, or InvalidArgument if it is unknown."""
    acl = fields.get("x-amz-acl")
    if acl not in (None, *_CANNED_ACLS):
        raise invalid_argument("x-amz-acl", acl or "", "The canned ACL is unknown")
    if acl not in _OWNER_ONLY or any(name.startswith("x-amz-grant-") for name in fields.names()):
        raise S3Fault(FaultCode.NOT_IMPLEMENTED, "ACLs that give access to others are not implemented")
