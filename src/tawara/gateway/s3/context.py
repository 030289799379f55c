"""What the handlers of S3 share, and a request as it is passed to them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from tawara.gateway.nginx_protocol import GatewayStep
from tawara.gateway.nginx_replicas import NginxReplicas
from tawara.gateway.protocol_listener import GatewayParts
from tawara.gateway.requests import HttpRequest
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
from tawara.wire.s3.faults import FaultCode, S3Fault
from tawara.wire.s3.head import RequestHead
from tawara.wire.s3.lists import S3Owner
from tawara.wire.s3.signature import Authentication

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
