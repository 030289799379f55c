"""A replicate worker in a house, and all that is due done by it."""

from __future__ import annotations

from tawara.workers.replicate import Replicate
from tests.unit.workers.house import House

SMALL_FILE = b"a bale of rice"


def worker(home: House) -> Replicate:
    return Replicate(home.metadata, home.view, home.nodes, delete_bell=home.bells.delete)


async def do_all(home: House) -> float | None:
    """Work off what is due; until when the last unit was put off."""
    replicate, until = worker(home), None
    for item in await replicate.take(100):
        until = await replicate.work(item)
    return until
