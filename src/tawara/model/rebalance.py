"""Decisions of a rebalance: source and destination devices, and the progress of a run (docs/mogilefs.md 13).

An operator writes a policy as blank-separated `key=value`; the state of a run between two ticks has the same form, so
that trackers of MogileFS can read it. Both are frozen values; a tick maps a state to the next one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from random import Random
from typing import Any, Final

from tawara.model import amounts
from tawara.model.cluster import Cluster, Device
from tawara.model.errors import BadRebalPol

SMALLEST_LIMIT: Final = 1024
"""Remaining bytes of a size limit below which the run ends."""
MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class UsageBound:
    """Lower bounds on a device's used and free space; None is no bound."""

    percent_used: float | None = None
    percent_free: float | None = None
    space_used: int | None = None
    """MiB"""
    space_free: int | None = None
    """MiB"""

    def admits(self, device: Device) -> bool:
        """Whether a device exceeds every bound; a device of unknown size exceeds none."""
        known = bool(device.mb_total) and device.mb_used is not None
        free = 100 * device.percent_free
        bounds: list[tuple[float | None, float]] = [
            (self.percent_used, 100 - free),
            (self.percent_free, free),
            (self.space_used, device.mb_used or 0),
            (self.space_free, device.mb_free or 0),
        ]
        return all(bound is None or (known and value > bound) for bound, value in bounds)


@dataclass(frozen=True, slots=True)
class RebalancePolicy:
    """An operator's choice of the files to move; see docs/mogilefs.md 13 for the keys."""

    from_hosts: frozenset[int] = frozenset()
    from_devices: frozenset[int] = frozenset()
    source: UsageBound = UsageBound()
    newest_first: bool = False
    limit_whole_run: bool = False
    """Whether the limit is for the whole run instead of for each source."""
    limit_by: str = "none"
    limit: int | None = None
    """Number of files, or bytes."""
    to_hosts: frozenset[int] = frozenset()
    to_devices: frozenset[int] = frozenset()
    target: UsageBound = UsageBound()
    not_to_hosts: frozenset[int] = frozenset()
    not_to_devices: frozenset[int] = frozenset()
    use_dest_devs: int | None = None
    """Number of targets to choose from for each file; None for all."""
    leave_in_drain_mode: bool = False


# --- parsing a policy -------------------------------------------------------------------------------------------------


def _ids(key: str, text: str) -> frozenset[int]:
    parts = [part for part in text.split(",") if part]
    if not parts or not all(re.fullmatch(r"[0-9]{1,9}", part) for part in parts):
        raise BadRebalPol(f"{key} takes ids with commas between, not {text!r}")
    return frozenset(map(int, parts))


def _number(key: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise BadRebalPol(f"{key} takes a whole number, not {text!r}")
    return int(text)


def _percent(key: str, text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,9})?%?", text) or float(text.rstrip("%")) > 100:
        raise BadRebalPol(f"{key} takes a percentage, not {text!r}")
    return float(text.rstrip("%"))


def _flag(key: str, text: str) -> bool:
    if text not in ("0", "1", ""):
        raise BadRebalPol(f"{key} is 0 or 1, not {text!r}")
    return text == "1"


def _one_of(*words: str) -> Callable[[str, str], str]:
    def read(key: str, text: str) -> str:
        if text not in words:
            raise BadRebalPol(f"{key} is one of {', '.join(words)}, not {text!r}")
        return text

    return read


def _limit_by(key: str, text: str) -> str:
    if text == "percent":
        raise BadRebalPol("limit_by=percent is not supported; say limit_by=size")
    return _one_of("none", "count", "size")(key, text)


def _dest_devs(key: str, text: str) -> int | None:
    if text != "all" and (not re.fullmatch(r"[0-9]{1,4}", text) or int(text) == 0):
        raise BadRebalPol(f"{key} is all, or a number of devices, not {text!r}")
    return None if text == "all" else int(text)


