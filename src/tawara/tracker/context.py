"""The arguments of every verb: the tracker's components, and the request."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol, TypeAlias

from tawara.metadata.contract import Metadata
from tawara.metadata.counting import Counter
from tawara.metadata.view import ClusterView
from tawara.metadata.wakeups import Wakeups
from tawara.model import errors
from tawara.model.cluster import Cluster, Domain, HashType
from tawara.model.limits import KEY_BYTES
from tawara.model.reserved_keys import NOT_YOURS, is_reserved
from tawara.nodes.signing import RequestSigner
from tawara.store.replica_locator import ReplicaLocator
from tawara.store.service import FileStore
from tawara.tracker.directories import Directories
from tawara.wire.line import Args
from tawara.wire.signatures import NodeRight


class Nodes(Protocol):
    """Access to storage nodes; `tawara.nodes.client.NodeClient` is one. All methods raise NodeUnreachable."""

    async def size(self, url: str) -> int | None:
        """Return the length of the file at `url` in bytes, None if it does not exist."""
        ...

    async def make_directory(self, url: str) -> bool:
        """Create a directory by MKCOL; return False if the node does not support that."""
        ...

    async def digest(self, url: str, hashtype: HashType, *, side_channel_port: int | None = None) -> bytes | None:
        """Return the digest of the file at `url`, None if it does not exist."""
        ...


@dataclass(slots=True)
class TrackerContext:
    """The components of one tracker. All state except caches is in the database."""

    metadata: Metadata
    view: ClusterView
    nodes: Nodes
    wakeups: Wakeups
    side_channel_port: int | None = 7501
    """Port on which storage nodes compute digests; None if they have no side channel."""
    signer: RequestSigner | None = None
    """Signs the URLs that clients get; None if storage nodes require no signatures."""
    beside_mogilefsd: bool = False
    """Whether a mogilefsd uses the same database, so that nothing may be stored that it cannot read."""
    rng: Random = field(default_factory=Random)
    directories: Directories = field(default_factory=Directories)
    counter: Counter = field(init=False)
    store: FileStore = field(init=False)
    locator: ReplicaLocator = field(init=False)

    def __post_init__(self) -> None:
        self.counter = Counter(self.metadata, lambda: self.cluster)
        self.store = FileStore(self.metadata, self.view, self.wakeups, self.rng)
        self.locator = ReplicaLocator(self.view, self.nodes, self.rng)

    def client_url(self, url: str | None, right: NodeRight) -> str | None:
        """Return a URL for a client, signed if storage nodes require that."""
        return url if url is None or self.signer is None else self.signer.url(right, url)

    async def now(self) -> int:
        """Return the database's time in unix seconds; this rarely needs a query."""
        return await self.metadata.clock.seconds()

    @property
    def cluster(self) -> Cluster:
        """The cluster as this process currently knows it."""
        return self.view.current


LARGEST = 2**63 - 1
"""Largest fid and size: the maximum of a signed 64-bit column."""
_NUMBER = re.compile(rb"\s*([+-]?\d{1,30})", re.ASCII)


class TrackerRequest:
    """One request: its arguments, parsed as MogileFS does, and the address of the client."""

    __slots__ = ("args", "client_ip")

    def __init__(self, args: Mapping[str, bytes], client_ip: str | None = None) -> None:
        self.args = args
        self.client_ip = client_ip

    def raw(self, name: str) -> bytes:
        """Return an argument as received; empty if absent."""
        return self.args.get(name, b"")

    def text(self, name: str) -> str:
        """Return an argument as text; invalid UTF-8 becomes surrogates, which no name in the database contains."""
        return self.args.get(name, b"").decode("utf-8", "surrogateescape")

    def flag(self, name: str) -> bool:
        """Return whether an argument is present and neither empty nor 0."""
        return self.args.get(name, b"") not in (b"", b"0")

    def number(self, name: str) -> int | None:
        """Return an argument's leading digits as a number, as Perl does; None if absent or not a number."""
        match = _NUMBER.match(self.args.get(name, b""))
        return int(match[1]) if match else None

    def bounded(self, name: str, most: int = LARGEST) -> int:
        """Return an argument as a number, clamped to 0 to `most`; 0 if absent."""
        return min(max(0, self.number(name) or 0), most)

    def identifier(self, name: str, most: int = LARGEST) -> int:
        """Return the number of a device or file; 0, which none has, if the argument is absent or out of range."""
        number = self.number(name) or 0
        return number if 0 < number <= most else 0

    @property
    def alternative(self) -> bool:
        """Whether the client asks for the hosts' alternative addresses."""
        return self.args.get("zone") == b"alt"

    def has_known_names(self, cluster: Cluster) -> bool:
        """Return whether `cluster` has the domain and the class of the request, as far as it names them."""
        name = self.args.get("domain")
        if not name:
            return True
        domain = cluster.domains_by_encoded_name.get(name)
        return domain is not None and ("class" not in self.args or domain.class_named(self.text("class")) is not None)

    def domain(self, cluster: Cluster) -> Domain:
        """Return the domain of the request. Raises NoDomain, UnregDomain."""
        raw = self.args.get("domain")
        if not raw:
            raise errors.NoDomain
        domain = cluster.domains_by_encoded_name.get(raw)
        if domain is None:
            raise errors.UnregDomain
        return domain

    def name(self, argument: str, missing: type[errors.TawaraError]) -> str:
        """Return a mandatory name, which need not be valid for storing. Raises `missing`, InvalidName."""
        raw = self.args.get(argument, b"")
        if raw in (b"", b"0"):
            raise missing
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise errors.InvalidName(f"{argument} must be UTF-8") from None

    def new_name(self, argument: str, missing: type[errors.TawaraError], most: int) -> str:
        """Return a mandatory name to be stored, of at most `most` bytes. Raises `missing`, InvalidName."""
        name = self.name(argument, missing)
        if len(name.encode()) > most:
            raise errors.InvalidName(f"{argument} has at most {most} bytes")
        if not name.isprintable():
            raise errors.InvalidName(f"{argument} must be printable")
        return name

    def key(self, name: str = "key") -> bytes:
        """Return a mandatory key. Raises NoKey; UnknownKey for a reserved one, which users cannot see."""
        key = self.args.get(name)
        if not key:
            raise errors.NoKey
        if is_reserved(key):
            raise errors.UnknownKey
        return key

    def new_key(self, name: str = "key") -> bytes:
        """Return a key to be stored; empty if absent. Raises InvalidKey when it is too long or reserved."""
        key = self.args.get(name, b"")
        if len(key) > KEY_BYTES:
            raise errors.InvalidKey(f"A key has at most {KEY_BYTES} bytes")
        if is_reserved(key):
            raise errors.InvalidKey(NOT_YOURS)
        return key


Verb: TypeAlias = Callable[[TrackerContext, TrackerRequest], Coroutine[Any, Any, Args]]
"""Function of a verb: processes a request, returns the reply's arguments, raises errors of the model."""
