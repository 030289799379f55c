"""The HTTP server of a storage node, used by trackers, applications, proxies and other nodes (docs/mogilefs.md 18.1).

HTTP/1.0 and 1.1 with GET, HEAD, PUT, DELETE, MKCOL, and POST to assemble a file (wire.assemble); the reply to any other
request is 400. The event loop never
waits for a disk, and at most a few hundred KiB of a body are in memory per connection.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import structlog
from aiohttp import hdrs, web
from aiohttp.web_protocol import RequestPayloadError

from tawara.disks import paths
from tawara.disks.devices import Devices, OpenFile
from tawara.disks.file_assembly import FileAssembly, run_steps
from tawara.disks.pools import DevicePools
from tawara.disks.reading import SMALL, FileRequest, open_file
from tawara.disks.sending import send_file
from tawara.disks.small_files import SmallFile
from tawara.http1.connections import (
    SERVER,
    BoundedConnection,
    HttpServer,
    abort,
    body_length,
    is_draining,
    plain,
    send_continue,
    send_response,
)
from tawara.http1.fast_path import FastPath
from tawara.http1.reply import NOT_WHOLE, Reply, content_md5, whole_length
from tawara.instruments import RequestMeter
from tawara.listening import OnClosed
from tawara.model.assembling import total_length
from tawara.model.limits import Limits
from tawara.model.node_errors import DeviceHangs, MalformedRequest, Stalled, TooLarge
from tawara.node import replies
from tawara.node.file_requests import FileRequests
from tawara.node.signatures import SignatureCheck
from tawara.wire import assemble, ranges
from tawara.wire.plain_request import REPLACE
from tawara.wire.signatures import FIELD, split_target

log = structlog.get_logger(__name__)

_ORIGIN: Final = re.compile(r"https?://[^/?#]*", re.IGNORECASE)


class NodeHttpServer:
    """Answers HTTP requests for the files of `devices`: plain ones on the fast path, all others completely."""

    def __init__(
        self,
        devices: Devices,
        pools: DevicePools,
        limits: Limits,
        *,
        signatures: SignatureCheck | None = None,
        fast_path: bool = True,
    ) -> None:
        """Needs a running event loop. `signatures` None: no request needs one.

        Without `fast_path` the complete server answers every request.
        """
        self._signatures = signatures
        self._devices, self._pools, self._limits = devices, pools, limits
        self._methods: dict[str, Callable[[web.BaseRequest, str, str], Awaitable[web.StreamResponse]]] = {
            "GET": self._get,
            "HEAD": self._get,
            "PUT": self._put,
            "DELETE": self._delete,
            "MKCOL": self._mkcol,
            "POST": self._assemble,
        }
        self.meter = RequestMeter()
        self._server = HttpServer(self._answer, limits, idle=limits.header_time, meter=self.meter)
        self._requests = FileRequests(devices, pools, limits, signatures)
        self._fast_path = FastPath(self._requests, limits, self._server.connection, meter=self.meter)
        self._make_connection = self._fast_path.connection if fast_path else self._server.connection

    def connection(self, on_closed: OnClosed) -> asyncio.Protocol:
        """Make the protocol of a new connection. It calls `on_closed` when the connection is closed."""
        return self._make_connection(on_closed)

    def drain(self) -> None:
        """Close each connection after its next reply."""
        self._fast_path.draining = True
        self._server.draining = True

    async def close(self, grace: float) -> None:
        """Close idle connections now and the others after their reply; abort those left after `grace` seconds."""
        await asyncio.gather(self._fast_path.close(grace), self._server.close(grace))

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request and send the reply."""
        try:
            response = await self._respond(request)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:
            response = _response(replies.refusal(error, request.method, request.raw_path))
        return await send_response(request, response, timeout=self._limits.stalled_body)

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        handler = self._methods.get(request.method)
        if handler is None:
            raise MalformedRequest
        path, query = split_target(_ORIGIN.sub("", request.raw_path, count=1))
        target = paths.canonical(path)
        if target == "/" and handler == self._get:
            return _response(replies.NO_LISTING)
        if self._signatures is not None:
            fields, replace = request.headers, REPLACE in request.headers
            self._signatures.check(request.method, target, field=fields.get(FIELD), query=query, replace=replace)
        return await handler(request, target, await self._pools.of(target))

    # --- reading ------------------------------------------------------------------------------------------------------

    async def _get(self, request: web.BaseRequest, target: str, pool_name: str) -> web.StreamResponse:
        found = await self._pools.run(
            pool_name, open_file, self._devices, FileRequest(target, body=request.method == "GET")
        )
        asked = request.headers
        file = found.file
        try:
            reply = replies.of_file(
                found,
                wanted=asked.get(hdrs.RANGE),
                if_range=asked.get(hdrs.IF_RANGE),
                if_modified_since=asked.get(hdrs.IF_MODIFIED_SINCE),
            )
            if reply.part is None or request.method == "HEAD":
                return _response(reply)
            head = {hdrs.SERVER: SERVER, **reply.fields, hdrs.CONTENT_LENGTH: str(reply.part.length)}
            response = web.StreamResponse(status=reply.status, headers=head)
            if is_draining(request):
                response.force_close()
            return await self._send(request, response, file, reply.part, pool_name)
        finally:
            if not file.closed:
                self._pools.submit_cleanup(pool_name, file.close)

    async def _send(
        self, request: web.BaseRequest, response: web.StreamResponse, file: OpenFile, part: ranges.Span, pool_name: str
    ) -> web.StreamResponse:
        """Send the head and then `part` of `file`. An error aborts the connection: the status is already sent."""
        await response.prepare(request)
        transport = request.transport
        if transport is None:
            raise ConnectionResetError
        timeout = self._limits.stalled_body
        try:
            await send_file(
                transport,
                file.descriptor,
                part.start,
                part.length,
                pools=self._pools,
                pool_name=pool_name,
                timeout=timeout,
            )
        except ConnectionError:
            raise abort(request) from None
        except DeviceHangs as error:
            log.warning("transfer_aborted", path=request.raw_path, reason=str(error))
            raise abort(request) from error
        except OSError as error:  # a TimeoutError, which is an OSError, means: the peer does not read
            log.warning("transfer_aborted", path=request.raw_path, reason=error.strerror or "the peer does not read")
            raise abort(request) from error
        return response

    # --- writing ------------------------------------------------------------------------------------------------------

    async def _put(self, request: web.BaseRequest, target: str, pool_name: str) -> web.StreamResponse:
        md5 = content_md5(request.headers.get(hdrs.CONTENT_MD5))
        coding = request.headers.get(hdrs.TRANSFER_ENCODING)
        size = body_length(request.content_length, coding, most=self._limits.upload)
        whole = whole_length(request.headers.get(hdrs.CONTENT_RANGE))
        if whole is not None and size not in (None, whole):
            raise MalformedRequest(NOT_WHOLE)
        replace = REPLACE in request.headers
        if size is not None and size <= SMALL:
            body = b"".join([chunk async for chunk in self._body(request)])
            await self._requests.stores.run(pool_name, SmallFile(target, body, md5, replace))
            return plain(200 if md5 is None else 201)
        expected = whole if size is None else size
        incoming = await self._pools.run(
            pool_name, self._devices.receive, target, size=expected, md5=md5, replace=replace
        )
        try:
            async for chunk in self._body(request):
                await self._pools.run(pool_name, incoming.write, chunk)
            await self._pools.run(pool_name, incoming.commit)
        except BaseException:
            await self._pools.clean_up(pool_name, incoming.abort)
            raise
        return plain(200 if md5 is None else 201)

    async def _assemble(self, request: web.BaseRequest, target: str, pool_name: str) -> web.StreamResponse:
        """Make a file from ranges of fids of the same device; see wire.assemble."""
        if request.headers.get(hdrs.CONTENT_TYPE, "").strip().lower() != assemble.MEDIA_TYPE:
            raise MalformedRequest
        body_length(request.content_length, request.headers.get(hdrs.TRANSFER_ENCODING), most=assemble.LARGEST)
        body = b"".join([chunk async for chunk in self._body(request, most=assemble.LARGEST)])
        try:
            wanted = assemble.parse_request(body)
        except ValueError as error:
            raise MalformedRequest(f"Malformed request to assemble a file: {error}") from error
        if total_length(wanted.ranges) > self._limits.upload:
            raise TooLarge

        def check() -> None:
            """Stop when the client is gone. One that only closed its sending half cannot be told from that."""
            if not isinstance(request.protocol, BoundedConnection) or request.protocol.has_ended:
                raise ConnectionResetError

        replace = REPLACE in request.headers
        assembly = FileAssembly(self._devices, target, wanted, replace=replace)
        if assembly.length <= SMALL:
            content = await self._pools.run(pool_name, assembly.read_whole)
            await self._requests.stores.run(pool_name, SmallFile(target, content, replace=replace))
            done = assemble.Assembled(assembly.length, assembly.checksums)
        else:
            done = await run_steps(assembly, self._pools, pool_name, check=check)
        fields = {hdrs.SERVER: SERVER, hdrs.CONTENT_TYPE: "application/json"}
        return web.Response(status=201, headers=fields, body=assemble.encode_reply(done))

    async def _body(self, request: web.BaseRequest, *, most: int | None = None) -> AsyncIterator[bytes]:
        """Yield the body as it arrives; at most `most` bytes, by default those of the longest file.

        Raises Stalled, TooLarge, MalformedRequest, ConnectionError.
        """
        await send_continue(request)
        size = 0
        while True:
            try:
                async with asyncio.timeout(self._limits.stalled_body):
                    chunk = await request.content.readany()
            except TimeoutError:
                raise Stalled from None
            except RequestPayloadError as error:
                raise MalformedRequest("The body is not chunked as it says") from error
            if not chunk:
                return
            size += len(chunk)
            if size > (self._limits.upload if most is None else most):
                raise TooLarge
            yield chunk

    async def _delete(self, request: web.BaseRequest, target: str, pool_name: str) -> web.StreamResponse:
        await self._requests.deletions.run(pool_name, target)
        return plain(204)

    async def _mkcol(self, request: web.BaseRequest, target: str, pool_name: str) -> web.StreamResponse:
        await self._pools.run(pool_name, self._devices.make_directory, target)
        return plain(201)


def _response(reply: Reply) -> web.Response:
    fields = {hdrs.SERVER: SERVER, **reply.fields}
    if reply.part is not None:
        fields[hdrs.CONTENT_LENGTH] = str(reply.part.length)
        return web.Response(status=reply.status, headers=fields)
    return web.Response(status=reply.status, headers=fields, body=reply.body)
