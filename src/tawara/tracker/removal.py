"""Tawara's own verbs about removal: a dry run, and the removal of devices and settings, which MogileFS lacks."""

from __future__ import annotations

from tawara.metadata import cluster as rows
from tawara.metadata import removal
from tawara.model import errors, settings
from tawara.model import removal as model
from tawara.model.removal import Removal
from tawara.tracker.context import TrackerContext, TrackerRequest
from tawara.wire.line import Args, Value

_LARGEST_DEVID = 2**31 - 1


async def tawara_removal(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Report the effect of a removal, without changes; `what` is domain, class, host, device or setting.

    This is a separate verb, so that a tracker of MogileFS refuses it instead of removing something.
    """
    found = await _look(tracker, call)
    reply: dict[str, Value] = {
        "refusal": found.refusal.code if found.refusal else "",
        "sentences": len(found.sentences),
    }
    return reply | {f"sentence{number}": text for number, text in enumerate(found.sentences, 1)}


async def _look(tracker: TrackerContext, call: TrackerRequest) -> Removal:
    read = tracker.metadata.read
    match call.text("what"):
        case "domain":
            return model.of_domain(await read(removal.domain, call.name("domain", errors.NoDomain)))
        case "class":
            domain, name = call.name("domain", errors.NoDomain), call.name("class", errors.NoClass)
            return model.of_class(await read(removal.storage_class, domain, name))
        case "host":
            return model.of_host(await read(removal.host, call.name("host", errors.NoHost)))
        case "device":
            return model.of_device(await read(removal.device, call.identifier("devid", _LARGEST_DEVID)))
        case "setting":
            field = _setting(call)
            return model.of_setting(field, await read(rows.get_setting, field))
        case _:
            raise errors.BadParams


def _setting(call: TrackerRequest) -> str:
    field = call.name("key", errors.BadParams)
    settings.writable(field)
    return field


async def tawara_delete_device(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Remove a dead device to which no rows refer any more."""
    await tracker.metadata.write(removal.delete_device, call.identifier("devid", _LARGEST_DEVID))
    await tracker.view.renew()
    return {}


async def tawara_remove_setting(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Remove a setting, so that its default applies."""
    await tracker.metadata.write(rows.set_setting, _setting(call), None)
    await tracker.view.refresh()
    return {}
