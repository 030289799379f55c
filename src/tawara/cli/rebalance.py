"""`tawara rebalance`: move files between devices."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import asdict

from cyclopts import App

from tawara.cli import output
from tawara.cli.session import DEFAULT, Session
from tawara.client import AsyncClient
from tawara.client.snapshot import snapshot
from tawara.model import errors
from tawara.model.cluster import Cluster, Device
from tawara.model.errors import Exit
from tawara.model.rebalance import MIB, RebalanceState, balancing_policy, left_to_queue, parse, sources, targets
from tawara.model.spans import span

app = App(name="rebalance")

_LOOK_AGAIN = 0.5
_STALE = 40.0
"""Seconds after a run within which trackers have the current usage of the devices."""
_RUNS = 20
"""Maximum number of runs in a row; each brings the devices closer to equal usage."""


@app.default
async def level(*, yes: bool = False, session: Session = DEFAULT) -> int:
    """Make the devices equally full: show the plan, ask for confirmation, move files.

    Continues a stopped run and follows a running one. Ctrl-C ends only the command; `tawara rebalance pause` stops the
    moves. The rate is limited by a setting: `tawara settings set tawara_rate_rebalance 20m` (bytes a second, of each
    process of workers).

    For example:

        tawara rebalance

        tawara rebalance --yes

    Parameters
    ----------
    yes
        Do not ask for confirmation.
    """
    async with session.client() as client:
        for _ in range(_RUNS):
            if not await _is_on(client) and not await _stopped(client):
                cluster = await snapshot(client)
                text = balancing_policy(_usable(cluster))
                if text is None:
                    _print_nothing_to_do(session)
                    return Exit.OK
                _show_plan(text, cluster, session)
                if not yes and not _agreed():
                    return Exit.OK
                await client.rebalance_set_policy(text)
            yes = True
            if not await _is_on(client):
                await client.rebalance_start()
            state = await _until_done(client)
            await _show(client, state, session)
            if state.time_stopped or not state.fids_queued:
                break
            await _wait_for_usage(client, state.time_finished)
    return Exit.OK


def _agreed() -> bool:
    """Ask for confirmation; without a terminal, only the plan is printed."""
    if not sys.stdin.isatty():
        output.note("Nothing was moved; use --yes to start.")
        return False
    sys.stderr.write("Move these files? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


async def _is_on(client: AsyncClient) -> bool:
    return bool(await client.setting("rebal_host"))


async def _wait_for_usage(client: AsyncClient, since: int) -> None:
    """Wait until trackers have the current usage of the devices; see `_STALE`."""
    until = time.monotonic() + _STALE
    while time.monotonic() < until:
        if all((each.mb_asof or 0) > since for each in await client.devices() if each.observed is not None):
            return
        await asyncio.sleep(1)


@app.command
async def plan(*policy: str, session: Session = DEFAULT) -> None:
    """Show from which devices files would be moved to which, and change nothing.

    Without a policy, the plan that makes the devices equally full.

    For example:

        tawara rebalance plan

        tawara rebalance plan from_devices=3 to_hosts=2

    Parameters
    ----------
    policy
        KEY=VALUE words: from_devices, from_hosts, from_percent_used, to_devices, to_percent_free, limit_by, limit and
        so on, as in MogileFS.
    """
    async with session.client() as client:
        cluster = await snapshot(client)
    text = " ".join(policy) or balancing_policy(_usable(cluster))
    if text is None:
        _print_nothing_to_do(session)
        return
    _show_plan(text, cluster, session)


@app.command(name=["start", "resume"])
async def start(*policy: str, wait: bool = False, session: Session = DEFAULT) -> int:
    """Move files as the policy says; without one, continue a stopped run, or make the devices equally full.

    A policy by which nothing can be moved now is refused with exit code 1, and no device changes its state.

    For example:

        tawara rebalance start

        tawara rebalance start --wait from_devices=3 leave_in_drain_mode=1

    Parameters
    ----------
    policy
        As for `tawara rebalance plan`, which shows what would happen.
    wait
        Wait until the run has ended.
    """
    async with session.client() as client:
        if policy or not await _stopped(client):
            cluster = await snapshot(client)
            text = " ".join(policy) or balancing_policy(_usable(cluster))
            if text is None:
                _print_nothing_to_do(session)
                return Exit.OK
            if reason := _why_impossible(text, cluster):
                raise CannotMove(f"Nothing was started: {reason}", hint="`tawara rebalance plan` shows the plan.")
            await client.rebalance_set_policy(text)
            if not session.json:
                _show_plan(text, cluster, session)
        state = await client.rebalance_start()
        if wait:
            state = await _until_done(client)
        if wait or session.json:
            await _show(client, state, session)
    return Exit.OK


async def _stopped(client: AsyncClient) -> bool:
    """Return whether a stopped run exists that can be continued."""
    try:
        state = await client.rebalance_status()
    except errors.NoRebalState:
        return False
    return not state.time_finished


async def _until_done(client: AsyncClient) -> RebalanceState:
    line = output.ChangingLine()
    while not (state := await client.rebalance_status()).time_finished and not state.time_stopped:
        if line.shown:  # estimating the time left needs another request
            left = await _time_left(client, state)
            line.say(f"{_progress(state)}{f', about {left} left' if left else ''}")
        await asyncio.sleep(_LOOK_AGAIN)
    line.clear()
    return state


@app.command
async def status(*, session: Session = DEFAULT) -> None:
    """Show the progress of the current or last run."""
    async with session.client() as client:
        await _show(client, await client.rebalance_status(), session)


@app.command(name=["stop", "pause"])
async def stop(*, session: Session = DEFAULT) -> None:
    """Stop the run; moves in progress are finished, and `resume` continues with the rest.

    For example:

        tawara rebalance pause
    """
    async with session.client() as client:
        await client.rebalance_stop()


@app.command
async def reset(*, session: Session = DEFAULT) -> None:
    """Discard a run that was stopped or has ended."""
    async with session.client() as client:
        await client.rebalance_reset()


# --- output -----------------------------------------------------------------------------------------------------------


def _usable(cluster: Cluster) -> list[Device]:
    return [device for devid, device in cluster.devices.items() if cluster.should_get_new_files(devid)]


def _print_nothing_to_do(session: Session) -> None:
    if session.json:
        output.json_line({"policy": None, "sources": [], "targets": []})
    else:
        output.line("Nothing to do: the devices are about as full.")


class CannotMove(errors.TawaraError):
    """No file can be moved by the policy."""

    code = "cannot_move"
    message = "No file can be moved"
    hint = None


def _why_impossible(text: str, cluster: Cluster) -> str:
    """Return why this policy can move no file now; empty if it can. Raises BadRebalPol."""
    policy = parse(text)
    away = sources(policy, cluster)
    if not away:
        return "the policy names no device from which files can be moved"
    return "" if targets(policy, cluster, away) else "no other device that the policy names can take files now"


def _show_plan(text: str, cluster: Cluster, session: Session) -> None:
    policy = parse(text)
    away = sources(policy, cluster)
    there = targets(policy, cluster, away)
    if session.json:
        output.json_line({"policy": text, "sources": away, "targets": there})
        return
    output.line(f"Policy: {output.shown(text)}")
    output.table(
        ("DEVICE", "", "USED", "SIZE"),
        [
            (
                f"dev{devid}",
                role,
                "-" if not device.mb_total else f"{1 - device.percent_free:.0%}",
                "-" if device.mb_total is None else output.human_size(device.mb_total * 2**20),
            )
            for role, devids in (("from", away), ("to", there))
            for devid in devids
            for device in (cluster.devices[devid],)
        ],
        right=(2, 3),
    )
    if reason := _why_impossible(text, cluster):
        output.line(f"Nothing can be moved: {reason}.")


async def _show(client: AsyncClient, state: RebalanceState, session: Session) -> None:
    if session.json:
        output.json_line(asdict(state))
        return
    if state.time_finished:
        how = f"Ended at {output.local_time(state.time_finished)}"
    elif state.time_stopped:
        how = f"Stopped at {output.local_time(state.time_stopped)}"
    else:
        how = f"Running since {output.local_time(state.time_started)}"
    output.line(f"{how}: {_progress(state)}.")
    if not state.time_finished and not state.time_stopped and (left := await _time_left(client, state)):
        output.line(f"About {left} left.")


def _progress(state: RebalanceState) -> str:
    done = len(state.completed_devs)
    parts = [f"{done} of {len(state.all_sources)} devices done"]
    if state.sdev_current:
        parts.append(f"dev{state.sdev_current} at file {state.sdev_lastfid}")
    parts.append(f"{state.fids_queued} files, {output.human_size(state.bytes_queued)} queued to move")
    return ", ".join(parts)


async def _time_left(client: AsyncClient, state: RebalanceState) -> str | None:
    """Estimate the time left from the rate so far; None if not known."""
    took = state.time_latest_run - state.time_started
    if took < 5 or not state.fids_queued:
        return None
    policy = parse(await client.setting("rebal_policy"))
    waiting = {*state.source_devs, *([state.sdev_current] if state.sdev_current else [])}
    there = sum((each.mb_used or 0) * MIB for each in await client.devices() if each.devid in waiting)
    done = state.fids_queued if policy.limit_by == "count" else state.bytes_queued
    left = left_to_queue(policy, state)
    left = there if left is None else min(left, there) if policy.limit_by == "size" else left
    return span(left * took / done) if done else None
