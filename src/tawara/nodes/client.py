"""Client for storage nodes: HTTP for file contents, the side channel for digests and disk utilization.

Exceptions of libraries are converted: the caller gets `NodeUnreachable` (no response, or not that of a storage node),
`NoSource` (the node replied that the file does not exist), or an error raised by the caller's own body, unchanged.
docs/mogilefs.md 8.5 and 18.
"""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from tawara.http1.small_requests import SmallRequests
from tawara.model import errors
from tawara.model.assembling import ByteRange, total_length
from tawara.model.checksums import new_hasher
from tawara.model.cluster import HashType
from tawara.model.fid import HIGHEST
from tawara.model.limits import Limits
from tawara.nodes import keepalive, side_channel
from tawara.nodes.signing import RequestSigner
from tawara.nodes.upload_body import UploadBody
from tawara.nodes.usage_report import UsageReport
from tawara.wire import assemble, identity, signatures
from tawara.wire.assemble import Assembled
from tawara.wire.head_answer import HeadAnswer
from tawara.wire.plain_request import CONFLICT, REPLACE
from tawara.wire.signatures import NodeRight, right_for, unsigned_url

_LIMITS: Final = Limits()
_USAGE_BYTES: Final = 16 * 1024
_SLOWEST_COPY: Final = 4 * 1024 * 1024
"""Bytes that a node copies and digests in a second on one device, at the least."""
_CANNOT_ASSEMBLE: Final = frozenset({400, 403, 404, 405, 411, 413, 415, 416, 501})
"""Replies of nodes that do not assemble files, do not let this client do so (wire.signatures), or lack a source."""
_REFUSED: Final = "the node answered 403 Forbidden: it needs signed requests (store.sign_urls), or the clocks differ"
_QUIET_HEADERS: Final = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class Download:
    """The body of a running GET; iterate it once to get the chunks as they arrive."""

    def __init__(self, response: aiohttp.ClientResponse, url: str, length: int, chunk: int) -> None:
        self._response = response
        self._chunk = chunk
        self.url = url
        self.status = response.status
        self.length = length
        """Length of the body in bytes: that of the range, if one was requested."""
        self.received = 0
        """Bytes received so far."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """Return the next bytes. Raises NodeUnreachable if the body ends early or stalls."""
        with _converting_errors(self.url):
            piece = await self._response.content.read(self._chunk)
        self.received += len(piece)
        if piece:
            return piece
        if self.received != self.length:
            raise errors.NodeUnreachable(f"{self.url} broke off after {self.received} of {self.length} bytes")
        raise StopAsyncIteration


class NodeClient:
    """A pool of connections to storage nodes, owned by the event loop in which it is first used.

    URLs are used unchanged (`http://host:port/devN/...`), proxies of the environment are ignored, redirects refused.
    """

    def __init__(
        self,
        *,
        connect_timeout: float = 2.0,
        answer_timeout: float = 10.0,
        stall_timeout: float = _LIMITS.stalled_body,
        connections_per_host: int = 20,
        chunk: int = _LIMITS.chunk,
        signer: RequestSigner | None = None,
    ) -> None:
        """Times are seconds: to connect, to reply to a request without a body, and for a body to stall.

        `signer` signs the requests, except those to URLs with a query, which a tracker has signed.
        """
        self._quick = aiohttp.ClientTimeout(
            total=connect_timeout + answer_timeout, sock_connect=connect_timeout, sock_read=answer_timeout
        )
        self._long = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout, sock_read=stall_timeout)
        self._download = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout, sock_read=answer_timeout)
        """Until the header of a download has arrived: a node that hangs is given up before a body that stalls."""
        self._small_requests = SmallRequests(
            connect_timeout=connect_timeout, answer_timeout=answer_timeout, connections_per_host=connections_per_host
        )
        self.signer = signer
        self._connect_timeout = connect_timeout
        self._stall_timeout = stall_timeout
        self._per_host = connections_per_host
        self._chunk = chunk
        self._pooled: aiohttp.ClientSession | None = None
        self._single: aiohttp.ClientSession | None = None
        self._closed = False
        """Whether the client's context has been exited."""

    async def __aenter__(self) -> Self:
        self._closed = False
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        await self.close()

    async def close(self) -> None:
        """Close every connection; running requests fail, except those for sizes. The client may be reused."""
        self._small_requests.close()
        sessions, self._pooled, self._single = (self._pooled, self._single), None, None
        for session in sessions:
            if session is not None:
                await session.close()

    # --- requests -----------------------------------------------------------------------------------------------------

    async def size(self, url: str) -> int | None:
        """Return the size of a file in bytes; None if it does not exist. Raises NodeUnreachable."""
        url, address = unsigned_url(url), url
        with _converting_errors(url):
            answer = await self._small_requests.head(address, self._signature(NodeRight.READ, address))
        if answer.status == 404:
            return None
        _expect(answer, url, 200)
        if answer.length is None:
            raise errors.NodeUnreachable(f"{url}: the node does not say how long the file is")
        return answer.length

    async def make_directory(self, url: str) -> bool:
        """Create a directory with MKCOL; return whether it exists now, False if not supported (400, 405, 501).

        Nodes without MKCOL create the directories on PUT (docs/mogilefs.md 18.1). Raises NodeUnreachable.
        """
        async with self._request("MKCOL", url) as answer:
            if answer.status == 405:  # RFC 4918, section 9.3.1: it exists already
                return True
            if answer.status in (400, 501):
                return False
            await _expect_permission(answer, url)
            _expect(answer, url, *range(200, 300))
            return True

    async def put(
        self,
        url: str,
        body: bytes | AsyncIterable[bytes],
        *,
        length: int | None,
        md5: bytes | None = None,
        replace: bool = False,
    ) -> None:
        """Store a file. With `length` None the body is sent chunked; `md5` is a digest for the node to verify.

        When this returns, the node has confirmed that the file is stored. A Tawara node that holds other content under
        the fid refuses unless `replace` is set. Raises FidConflict for that, ChecksumMismatch if the node rejects the
        digest, SizeMismatch if the body's length is not `length`, NodeUnreachable for every other failure of the node,
        and the errors of iterating `body`. An iterable cannot be sent twice, so it gets a new connection, which the
        node cannot have closed meanwhile.
        """
        url, address = unsigned_url(url), url
        payload = UploadBody(body, length, self._stall_timeout, self._chunk)
        headers = {"Content-Length": str(length)} if length is not None else {}
        headers |= self._signature(NodeRight.REPLACE if replace else NodeRight.WRITE, address)
        if md5 is not None:
            headers["Content-MD5"] = base64.b64encode(md5).decode()
        if replace:
            headers[REPLACE] = "yes"
        session = self._session() if isinstance(body, bytes) else self._session(single=True)
        try:
            with _converting_errors(url):
                answer = await session.put(
                    URL(address, encoded=True), data=payload, headers=headers, timeout=self._long, allow_redirects=False
                )
        except errors.NodeUnreachable as error:
            if payload.failure is not None:
                raise payload.failure from None
            error.nothing_sent = error.nothing_sent and not payload.begun  # may be sent on an idle connection first
            raise
        try:
            if answer.status == 400 and md5 is not None:
                raise errors.ChecksumMismatch(f"{url}: the node received other bytes than were sent")
            if answer.status == 409 and CONFLICT in answer.headers:
                raise errors.FidConflict(f"{url}: the storage node holds other content under this fid")
            await _expect_permission(answer, url)
            _expect(answer, url, *range(200, 300))
            if not payload.complete:
                raise errors.NodeUnreachable(f"{url}: the node answered before it had the whole body")
            with _converting_errors(url):
                await answer.read()
        except BaseException:
            answer.close()  # the rest of the body must not be sent, nor this connection be reused
            raise
        answer.release()

    async def assemble(
        self, url: str, ranges: Sequence[ByteRange], checksums: Sequence[HashType] = (), *, replace: bool = False
    ) -> Assembled:
        """Make a file from ranges of fids on the same device; return the requested checksums of its bytes.

        When this returns, the node has confirmed that the file is stored. Raises CannotAssemble if the node does not
        support this or lacks a source, and as `put` does.
        """
        url, address = unsigned_url(url), url
        headers = {"Content-Type": assemble.MEDIA_TYPE} | ({REPLACE: "yes"} if replace else {})
        headers |= self._signature(NodeRight.ASSEMBLE, address)
        # The node sends nothing while it works, on some file systems for as long as copying takes.
        silence = self._stall_timeout + total_length(ranges) / _SLOWEST_COPY
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._connect_timeout, sock_read=silence)
        with _converting_errors(url):
            answer = await self._session(single=True).post(  # which the node cannot have closed meanwhile
                URL(address, encoded=True),
                data=assemble.encode_request(ranges, checksums),
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
            )
        async with answer:
            if answer.status == 409 and CONFLICT in answer.headers:
                raise errors.FidConflict(f"{url}: the storage node holds other content under this fid")
            if answer.status in _CANNOT_ASSEMBLE:
                raise errors.CannotAssemble(f"{url}: the node answered {answer.status} to the request to assemble it")
            _expect(answer, url, 201)
            with _converting_errors(url):
                done = assemble.parse_reply(await answer.content.read(_USAGE_BYTES))
        if done is None or done.length != total_length(ranges) or len(done.checksums) != len(checksums):
            raise errors.NodeUnreachable(f"{url}: the node does not say what it assembled")
        return done

    @asynccontextmanager
    async def get(self, url: str, *, byte_range: tuple[int, int | None] | None = None) -> AsyncIterator[Download]:
        """Read a file, or a range from first to last byte, both included; last None means the end of the file.

        Raises NoSource if it does not exist, NodeUnreachable for all other failures, also during the body.
        """
        url, address = unsigned_url(url), url
        headers = {}
        if byte_range is not None and byte_range != (0, None):
            first, last = byte_range
            headers["Range"] = f"bytes={first}-{'' if last is None else last}"
        fields = headers | self._signature(NodeRight.READ, address)
        with _converting_errors(url):
            answer = await self._session().get(
                URL(address, encoded=True), headers=fields, timeout=self._download, allow_redirects=False
            )
        if answer.connection is not None and (protocol := answer.connection.protocol) is not None:
            protocol.read_timeout = self._stall_timeout
            protocol.start_timeout()
        try:
            if answer.status == 404:
                raise errors.NoSource(f"{url} is not there")
            await _expect_permission(answer, url)
            _expect(answer, url, 206 if headers else 200)
            if headers and not answer.headers.get("Content-Range", "").startswith(f"bytes {first}-"):
                raise errors.NodeUnreachable(f"{url}: the node sent another range than was asked for")
            yield Download(answer, url, _length(answer, url), self._chunk)
        finally:
            answer.release() if answer.content.at_eof() else answer.close()

    async def read(self, url: str, *, limit: int) -> bytes:
        """Read a small file. Raises NoSource, NodeUnreachable, the latter also for more than `limit` bytes."""
        with _converting_errors(url):
            async with asyncio.timeout(self._quick.total), self.get(url) as download:
                if download.length > limit:
                    raise errors.NodeUnreachable(f"{url} has {download.length} bytes, which is too much")
                return b"".join([piece async for piece in download])

    async def read_small(self, url: str) -> bytes:
        """Read the first bytes of a small file, at low cost. Raises NoSource, NodeUnreachable."""
        status, body = await self._small(url)
        if status == 404:
            raise errors.NoSource(f"{url} is not there")
        if status != 200:
            raise errors.NodeUnreachable(f"{url}: the node answers {status}")
        return body

    async def delete(self, url: str) -> bool:
        """Delete a file; False if it did not exist. Raises NodeUnreachable for any status but 2xx and 404."""
        async with self._request("DELETE", url) as answer:
            if answer.status == 404:
                return False
            await _expect_permission(answer, url)
            _expect(answer, url, 200, 202, 204)
            return True

    async def usage(self, url: str) -> UsageReport:
        """Read the device's usage file. Raises NoSource, NodeUnreachable, the latter also if it is malformed."""
        status, text = await self._small(url)
        if status == 404:
            raise errors.NoSource(f"{url} is not there")
        if status == 503 and text.strip():  # a Tawara node gives the reason
            raise errors.NodeUnreachable(text.decode(errors="replace").strip()[:200])
        if status != 200:
            raise errors.NodeUnreachable(f"{url}: the node answers {status}")
        usage = UsageReport.parse(text)
        if usage is None:
            raise errors.NodeUnreachable(f"{url} does not say how much is used and how much there is")
        return usage

    async def _small(self, url: str) -> tuple[int, bytes]:
        """Return status and body of a small file, up to `_USAGE_BYTES`. Raises NodeUnreachable."""
        with _converting_errors(url):
            try:
                answer = await self._small_requests.get(url, self._signature(NodeRight.READ, url))
            except ValueError:  # a reply that needs the complete HTTP client
                pass
            else:
                return answer.status, answer.body[:_USAGE_BYTES]
        async with self._request("GET", url) as response:
            with _converting_errors(url):
                return response.status, await response.content.read(_USAGE_BYTES)

    async def identity(self, url: str) -> str | None:
        """Read the id in a device's identity file; None without one. Raises NodeUnreachable."""
        try:
            shown = identity.parse(await self.read(url, limit=_USAGE_BYTES))
        except errors.NoSource:
            return None
        return shown.id if shown else None

    # --- digests and utilization --------------------------------------------------------------------------------------

    async def digest(
        self, url: str, hashtype: HashType, *, side_channel_port: int | None = None, reason: str = ""
    ) -> bytes | None:
        """Return the digest of a file; None if it does not exist.

        Raises NodeUnreachable, and ReadFailed if the node reports on its side channel that it cannot read the file.

        A node with a side channel computes the digest (`reason`, such as `fsck`, lets it choose its rate); otherwise
        the file is downloaded and hashed in threads.
        """
        if side_channel_port is not None:
            place = URL(url, encoded=True)
            try:
                return await side_channel.digest(
                    place.host or "", side_channel_port, place.raw_path, hashtype, reason, self._connect_timeout
                )
            except errors.NodeUnreachable:
                # the side channel is optional (docs/mogilefs.md 18.3); the GET shows whether the node is reachable
                pass
        hasher = new_hasher(hashtype)
        try:
            async with self.get(url) as download:
                async for piece in download:
                    await asyncio.to_thread(hasher.update, piece)
        except errors.NoSource:
            return None
        return hasher.digest()

    async def sizes(self, urls: Sequence[str], side_channel_port: int) -> list[int | None]:
        """Return the sizes of many files of one node in bytes, using its side channel; None for a missing file.

        Raises NodeUnreachable, also if the node has no side channel.
        """
        places = [URL(url, encoded=True) for url in urls]
        return await side_channel.sizes(
            places[0].host or "",
            side_channel_port,
            [place.raw_path for place in places],
            self._connect_timeout,
            self._quick.sock_read or self._connect_timeout,
        )

    def watch(self, host: str, port: int) -> AsyncIterator[Mapping[int, float | None]]:
        """Yield the utilization of a node's disks in percent by devid, about once a second; None if unknown.

        Raises NodeUnreachable if the node has no side channel, or if it ends or stops sending.
        """
        return side_channel.watch(host, port, self._connect_timeout, self._stall_timeout)

    # --- the sessions -------------------------------------------------------------------------------------------------

    def _session(self, *, single: bool = False) -> aiohttp.ClientSession:
        """Return the session with pooled connections, or the one with a connection per request."""
        if self._closed:  # a session made after close() would never be closed
            raise errors.NodeUnreachable("the connections to storage nodes are closed")
        session = self._single if single else self._pooled
        if session is None:
            session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0, limit_per_host=self._per_host, force_close=single, socket_factory=_socket
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                skip_auto_headers=_QUIET_HEADERS,
                read_bufsize=self._chunk,
            )
            if single:
                self._single = session
            else:
                self._pooled = session
        return session

    def _signature(self, right: NodeRight, url: str) -> dict[str, str]:
        """Return the header field that signs a request to `url`; nothing without a signer, or if the URL is signed."""
        if self.signer is None or "?" in url:
            return {}
        return {signatures.FIELD: self.signer.field(right, urlsplit(url).path)}

    @asynccontextmanager
    async def _request(self, method: str, url: str) -> AsyncIterator[aiohttp.ClientResponse]:
        with _converting_errors(url):
            right = right_for(method, replace=False)
            assert right is not None
            fields = self._signature(right, url)
            answer = await self._session().request(
                method, URL(url, encoded=True), headers=fields, timeout=self._quick, allow_redirects=False
            )
        async with answer:
            yield answer


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """Create a socket with keepalive for aiohttp, which sets TCP_NODELAY itself."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    keepalive.enable(made)
    return made


async def _expect_permission(answer: aiohttp.ClientResponse, url: str) -> None:
    """Raise NodeUnreachable with the node's reason if it answered 403."""
    if answer.status == 403:
        with _converting_errors(url):
            reason = (await answer.content.read(_USAGE_BYTES)).decode(errors="replace").strip()[:200]
        raise errors.NodeUnreachable(f"{url}: {_REFUSED}: {reason}" if reason else f"{url}: {_REFUSED}")


def _expect(answer: aiohttp.ClientResponse | HeadAnswer, url: str, *wanted: int) -> None:
    if answer.status == 403:
        raise errors.NodeUnreachable(f"{url}: {_REFUSED}")
    if answer.status not in wanted:
        kind = errors.NodeFull if answer.status == 507 else errors.NodeUnreachable
        raise kind(f"{url}: the node answered {answer.status} {(answer.reason or '')[:80]}".rstrip())


def _length(answer: aiohttp.ClientResponse, url: str) -> int:
    text = answer.headers.get("Content-Length", "")
    if not (text.isascii() and text.isdigit()):
        raise errors.NodeUnreachable(f"{url}: the node does not say how long the file is")
    if int(text) > HIGHEST:
        raise errors.NodeUnreachable(f"{url}: the node says that the file has {text[:30]} bytes")
    return int(text)


@contextmanager
def _converting_errors(url: str) -> Iterator[None]:
    """Convert exceptions of aiohttp and the system to NodeUnreachable."""
    try:
        yield
    except (aiohttp.ClientError, aiohttp.http.HttpProcessingError, OSError, ValueError) as error:
        reason = "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        failure = errors.NodeUnreachable(f"{url}: {reason}")
        failure.nothing_sent = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
        raise failure from error