def _text(key: str, text: str) -> str:
    return text


_KEYS: Final[Mapping[str, Callable[[str, str], Any]]] = {
    "from_all_devs": _flag,
    "from_hosts": _ids,
    "from_devices": _ids,
    "from_percent_used": _percent,
    "from_percent_free": _percent,
    "from_space_used": _number,
    "from_space_free": _number,
    "fid_age": _one_of("old", "new"),
    "limit_type": _one_of("device", "global"),
    "limit_by": _limit_by,
    "limit": _text,
    "to_all_devs": _flag,
    "to_hosts": _ids,
    "to_devices": _ids,
    "to_percent_used": _percent,
    "to_percent_free": _percent,
    "to_space_used": _number,
    "to_space_free": _number,
    "not_to_hosts": _ids,
    "not_to_devices": _ids,
    "use_dest_devs": _dest_devs,
    "leave_in_drain_mode": _flag,
}


def parse(text: str) -> RebalancePolicy:
    """Parse a policy. Raises BadRebalPol with a description of the error.

    `from_all_devs` and `to_all_devs` are accepted and have no effect, as in MogileFS: the other keys select devices.
    """
    said: dict[str, Any] = {}
    for word in text.split():
        key, equals, value = word.partition("=")
        if key not in _KEYS:
            raise BadRebalPol(f"Invalid setting {key}")
        if not equals:
            raise BadRebalPol(f"A rebalance policy is written key=value key=value, not {word!r}")
        said[key] = _KEYS[key](key, value)
    if not said:
        raise BadRebalPol("A rebalance policy is written key=value key=value")
    limit_by = said.get("limit_by", "none")
    return RebalancePolicy(
        from_hosts=said.get("from_hosts", frozenset()),
        from_devices=said.get("from_devices", frozenset()),
        source=_share("from_", said),
        newest_first=said.get("fid_age") == "new",
        limit_whole_run=said.get("limit_type") == "global",
        limit_by=limit_by,
        limit=_limit(limit_by, said.get("limit", "")),
        to_hosts=said.get("to_hosts", frozenset()),
        to_devices=said.get("to_devices", frozenset()),
        target=_share("to_", said),
        not_to_hosts=said.get("not_to_hosts", frozenset()),
        not_to_devices=said.get("not_to_devices", frozenset()),
        use_dest_devs=said.get("use_dest_devs"),
        leave_in_drain_mode=said.get("leave_in_drain_mode", False),
    )


def _share(prefix: str, said: Mapping[str, Any]) -> UsageBound:
    return UsageBound(**{each.name: said.get(prefix + each.name) for each in fields(UsageBound)})


def _limit(limit_by: str, text: str) -> int | None:
    if limit_by == "none":
        return None
    if limit_by == "count":
        return _number("limit", text)
    size = amounts.size(text)
    if size is None:
        raise BadRebalPol(f"limit takes bytes, or a number with one of b k m g t p behind it, not {text!r}")
    return size


# --- choosing devices -------------------------------------------------------------------------------------------------


def _chosen(ids: frozenset[int], number: int) -> bool:
    return not ids or number in ids


def sources(policy: RebalancePolicy, cluster: Cluster) -> tuple[int, ...]:
    """Return the devices to move files away from, by devid."""
    return tuple(
        devid
        for devid, device in sorted(cluster.devices.items())
        if cluster.can_delete_from(devid)
        and _chosen(policy.from_devices, devid)
        and _chosen(policy.from_hosts, device.hostid)
        and policy.source.admits(device)
    )


def targets(policy: RebalancePolicy, cluster: Cluster, sources: Iterable[int]) -> tuple[int, ...]:
    """Return the devices that may get files now, without the run's sources."""
    excluded = policy.not_to_devices | frozenset(sources)
    return tuple(
        devid
        for devid, device in sorted(cluster.devices.items())
        if cluster.should_get_new_files(devid)
        and devid not in excluded
        and device.hostid not in policy.not_to_hosts
        and _chosen(policy.to_devices, devid)
        and _chosen(policy.to_hosts, device.hostid)
        and policy.target.admits(device)
    )


