"""Chooses the devices of new files from the cluster as this process sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from random import Random

from tawara.metadata.view import ClusterView
from tawara.model.cluster import StorageClass
from tawara.model.errors import NoDevices, StaleDatabase
from tawara.model.placement import choose_destinations
from tawara.model.policy import Situation, can_place, is_content, parse, plan_destinations


class DeviceChooser:
    """Chooses the devices for a new file.

    `offer` gives a client that writes to one device several to choose from, as MogileFS does. `plan` gives a component
    that writes all copies a set of devices that fulfils the replication policy of the class. Both raise StaleDatabase
    while the database is known to be older than the state of the devices.
    """

    def __init__(self, view: ClusterView, rng: Random) -> None:
        self._view, self._rng = view, rng

    async def wait_observed(self, timeout: float | None = None) -> None:
        """Wait until the monitor has observed the devices once; without that no device can be chosen.

        Raises NoDevices after `timeout` seconds; None waits without limit.
        """
        if self._view.is_observed:
            return
        try:
            async with asyncio.timeout(timeout):
                await self._view.wait_observed()
        except TimeoutError:
            raise NoDevices from None

    def offer(self, count: int, size: int | None, preferred: Collection[int] = ()) -> tuple[int, ...]:
        """Choose up to `count` devices for a client to choose from, best first (docs/mogilefs.md 9.1).

        `size` is the length of the file in bytes, None if unknown; `preferred` devices come first. Raises NoDevices,
        StaleDatabase.
        """
        self.check_database()
        return choose_destinations(self._view.current, self._rng, count=count, size=size, preferred=preferred)

    def plan(self, storage_class: StorageClass, size: int, preferred: Iterable[int] = ()) -> tuple[int, ...]:
        """Choose the devices on which all copies of a file of `size` bytes are written, of the `preferred` if possible.

        Raises NoDevices, InvalidReplpolicy, StaleDatabase.
        """
        self.check_database()
        return plan_destinations(self._view.current, storage_class, size, self._rng, preferred=preferred)

    def check(self, storage_class: StorageClass) -> None:
        """Raise the errors that `plan` would raise for an empty file, at less cost."""
        self.check_database()
        if not can_place(self._view.current, storage_class, self._rng):
            raise NoDevices

    def is_satisfied(self, storage_class: StorageClass, devids: Iterable[int]) -> bool:
        """Return whether copies on `devids` fulfil the replication policy of the class."""
        situation = Situation.of(self._view.current, devids, storage_class.mindevcount)
        return is_content(parse(storage_class.policy), situation, self._rng)

    def check_database(self) -> None:
        """Raise StaleDatabase while the database is known to be older than the state of the devices."""
        if reason := self._view.current.stale:
            raise StaleDatabase.because(reason)
