"""The running components of one process, as far as they are monitored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tawara.instruments import RequestMeter
from tawara.metadata import cluster
from tawara.metadata.contract import Metadata
from tawara.metadata.view import ClusterView
from tawara.monitoring.readiness import Readiness

if TYPE_CHECKING:
    from tawara.node.server import StorageNode
    from tawara.tracker.server import TrackerServer
    from tawara.workers.service import Workers

DATABASE = "database"
"""Name of the check of the database."""


@dataclass
class MonitoredComponents:
    """Filled while the components start; None or empty is what this process does not run."""

    readiness: Readiness = field(default_factory=Readiness)
    metadata: Metadata | None = None
    tracker: TrackerServer | None = None
    node: StorageNode | None = None
    workers: Workers | None = None
    gateways: dict[str, Callable[[], RequestMeter | None]] = field(default_factory=dict)
    """Protocol -> counts of its requests."""

    def add_database(self, metadata: Metadata) -> None:
        """Add the database, which must answer within a second."""
        self.metadata = metadata

        async def check() -> str:
            await metadata.read(cluster.get_setting, "schema_version")
            return ""

        self.readiness.add(DATABASE, check)

    def add_node(self, node: StorageNode) -> None:
        """Add the storage node, of which at least one device must answer."""
        self.node = node

        async def check() -> str:
            found = node.observed.values()
            return "" if any(each.usable and not each.hangs for each in found) else "no device can be used"

        self.readiness.add("devices", check)

    def add_gateway(self, protocol: str, meter: Callable[[], RequestMeter | None], view: ClusterView) -> None:
        """Add a protocol of the gateway, which needs a readable device. A full store still serves reads."""
        self.gateways[protocol] = meter

        async def check() -> str:
            current = view.current
            return "" if any(map(current.can_read_from, current.devices)) else "no device can be read"

        self.readiness.add("store", check)