# --- the state of a run -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RebalanceState:
    """Progress of a run. Times are unix seconds, 0 for not yet."""

    completed_devs: tuple[int, ...] = ()
    source_devs: tuple[int, ...] = ()
    """Sources that have not been started."""
    sdev_current: int = 0
    """The current source; 0 for none."""
    sdev_lastfid: int = 0
    """The last fid of the current source that was examined."""
    sdev_limit: int | None = None
    """Remaining limit of the current source, files or bytes; None for no limit."""
    limit: int | None = None
    """Remaining limit of the whole run."""
    fids_queued: int = 0
    bytes_queued: int = 0
    time_started: int = 0
    time_finished: int = 0
    time_stopped: int = 0
    time_latest_run: int = 0
    time_latest_empty_run: int = 0
    empty_runs: int = 0

    @property
    def all_sources(self) -> tuple[int, ...]:
        """Every source of the run."""
        return (*self.completed_devs, *self.source_devs, *([self.sdev_current] if self.sdev_current else ()))

    def __str__(self) -> str:
        """`key=value key=value …`, as shown by the tracker."""
        return " ".join(f"{each.name}={_written(getattr(self, each.name))}" for each in fields(self))

    @classmethod
    def parse(cls, text: str) -> RebalanceState:
        """Parse the output of `str` or of a MogileFS tracker; malformed fields keep their defaults."""
        said = dict(word.split("=", 1) for word in text.split() if "=" in word)
        made: dict[str, Any] = {}
        for each in fields(cls):
            value = said.get(each.name, "")
            numbers = tuple(int(part) for part in value.split(",") if re.fullmatch(r"-?[0-9]{1,18}", part))
            if each.name in ("completed_devs", "source_devs"):
                made[each.name] = numbers
            elif numbers:
                made[each.name] = numbers[0]
        return cls(**made)


def _written(value: int | tuple[int, ...] | None) -> str:
    if value is None:
        return "none"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


@dataclass(frozen=True, slots=True)
class PlannedMove:
    """A replica to be moved from one device to another."""

    fid: int
    source: int
    targets: tuple[int, ...]
    """Allowed target devices, in order of preference."""


def begin(policy: RebalancePolicy, cluster: Cluster, *, now: int) -> RebalanceState:
    """Return the state of a new run."""
    return RebalanceState(
        source_devs=sources(policy, cluster), limit=policy.limit if policy.limit_whole_run else None, time_started=now
    )


def next_source(policy: RebalancePolicy, state: RebalanceState) -> RebalanceState | None:
    """Continue with the next source; None without one, or if the limit of the whole run is reached."""
    if not state.source_devs or _reached(policy, state.limit):
        return None
    return replace(
        state,
        sdev_current=state.source_devs[0],
        source_devs=state.source_devs[1:],
        sdev_lastfid=0,
        sdev_limit=None if policy.limit_whole_run else policy.limit,
    )


def source_done(state: RebalanceState) -> RebalanceState:
    """Return the state after the current source is finished."""
    done = (*state.completed_devs, state.sdev_current)
    return replace(state, completed_devs=done, sdev_current=0, sdev_lastfid=0, sdev_limit=None)


def _reached(policy: RebalancePolicy, left: int | None) -> bool:
    return left is not None and left < (SMALLEST_LIMIT if policy.limit_by == "size" else 1)


def limit_reached(policy: RebalancePolicy, state: RebalanceState) -> bool:
    """Whether the limit of the current source or of the run is reached."""
    return _reached(policy, state.limit) or _reached(policy, state.sdev_limit)


