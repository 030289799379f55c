"""The cluster of a probe: a database, five storage nodes and two trackers, each on its own machine. | machine | half |
runs | |---|---|---| | `db` | east | PostgreSQL or MariaDB (SQLite: a file that the trackers' machines share) | | `n1` …
`n5` | n1 to n3 east | a storage node with two devices, 2i-1 and 2i, each with its own file system | | `t1`, `t2` | t1
east | a tracker in two processes, workers, a gateway behind nginx |"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from tawara.client import AsyncClient
from tawara.metadata.contract import Metadata
from tawara.metadata.open import open_metadata
from tawara.model import fid as fids
from tawara.model.cluster import HashType, HostState
from tests.acceptance.daemons import Daemon, alive
from tests.contract.servers import PASSWORD, Listen, MariaServer, PostgresServer, Server
from tests.probe.cluster import isolation
from tests.probe.cluster.network import Loopback, Namespaces, Network

DOMAIN = "d"
SECRET = "a key for the probes only"
NODES = 5
DEVICES = 2
DEVICE_BYTES = 512 * 2**20
TRACKER_PORT, NODE_PORT, SIDE_PORT, GATEWAY_PORT, DATABASE_PORT = 27001, 27500, 27501, 27080, 27432
PRESUME_DEAD = 30
"""Seconds after which an absent device's files are copied elsewhere; longer than any fault that is healed but one."""
COPIES = {"": 2, "three": 3}
"""Class -> copies, on as many hosts. The class `three` keeps checksums as well."""


