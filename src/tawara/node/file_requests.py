"""The storage node's handler of plain requests: small PUT, DELETE, MKCOL, HEAD and GET, batched per device.

An application's file is usually a PUT of some KiB and a HEAD. The complete server in `http` gives the same replies;
tests/acceptance/test_node_http.py runs on both.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from tawara.disks import deletions, paths, reading, small_files
from tawara.disks.devices import Devices
from tawara.disks.pools import DevicePools, PoolBatcher
from tawara.disks.reading import SMALL, FileRequest, OpenedFile
from tawara.disks.sending import send_file
from tawara.disks.small_files import SmallFile
from tawara.http1.fast_path import FastPathConnection
from tawara.http1.reply import Reply, content_md5
from tawara.model.limits import Limits
from tawara.node import replies
from tawara.node.signatures import SignatureCheck
from tawara.wire.plain_request import REPLACE, NotPlain, PlainRequest
from tawara.wire.signatures import FIELD

_REPLACE: Final = REPLACE.lower().encode()
_SIGNATURE: Final = FIELD.lower().encode()
_BATCH: Final = 64
"""Most files that one thread stores or deletes at a time."""
_READS: Final = 16
"""Most files that one thread opens at a time."""


class FileRequests:
    """Answers plain requests for the files of `devices` (see http1.fast_path.Handler)."""

    def __init__(
        self, devices: Devices, pools: DevicePools, limits: Limits, signatures: SignatureCheck | None = None
    ) -> None:
        """Needs a running event loop. `signatures` None: no request needs one."""
        self._signatures = signatures
        self._devices, self._pools, self._limits = devices, pools, limits
        # Two batches at a time: one prepares while the other waits for the disk. With one, 32 clients stored half as
        # many files on a disk that was busy otherwise; four gave no more than two (measured).
        self.stores = PoolBatcher(pools, partial(small_files.store, devices), width=2, most=_BATCH)
        self.deletions = PoolBatcher(pools, partial(deletions.delete, devices), width=2, most=_BATCH)
        # Uncached reads keep a disk busy only when it has several of them at once.
        self._reads = PoolBatcher(pools, partial(reading.open_files, devices), width=6, most=_READS)

    def accept(self, request: PlainRequest) -> PlainRequest:
        """Return `request` with its canonical path.

        Raises NotPlain for a large body or a device not seen so far, BadSignature.
        """
        target = paths.canonical(request.target)
        if target is not request.target:
            request = request._replace(target=target)
        if request.length > SMALL or not self._pools.knows(paths.parse(target).device):
            raise NotPlain
        if self._signatures is not None:
            self._signatures.check(
                request.method,
                target,
                field=request.field(_SIGNATURE),
                query=request.query,
                replace=_REPLACE in request.fields,
            )
        return request

    def handle(self, connection: FastPathConnection, request: PlainRequest, body: bytes) -> None:
        """See http1.fast_path.Handler."""
        pool_name = paths.parse(request.target).device
        match request.method:
            case "PUT":
                md5 = content_md5(request.field(b"content-md5"))
                reply = Reply(200 if md5 is None else 201)
                file = SmallFile(request.target, body, md5, request.field(_REPLACE) is not None)
                self.stores.add(pool_name, file, partial(_reply_done, connection, request, reply))
            case "DELETE":
                done = partial(_reply_done, connection, request, Reply(204))
                self.deletions.add(pool_name, request.target, done)
            case "MKCOL":
                connection.reply_from(request, self._make_directory(request, pool_name))
            case _:
                wanted = FileRequest(request.target, request.method == "GET")
                self._reads.add(pool_name, wanted, partial(self._reply_file, connection, request, pool_name))

    def refusal(self, error: Exception, request: PlainRequest) -> Reply:
        """See http1.fast_path.Handler."""
        return replies.refusal(error, request.method, request.target)

    async def _make_directory(self, request: PlainRequest, pool_name: str) -> Reply:
        await self._pools.run(pool_name, self._devices.make_directory, request.target)
        return Reply(201)

    def _reply_file(
        self, connection: FastPathConnection, request: PlainRequest, pool_name: str, found: OpenedFile | Exception
    ) -> None:
        if isinstance(found, Exception):
            connection.refuse(request, found)
            return
        field, file = request.field, found.file
        reply = replies.of_file(
            found, wanted=field(b"range"), if_range=field(b"if-range"), if_modified_since=field(b"if-modified-since")
        )
        close = partial(self._pools.submit_cleanup, pool_name, file.close)
        if reply.part is None or request.method == "HEAD" or not reply.part.length:
            if not file.closed:
                close()
            connection.reply(request, reply)
            return
        send = partial(
            send_file, file=file.descriptor, offset=reply.part.start, count=reply.part.length,
            pools=self._pools, pool_name=pool_name, timeout=self._limits.stalled_body,
        )  # fmt: skip
        connection.reply_streaming(request, reply, send, close)


def _reply_done(connection: FastPathConnection, request: PlainRequest, reply: Reply, result: Exception | None) -> None:
    if result is None:
        connection.reply(request, reply)
    else:
        connection.refuse(request, result)
