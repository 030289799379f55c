"""The load on trackers: processes that do nothing but epoll, recv and send on plain sockets, for `tracker`."""

from __future__ import annotations

import select
import socket
import time
from multiprocessing.connection import Connection as Pipe
from random import Random
from typing import NamedTuple, TypeAlias

from tawara.wire.line import AcceptedRequest, Args, decode_reply, encode_request

KEYS = 10_000
"""As many there are from the start."""
BODY = b"x" * 1024
PORTS: TypeAlias = tuple[int, int]
"""Of the trackers and of the storage node, on the loopback."""


def key_number(number: int) -> bytes:
    """One of the keys that are there."""
    return b"photos/2026/%06d.jpg" % number


class Peer:
    """One client connection, which always has one request under way."""

    def __init__(self, ports: PORTS, rng: Random) -> None:
        self.tracker = connect(ports[0])
        self.rng = rng
        self.begun = 0.0
        self._rest = b""

    def begin(self) -> socket.socket:
        """Send the next request; the socket on which to expect the answer."""
        self.begun = time.perf_counter()
        self.tracker.send(self.request())
        return self.tracker

    def request(self) -> bytes:
        """The next request."""
        raise NotImplementedError

    def receive(self) -> socket.socket | None:
        """There is something to read: the socket on which to go on, or None when the answer is whole."""
        data = self._rest + self.tracker.recv(262144)
        if not data.endswith(b"\n"):
            self._rest = data
            return self.tracker
        self._rest = b""
        if not data.startswith(b"OK "):
            raise RuntimeError(data.decode())
        return None


def connect(port: int) -> socket.socket:
    """A connection that sends at once."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


class Noop(Peer):
    """Nothing."""

    def request(self) -> bytes:
        """See Peer."""
        return b"noop\n"


class GetPaths(Peer):
    """A random key, not verified."""

    def request(self) -> bytes:
        """See Peer."""
        return b"get_paths domain=d&noverify=1&key=%s\n" % key_number(int(self.rng.random() * KEYS))


class ListKeys(Peer):
    """A hundred keys from a random place."""

    def request(self) -> bytes:
        """See Peer."""
        return b"list_keys domain=d&prefix=photos/&limit=100&after=%s\n" % key_number(
            int(self.rng.random() * (KEYS - 200))
        )


class Create(Peer):
    """A new key of 1 KiB: create_open, PUT, create_close."""

    def __init__(self, ports: PORTS, rng: Random) -> None:
        super().__init__(ports, rng)
        self._node = connect(ports[1])
        self._step = 0
        self._opened: dict[str, bytes] = {}
        self._name = b""

    def request(self) -> bytes:
        """See Peer."""
        self._step = 0
        self._name = b"new/%d" % self.rng.getrandbits(60)
        return encode_request("create_open", {"domain": "d", "key": self._name})

    def receive(self) -> socket.socket | None:
        """See Peer."""
        if self._step == 0:
            reply = decode_reply(self.tracker.recv(65536).strip())
            assert isinstance(reply, AcceptedRequest), reply
            self._opened = dict(reply.args)
            path = self._opened["path"].split(b"/", 3)[3]
            self._node.sendall(
                b"PUT /%s HTTP/1.1\r\nHost: node\r\nContent-Length: %d\r\n\r\n%s" % (path, len(BODY), BODY)
            )
            self._step = 1
            return self._node
        if self._step == 1:
            answer = self._node.recv(65536)
            if b" 200 " not in answer[:16] and b" 201 " not in answer[:16]:
                raise RuntimeError(answer.decode())
            close: Args = {**self._opened, "domain": "d", "key": self._name, "size": len(BODY)}
            self.tracker.send(encode_request("create_close", close))
            self._step = 2
            return self.tracker
        return super().receive()


LOADS: dict[str, type[Peer]] = {"noop": Noop, "get_paths": GetPaths, "list_keys": ListKeys, "create": Create}


class Found(NamedTuple):
    """What a generator saw."""

    latencies: list[float]
    """Seconds, of each request that was begun in the measured time, however long it took."""
    done: int
    """Requests that were answered in the measured time."""
    total: int
    """Requests that were answered at all."""
    busy: float
    """Share of a core that the generator itself needed."""


def generate(load: str, ports: PORTS, connections: int, seconds: float, seed: int, result: Pipe) -> None:
    """Keep `connections` busy for some time after warming up, wait for the last answers, send what was Found."""
    rng = Random(seed)
    epoll = select.epoll()
    peers: dict[int, Peer] = {}

    def expect(peer: Peer, on: socket.socket) -> None:
        if on.fileno() not in peers:
            epoll.register(on.fileno(), select.EPOLLIN)
            peers[on.fileno()] = peer

    for _ in range(connections):
        peer = LOADS[load](ports, rng)
        expect(peer, peer.begin())
    start = time.perf_counter() + min(1.0, seconds / 4)
    end = start + seconds
    busy, used = 0.0, 0.0
    latencies: list[float] = []
    done = total = 0
    under_way = connections
    while under_way:
        for descriptor, _ in epoll.poll():
            peer = peers[descriptor]
            on = peer.receive()
            if on is None:
                now = time.perf_counter()
                total += 1
                if now >= start:
                    busy = busy or time.process_time()
                    done += now < end
                    used = time.process_time() if now < end else used
                if start <= peer.begun < end:
                    latencies.append(now - peer.begun)
                if now >= end:
                    under_way -= 1
                    continue
                on = peer.begin()
            expect(peer, on)
    result.send(Found(latencies, done, total, (used - busy) / seconds))