@dataclass
class Machines:
    """The parts of the cluster, in which faults are caused."""

    directory: Path
    engine: str
    network: Network
    addresses: dict[str, str] = field(default_factory=dict)
    daemons: dict[str, Daemon] = field(default_factory=dict)
    server: Server | None = None
    """The database's server; SQLite has none."""
    database: str = ""
    metadata: Metadata | None = None
    """The runner's own way to the rows, around all trackers."""

    @property
    def trackers(self) -> str:
        """The trackers' addresses as clients take them."""
        return ",".join(f"{self.addresses[name]}:{TRACKER_PORT}" for name in ("t1", "t2"))

    @property
    def gateways(self) -> list[str]:
        """The gateways' addresses."""
        return [f"{self.addresses[name]}:{GATEWAY_PORT}" for name in ("t1", "t2")]

    @property
    def rows(self) -> Metadata:
        """The database, once it is open."""
        assert self.metadata is not None
        return self.metadata

    def client(self) -> AsyncClient:
        """A client of both trackers with short timeouts."""
        return AsyncClient(self.trackers, connect_timeout=1, reply_timeout=8, stall_timeout=8)

    @staticmethod
    def devids(node: int) -> range:
        """The devices of a storage node."""
        return range((node - 1) * DEVICES + 1, node * DEVICES + 1)

    @staticmethod
    def node_of(devid: int) -> int:
        """The storage node that has a device."""
        return (devid - 1) // DEVICES + 1

    def device(self, devid: int) -> Path:
        """A device's directory."""
        return self.directory / f"n{self.node_of(devid)}" / f"dev{devid}"

    def path(self, devid: int, fid: int) -> Path:
        """The path of a replica, existing or not."""
        return self.device(devid) / fids.relative_path(fid)

    @property
    def devices(self) -> Iterable[int]:
        """All devices."""
        return range(1, NODES * DEVICES + 1)

    # --- starting -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start everything, and create hosts and devices by a tracker, as an operator does."""
        for machine in ("db", "n1", "n2", "n3", "t1"):
            self.addresses[machine] = self.network.add(machine)
        for machine in ("n4", "n5", "t2"):
            self.addresses[machine] = self.network.add(machine, west=True)
        await asyncio.to_thread(self._start_database)
        self._configure()
        await asyncio.to_thread(self.daemons["tracker1"].start)  # makes the tables
        others = [name for name in self.daemons if name != "tracker1" and not name.startswith("workers")]
        await self.start_daemons(*others)
        await self._describe()
        await self.start_daemons("workers1", "workers2")
        self.metadata = await open_metadata(self.database)

    async def start_daemons(self, *names: str, environment: dict[str, str] | None = None) -> None:
        """Start some daemons at once, and wait until all are ready."""
        starts = [asyncio.to_thread(self.daemons[name].start, environment) for name in names]
        await asyncio.gather(*starts)

    def _start_database(self) -> None:
        if self.engine == "sqlite":
            self.database = f"sqlite://{self.directory}/tawara.db"
            return
        os.environ["TAWARA_DB_PASSWORD"] = PASSWORD
        listen = Listen(self.addresses["db"], DATABASE_PORT, self.network.peers, self.network.within("db"))
        place = self.directory / "db"
        place.mkdir(mode=0o755)
        self.server = (PostgresServer if self.engine == "postgresql" else MariaServer)(place, listen)
        self.database = self.server.create("probe")

    def _configure(self) -> None:
        (self.directory / "secret.key").write_text(SECRET)
        for number in range(1, NODES + 1):
            for devid in self.devids(number):
                self.device(devid).mkdir(parents=True)
                if isolation.isolated():
                    isolation.mount(self.device(devid), f"size={DEVICE_BYTES}")
            self._add(f"n{number}", "node", f"node{number}", devices=f"../n{number}")
        for number in (1, 2):
            machine = f"t{number}"
            self._add(machine, "tracker", f"tracker{number}", "--processes=2")
            self._add(machine, "workers", f"workers{number}")
            self._add(machine, "gateway", f"gateway{number}")

    def _add(self, machine: str, room: str, name: str, *arguments: str, devices: str = "devices") -> None:
        home = self.directory / f"home-{machine}"  # the gateway's nginx needs its own
        home.mkdir(exist_ok=True)
        ip = self.addresses[machine]
        (home / "tawara.toml").write_text(
            f"[store]\ndatabase = {json.dumps(self.database)}\nmin_free_mb = 16\n"
            f"[care]\npresume_dead = {PRESUME_DEAD}\n"
            f'[tracker]\nlisten = "{ip}:{TRACKER_PORT}"\n'
            f'[node]\nlisten = "{ip}:{NODE_PORT}"\nside_channel = "{ip}:{SIDE_PORT}"\ndevices = "{devices}"\n'
            f'[gateway]\nlisten = "{ip}:{GATEWAY_PORT}"\nkey_file = "../secret.key"\n'
        )
        self.daemons[name] = Daemon(name, [room, *arguments], home, within=self.network.within(machine))

    async def _describe(self) -> None:
        async with self.client() as client:
            await client.create_domain(DOMAIN)
            await client.create_class(DOMAIN, "three", mindevcount=COPIES["three"], hashtype=HashType.MD5)
            for number in range(1, NODES + 1):
                ip = self.addresses[f"n{number}"]
                await client.create_host(f"n{number}", ip=ip, port=NODE_PORT, state=HostState.ALIVE)
                for devid in self.devids(number):
                    await client.create_device(devid, host=f"n{number}")
            async with asyncio.timeout(60):
                while not all(device.observed == "writeable" for device in await client.devices()):
                    await client.clear_cache()
                    await asyncio.sleep(0.2)
        async with asyncio.timeout(60), aiohttp.ClientSession(headers={"Authorization": f"Bearer {SECRET}"}) as http:
            for gateway in self.gateways:
                while (await http.get(f"http://{gateway}/{DOMAIN}/?limit=1")).status != 200:
                    await asyncio.sleep(0.2)

    # --- hurting ------------------------------------------------------------------------------------------------------

    def family(self, name: str) -> list[int]:
        """The processes of a daemon, the main process first."""
        daemon = self.daemons[name]
        found = [daemon.pid]
        for pid in found:
            children = Path(f"/proc/{pid}/task/{pid}/children")
            found += [int(each) for each in children.read_text().split()] if children.exists() else []
        return found

    def signal(self, name: str, number: signal.Signals) -> None:
        """Signal all processes of a daemon."""
        for pid in self.family(name):
            if alive(pid):
                os.kill(pid, number)

    def kill(self, *names: str) -> None:
        """SIGKILL to the main process of each daemon; the others have to notice by themselves."""
        for name in names:
            self.daemons[name].kill()

    def lose_power(self, *names: str) -> None:
        """SIGKILL to all processes of these daemons."""
        families = {name: self.family(name) for name in names}
        for family in families.values():
            for pid in family:
                if alive(pid):
                    os.kill(pid, signal.SIGKILL)
        for name in names:
            self.daemons[name].kill()

    # --- ending -------------------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """End everything by force, and remove the database server's data."""
        if self.metadata is not None:
            await self.metadata.close()
        self.lose_power(*(name for name, daemon in self.daemons.items() if daemon.process is not None))
        if self.server is not None:
            self.server.remove()
        if isolation.isolated():
            for devid in self.devices:
                if self.device(devid).is_mount():
                    isolation.unmount(self.device(devid))
        self.network.close()


@asynccontextmanager
async def machines(directory: Path, engine: str) -> AsyncIterator[Machines]:
    """A started cluster in an empty directory; at the end nothing is running or mounted."""
    directory.chmod(0o755)  # the database's server may run as another user
    made = Machines(directory, engine, Namespaces() if isolation.isolated() else Loopback())
    try:
        await made.start()
        yield made
    finally:
        await made.stop()
        _keep_logs(made)


def _keep_logs(made: Machines) -> None:
    """Keep the files where the variable says, for later analysis."""
    if place := os.environ.get("TAWARA_PROBE_LOGS"):
        target = Path(place)
        target.mkdir(parents=True, exist_ok=True)
        for daemon in made.daemons.values():
            if daemon.log.exists():
                shutil.copy(daemon.log, target / daemon.log.name)