def choose(
    policy: RebalancePolicy,
    state: RebalanceState,
    files: Sequence[tuple[int, int]],
    targets: Sequence[int],
    rng: Random,
    *,
    now: int,
) -> tuple[RebalanceState, list[PlannedMove]]:
    """Choose which of `files` (fid, bytes; the next ones of the source, in order) to move within the limits."""
    moves: list[PlannedMove] = []
    for fid, length in files:
        if limit_reached(policy, state):
            break
        state = replace(state, sdev_lastfid=fid)
        if policy.limit_by == "size" and any(
            left is not None and length > left for left in (state.limit, state.sdev_limit)
        ):
            continue
        state = _counted(policy, state, 1, length)
        shuffled = rng.sample(list(targets), len(targets))
        moves.append(PlannedMove(fid, state.sdev_current, tuple(shuffled[: policy.use_dest_devs])))
    return _took_tick(state, bool(moves), now), moves


def _counted(policy: RebalancePolicy, state: RebalanceState, count: int, size: int) -> RebalanceState:
    used = {"none": 0, "count": count, "size": size}[policy.limit_by]
    return replace(
        state,
        fids_queued=state.fids_queued + count,
        bytes_queued=state.bytes_queued + size,
        limit=None if state.limit is None else state.limit - used,
        sdev_limit=None if state.sdev_limit is None else state.sdev_limit - used,
    )


def _took_tick(state: RebalanceState, moved: bool, now: int) -> RebalanceState:
    if moved:
        return replace(state, time_latest_run=now)
    return replace(state, time_latest_run=now, time_latest_empty_run=now, empty_runs=state.empty_runs + 1)


def idle_tick(state: RebalanceState, *, now: int) -> RebalanceState:
    """Return the state after a tick that queued nothing: all targets are full, or queued moves are still running."""
    return _took_tick(state, False, now)


def cancel_moves(policy: RebalancePolicy, state: RebalanceState, files: Sequence[tuple[int, int]]) -> RebalanceState:
    """Cancel chosen moves of the current source that were not started (fid, bytes); a later tick chooses again."""
    if not files:
        return state
    fids = [fid for fid, _ in files]
    state = _counted(policy, state, -len(files), -sum(length for _, length in files))
    return replace(state, sdev_lastfid=max(fids) + 1 if policy.newest_first else min(fids) - 1)


def left_to_queue(policy: RebalancePolicy, state: RebalanceState) -> int | None:
    """Return the files or bytes (the unit of the policy's limit) that the run may still queue; None for no limit."""
    if policy.limit is None:
        return None
    if policy.limit_whole_run:
        return state.limit
    return (state.sdev_limit or 0) + policy.limit * len(state.source_devs)


# --- the default policy -----------------------------------------------------------------------------------------------

TOLERANCE: Final = 2.0
"""Percentage points around the mean fill level within which a device is balanced."""


def balancing_policy(devices: Iterable[Device]) -> str | None:
    """Return the text of a policy that evens out the fill levels of these devices; None if they are balanced.

    Files move from the fuller half to the emptier half. All sources have the same limit, that of the source nearest to
    the mean, so that none falls below the mean: repeat the run until the devices are balanced.
    """
    known = [device for device in devices if device.mb_total and device.mb_used is not None]
    total = sum(device.mb_total or 0 for device in known)
    if not total:
        return None
    mean = sum(device.mb_used or 0 for device in known) / total

    def excess(device: Device) -> float:
        return (device.mb_used or 0) - mean * (device.mb_total or 0)

    margin = TOLERANCE / 100
    full = [each for each in known if excess(each) > margin * (each.mb_total or 0)]
    empty = [each for each in known if excess(each) < -margin * (each.mb_total or 0)]
    if not full or not empty:
        return None
    space = -sum(map(excess, empty)) / len(full)
    each_gives = int(min(*map(excess, full), space)) if len(full) > 1 else int(min(excess(full[0]), space))
    if each_gives < 1:
        return None
    return (
        f"from_devices={','.join(str(each.devid) for each in full)}"
        f" to_devices={','.join(str(each.devid) for each in empty)}"
        f" limit_type=device limit_by=size limit={each_gives}m"
    )
