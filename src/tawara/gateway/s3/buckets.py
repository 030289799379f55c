"""Operations on buckets: they are the domains of the store."""

from __future__ import annotations

from functools import partial

from tawara.gateway.s3.bodies import read_document
from tawara.gateway.s3.context import S3Context, S3Request, class_name, refuse_acl
from tawara.http1.reply import Reply
from tawara.metadata import buckets, cluster, key_listing
from tawara.model.access.grants import Right
from tawara.model.bucket_names import is_bucket_name
from tawara.model.errors import DomainExists
from tawara.wire.s3.faults import FaultCode, S3Fault
from tawara.wire.s3.head import HeaderFields
from tawara.wire.s3.lists import parse_bucket_query, parse_list_query, render_buckets, render_objects
from tawara.wire.s3.results import render_location
from tawara.wire.s3.xml_in import LONGEST, parse_location

XML = {"content-type": "application/xml"}
US_EAST = "us-east-1"


class BucketHandlers:
    """Answers operations on buckets and on the service."""

    def __init__(self, context: S3Context) -> None:
        self._context = context

    async def list_buckets(self, request: S3Request) -> Reply:
        """ListBuckets: those to which the access key has any right. Domains made elsewhere have no time of creation."""
        query = parse_bucket_query(request.head.target, self._context.region)
        rows = await self._context.metadata.read(buckets.list_all)
        domains = self._context.view.current.domains
        found = [
            (name, rows[each.dmid].created_at if each.dmid in rows else 0)
            for name, each in sorted(domains.items())
            if request.may_see(name)
        ]
        return Reply(200, XML, render_buckets(request.owner, found, query))

    async def head_bucket(self, request: S3Request) -> Reply:
        """HeadBucket."""
        self._visible(request)
        self._context.domain(request.head.target.bucket)
        return Reply(200, {})

    async def get_location(self, request: S3Request) -> Reply:
        """GetBucketLocation: the region of the configuration."""
        self._visible(request)
        self._context.domain(request.head.target.bucket)
        return Reply(200, XML, render_location(self._context.region))

    async def create_bucket(self, request: S3Request) -> Reply:
        """CreateBucket. Any location is accepted, as any region is in signatures."""
        request.require(Right.ADMIN)
        name = request.head.target.bucket
        if not is_bucket_name(name):
            raise S3Fault(FaultCode.INVALID_BUCKET_NAME, details=[("BucketName", name)])
        _refuse_settings(request.head.fields)
        parse_location(await read_document(request, self._context.limits, most=LONGEST))
        account, now = request.key.account.id, await self._context.metadata.clock.seconds()
        try:
            await self._context.metadata.write(buckets.create, name, owner=account, now=now)
        except DomainExists:
            await self._context.view.renew()
            row = await self._context.metadata.read(buckets.find, self._context.domain(name).dmid)
            if row is not None and row.owner != account:
                raise S3Fault(FaultCode.BUCKET_ALREADY_EXISTS, details=[("BucketName", name)]) from None
            if self._context.region != US_EAST:
                raise S3Fault(FaultCode.BUCKET_ALREADY_OWNED, details=[("BucketName", name)]) from None
        await self._context.view.renew()
        return Reply(200, {"location": f"/{name}"})

    async def delete_bucket(self, request: S3Request) -> Reply:
        """DeleteBucket, if it is empty."""
        request.require(Right.ADMIN)
        name = self._context.domain(request.head.target.bucket).name
        await self._context.metadata.write(cluster.delete_domain, name)
        await self._context.view.renew()
        return Reply(204, {})

    async def list_objects(self, request: S3Request) -> Reply:
        """ListObjects and ListObjectsV2."""
        query = parse_list_query(request.head.target)
        request.require_for(Right.LIST, query.prefix)
        domain = self._context.domain(request.head.target.bucket)
        page = await self._context.metadata.read(
            key_listing.page,
            domain.dmid,
            query.prefix,
            query.delimiter,
            query.after,
            query.most,
            after_prefix=query.after_prefix,
        )
        named = partial(class_name, domain)
        return Reply(200, XML, render_objects(domain.name, query, page, class_name=named, owner=request.owner))

    def _visible(self, request: S3Request) -> None:
        if not request.may_see(request.head.target.bucket):
            raise S3Fault(FaultCode.ACCESS_DENIED)


def _refuse_settings(fields: HeaderFields) -> None:
    """Raise S3Fault (NotImplemented) for settings of a new bucket that would have to be kept and are not."""
    if (fields.get("x-amz-bucket-object-lock-enabled") or "").lower() == "true":
        raise S3Fault(FaultCode.NOT_IMPLEMENTED, "Object lock is not implemented")
    refuse_acl(fields)
