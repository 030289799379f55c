"""Administration part of the client: domains, classes, hosts, devices, settings, maintenance (docs/mogilefs.md 4)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from tawara.client import maintenance_replies, replies
from tawara.client.maintenance_replies import Absences, DrainStatus, FsckLine, FsckStatus, ScrubStatus
from tawara.client.replies import DeviceInfo, DomainInfo, ListedFile, key_bytes
from tawara.client.status import NamedGroup, PlacementCountsPage, StoreStatus, read_removal
from tawara.client.trackers import Trackers
from tawara.model import errors
from tawara.model.cluster import DeviceState, HashType, Host, HostState
from tawara.model.explanation import Explanation
from tawara.model.rebalance import RebalanceState
from tawara.model.removal import Removal
from tawara.wire.line import Args, Value

RECOUNT = 3600.0
"""Seconds to wait for a count of all files."""


class Administration:
    """The methods of `AsyncClient` that read and change the cluster's configuration.

    When a method returns, its change is effective on the tracker that replied; on other trackers some seconds later.
    All methods raise TrackerUnreachable, Db.
    """

    _trackers: Trackers

    # --- domains and classes ------------------------------------------------------------------------------------------

    async def domains(self) -> list[DomainInfo]:
        """List all domains with their classes, by name."""
        found = await self._trackers.ask_for(DomainInfo.read, "get_domains")
        return sorted(found, key=lambda each: each.name)

    async def classes(self, domain: str) -> list[replies.ClassInfo]:
        """List the classes of a domain. Raises UnregDomain."""
        for each in await self.domains():
            if each.name == domain:
                return list(each.classes)
        raise errors.UnregDomain(f"Domain not found: {domain}")

    async def create_domain(self, domain: str) -> None:
        """Create a domain. Raises DomainExists, InvalidName."""
        await self._trackers.ask("create_domain", {"domain": domain}, settled_by=(errors.DomainExists,))

    async def delete_domain(self, domain: str) -> None:
        """Remove an empty domain. Raises DomainNotFound, DomainHasFiles, DomainHasClasses."""
        await self._trackers.ask("delete_domain", {"domain": domain}, settled_by=(errors.DomainNotFound,))

    async def create_class(
        self,
        domain: str,
        storage_class: str,
        *,
        mindevcount: int,
        replpolicy: str | None = None,
        hashtype: HashType | None = None,
    ) -> None:
        """Create a class. Raises ClassExists, DomainNotFound, InvalidMindevcount, InvalidReplpolicy."""
        args = _class_args(domain, storage_class, mindevcount, replpolicy, hashtype.wire if hashtype else None)
        await self._trackers.ask("create_class", args, settled_by=(errors.ClassExists,))

    async def update_class(
        self,
        domain: str,
        storage_class: str,
        *,
        mindevcount: int,
        replpolicy: str | None = None,
        hashtype: HashType | None = None,
        no_hashtype: bool = False,
    ) -> None:
        """Change a class; None keeps policy or hash type. Raises as `create_class`, ClassNotFound."""
        wire_name = "NONE" if no_hashtype else hashtype.wire if hashtype else None
        await self._trackers.ask("update_class", _class_args(domain, storage_class, mindevcount, replpolicy, wire_name))

    async def delete_class(self, domain: str, storage_class: str) -> None:
        """Remove a class without files. Raises ClassNotFound, ClassHasFiles, NodelDefaultClass."""
        await self._trackers.ask(
            "delete_class", {"domain": domain, "class": storage_class}, settled_by=(errors.ClassNotFound,)
        )

    # --- hosts and devices --------------------------------------------------------------------------------------------

    async def hosts(self) -> list[Host]:
        """List all hosts, by name."""
        return sorted(await self._trackers.ask_for(replies.read_hosts, "get_hosts"), key=lambda each: each.name)

    async def create_host(
        self,
        host: str,
        *,
        ip: str,
        port: int = 7500,
        get_port: int | None = None,
        state: HostState = HostState.ALIVE,
        altip: str | None = None,
        altmask: str | None = None,
    ) -> None:
        """Create a host, which is in service at once unless `state` says otherwise.

        Raises HostExists, Dup if another host has the address.
        """
        args = _host_args(host, ip=ip, port=port, getport=get_port, status=state, altip=altip, altmask=altmask)
        await self._trackers.ask("create_host", args, settled_by=(errors.HostExists,))

    async def update_host(
        self,
        host: str,
        *,
        ip: str | None = None,
        port: int | None = None,
        get_port: int | None = None,
        state: HostState | None = None,
        altip: str | None = None,
        altmask: str | None = None,
    ) -> None:
        """Change the given fields of a host. Raises HostNotFound, Dup."""
        await self._trackers.ask(
            "update_host",
            _host_args(host, ip=ip, port=port, getport=get_port, status=state, altip=altip, altmask=altmask),
        )

    async def delete_host(self, host: str) -> None:
        """Remove a host without devices. Raises UnknownHost, HostNotEmpty."""
        await self._trackers.ask("delete_host", {"host": host}, settled_by=(errors.UnknownHost,))

    async def devices(self) -> list[DeviceInfo]:
        """List all devices, by devid."""
        found = await self._trackers.ask_for(DeviceInfo.read, "get_devices", {"health": 1})
        return sorted(found, key=lambda each: each.devid)

    async def create_device(self, devid: int, *, host: str, state: DeviceState = DeviceState.ALIVE) -> None:
        """Create a device. Raises UnknownHost, ExistingDevid."""
        await self._trackers.ask(
            "create_device",
            {"devid": devid, "hostname": host, "state": state},
            settled_by=(errors.ExistingDevid,),
        )

    async def set_device_state(self, host: str, devid: int, state: DeviceState) -> None:
        """Set the configured state of a device. Raises NoDevice, HostMismatch, StateTooHigh."""
        await self._trackers.ask("set_state", {"host": host, "device": devid, "state": state})

    async def set_device_weight(self, host: str, devid: int, weight: int) -> None:
        """Set a device's share of the reads, relative to the others. Raises NoDevice, HostMismatch."""
        await self._trackers.ask("set_weight", {"host": host, "device": devid, "weight": weight})

    async def absences(self) -> Absences:
        """List the unreachable devices. Raises UnknownCommand if the tracker is MogileFS's."""
        return await self._trackers.ask_for(Absences.read, "tawara_absences")

    async def accept_device(self, devid: int) -> None:
        """Accept the identity that a device reports next, even if it is another disk than before. Raises NoDevice."""
        await self._trackers.ask("tawara_accept", {"device": devid})

    async def trust_device(self, devid: int) -> list[int]:
        """Count the copies on an absent device, because it will return. Raises NoDevice, DeviceNotAbsent."""
        return await self._trackers.ask_for(_devids, "tawara_trust", {"device": devid})

    async def trust_host(self, host: str) -> list[int]:
        """Trust all absent devices of a host; return their devids. Raises UnknownHost, DeviceNotAbsent."""
        return await self._trackers.ask_for(_devids, "tawara_trust", {"host": host})

    async def drain_device(self, devid: int, *, undo: bool = False) -> None:
        """Start to drain a device, or stop with `undo`. Raises NoDevice, StateTooHigh if it is dead."""
        await self._trackers.ask("drain_device", {"device": devid, "undo": int(undo)})

    async def drains(self) -> list[DrainStatus]:
        """Return the state of all drains."""
        return await self._trackers.ask_for(DrainStatus.read, "drain_status")

    # --- settings and status ------------------------------------------------------------------------------------------

    async def settings(self) -> dict[str, str]:
        """Return the cluster's settings, as far as the tracker shows them."""
        return await self._trackers.ask_for(replies.read_settings, "server_settings")

    async def setting(self, key: str) -> str:
        """Return one setting, empty if not set."""
        return (await self._trackers.ask("server_setting", {"key": key})).get("value", b"").decode(errors="replace")

    async def set_setting(self, key: str, value: str) -> None:
        """Change a setting. Raises NotWritable, InvalidFormat."""
        await self._trackers.ask("set_server_setting", {"key": key, "value": value})

    async def explain(self, domain: str, key: str | bytes, *, verify: bool = True) -> Explanation:
        """Explain a file's placement and pending work; `verify` checks the storage nodes. Raises UnregDomain.

        Raises UnknownCommand if the tracker is MogileFS's.
        """
        args: dict[str, Value] = {"domain": domain, "key": replies.key_bytes(key), "noverify": int(not verify)}
        return await self._trackers.ask_for(maintenance_replies.read_explanation, "tawara_explain", args)

    async def explain_fid(self, fid: int, *, verify: bool = True) -> Explanation:
        """Explain a fid as `explain` does, also one whose file was deleted."""
        args: dict[str, Value] = {"fid": fid, "noverify": int(not verify)}
        return await self._trackers.ask_for(maintenance_replies.read_explanation, "tawara_explain", args)

    async def removal(self, what: str, names: Args) -> Removal:
        """Return the effect of removing a `domain`, `class`, `host`, `device` or `setting`; changes nothing.

        `names` identifies it: domain, class, host, devid, key. Raises NotFoundError, NotWritable; UnknownCommand if
        the tracker is MogileFS's.
        """
        return await self._trackers.ask_for(read_removal, "tawara_removal", {"what": what, **names})

    async def delete_device(self, devid: int) -> None:
        """Remove a dead device without remaining replicas. Raises NoDevice, DeviceInUse."""
        await self._trackers.ask("tawara_delete_device", {"devid": devid}, settled_by=(errors.NoDevice,))

    async def remove_setting(self, key: str) -> None:
        """Reset a setting to its default. Raises NotWritable."""
        await self._trackers.ask("tawara_remove_setting", {"key": key})

    async def store_status(self, *, recount: bool = False) -> StoreStatus:
        """Return file safety, queue lengths and work rates; `recount` counts all files first.

        Raises UnknownCommand if the tracker is MogileFS's.
        """
        return await self._trackers.ask_for(
            StoreStatus.read, "tawara_status", {"recount": int(recount)}, timeout=RECOUNT if recount else None
        )

    async def placement(self, devids: Sequence[int], *, recount: bool = False) -> PlacementCountsPage:
        """Return placement counts in one page; if there are too many groups, only those that include these devices.

        Raises TooManyFiles if even those are too many.
        """
        about = ",".join(map(str, devids))
        arguments: dict[str, Value] = {"recount": int(recount), "devids": about}
        page = first = await self._trackers.ask_for(
            PlacementCountsPage.read, "tawara_placement", arguments, timeout=RECOUNT if recount else None
        )
        groups: list[NamedGroup] = []
        while page.groups:
            groups += page.groups
            if len(groups) >= page.all_groups:
                break
            arguments = {"after": len(groups), "devids": about}
            page = await self._trackers.ask_for(PlacementCountsPage.read, "tawara_placement", arguments)
            if (page.counted_at, page.all_groups) != (first.counted_at, first.all_groups):  # a new count: start over
                groups = []
                page = first = await self._trackers.ask_for(
                    PlacementCountsPage.read, "tawara_placement", {"devids": about}
                )
        return PlacementCountsPage(first.counted_at, len(groups), tuple(groups), first.partial)

    async def replicate_now(self) -> int:
        """Make deferred replications due now; return their number."""
        return await self._trackers.ask_for(lambda reply: int(reply["count"]), "replicate_now")

    async def clear_cache(self) -> None:
        """Make the tracker reload the database and check every device; returns when it has."""
        await self._trackers.ask("clear_cache")

    def trackers(self) -> list[tuple[str, int]]:
        """The addresses of the trackers that this client knows."""
        return sorted(self._trackers.addresses)

    async def tracker_stats(self, address: tuple[str, int]) -> dict[str, str]:
        """Return the counters of one tracker (`!stats`) and its `version`. Raises TrackerUnreachable."""
        lines = await self._trackers.manage(address, "stats")
        version = await self._trackers.manage(address, "version")
        return {"version": version[0] if version else ""} | {
            name: value for name, _, value in (each.partition(" ") for each in lines)
        }

    # --- checks and rebalancing ---------------------------------------------------------------------------------------

    async def fsck_start(self) -> None:
        """Start a check of all files, or resume a stopped one. Raises FsckRunning, RebalRunning."""
        await self._trackers.ask("fsck_start", settled_by=(errors.FsckRunning,))

    async def fsck_stop(self) -> None:
        """Stop the check; its position is kept."""
        await self._trackers.ask("fsck_stop")

    async def fsck_reset(
        self,
        *,
        policy_only: bool = False,
        position: int = 0,
        domain: str = "",
        storage_class: str = "",
        prefix: str = "",
        devids: Collection[int] = (),
        every_byte: bool = False,
    ) -> None:
        """Make the next check start after the fid `position`; `policy_only` avoids requests to storage nodes.

        The check can be limited to a domain, a class, keys with a prefix, and files on certain devices; with
        `every_byte` it reads all replicas completely. Raises UnregDomain, UnregClass, NoDevice.
        """
        given: dict[str, Value] = {
            "domain": domain,
            "class": storage_class,
            "prefix": key_bytes(prefix),
            "devices": ",".join(map(str, devids)),
            "every_byte": "1" if every_byte else "",
        }
        args = {"policy_only": int(policy_only), "startpos": position}
        await self._trackers.ask("fsck_reset", args | {name: value for name, value in given.items() if value})

    async def files_from(self, fid: int, count: int = 1) -> list[ListedFile]:
        """List files in order of fid, starting with this fid."""
        return await self._trackers.ask_for(ListedFile.read, "list_fids", {"from": fid - 1, "to": count})

    async def fsck_status(self) -> FsckStatus:
        """Return the state of the check."""
        return await self._trackers.ask_for(FsckStatus.read, "fsck_status")

    async def fsck_log(self, after: int = 0) -> list[FsckLine]:
        """Return the next lines of the fsck log, about a hundred; none at its end."""
        return await self._trackers.ask_for(FsckLine.read, "fsck_getlog", {"after_logid": after})

    async def fsck_clear_log(self) -> None:
        """Clear the fsck log; the counts are kept."""
        await self._trackers.ask("fsck_clearlog")

    async def scrub_status(self) -> ScrubStatus:
        """Return the state of the continuous scrub. Raises UnknownCommand if the tracker is MogileFS's."""
        return await self._trackers.ask_for(ScrubStatus.read, "scrub_status")

    async def scrub_log(self, after: int = 0) -> list[FsckLine]:
        """Return the next lines of the scrub log, about a hundred; none at its end."""
        return await self._trackers.ask_for(FsckLine.read, "scrub_getlog", {"after_logid": after})

    async def rebalance_set_policy(self, policy: str) -> None:
        """Set the rebalance policy, and discard the state of an earlier run. Raises NoSetRebal, BadRebalPol."""
        await self._trackers.ask("rebalance_set_policy", {"policy": policy})

    async def rebalance_start(self) -> RebalanceState:
        """Start a rebalance, or resume a stopped one. Raises RebalRunning, FsckRunning, NoRebalPolicy."""
        return await self._trackers.ask_for(maintenance_replies.read_state, "rebalance_start")

    async def rebalance_status(self) -> RebalanceState:
        """Return the state of the current or last rebalance. Raises NoRebalState."""
        return await self._trackers.ask_for(maintenance_replies.read_state, "rebalance_status")

    async def rebalance_stop(self) -> None:
        """Stop the rebalance soon. Raises RebalNotStarted."""
        await self._trackers.ask("rebalance_stop")

    async def rebalance_reset(self) -> None:
        """Discard the state of a stopped or finished rebalance. Raises RebalRunning."""
        await self._trackers.ask("rebalance_reset")


def _devids(reply: Mapping[str, bytes]) -> list[int]:
    return [int(each) for each in reply["devids"].split(b",")]


def _class_args(
    domain: str, storage_class: str, mindevcount: int, replpolicy: str | None, hashtype: str | None
) -> dict[str, Value]:
    args: dict[str, Value] = {"domain": domain, "class": storage_class, "mindevcount": mindevcount}
    if replpolicy is not None:
        args["replpolicy"] = replpolicy
    if hashtype is not None:
        args["hashtype"] = hashtype
    return args


def _host_args(host: str, **given: Value) -> dict[str, Value]:
    args: dict[str, Value] = {name: value for name, value in given.items() if value is not None}
    return {"host": host, **args}
