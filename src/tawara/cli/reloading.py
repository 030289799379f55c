"""Reloads the configuration on SIGHUP: applies the log level, and logs other changes, which need a restart."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from tawara.cli.configuration import Configuration
from tawara.cli.log import set_level
from tawara.model.errors import ConfigurationError

log = structlog.get_logger(__name__)

RELOAD: Final = signal.SIGHUP
UNUSED: Final = (signal.SIGUSR1, signal.SIGUSR2)
"""Signals that other daemons use, and these ignore."""


def survive() -> None:
    """Ignore signals that do not stop a daemon, until their handlers are installed."""
    for number in (RELOAD, *UNUSED):
        signal.signal(number, signal.SIG_IGN)


class Reloader:
    """Reads the configuration again and applies what can change. Blocks."""

    def __init__(self, read: Callable[[], Configuration], running: Configuration) -> None:
        """`read` raises ConfigurationError; `running` is what the daemon was started with."""
        self._read = read
        self._running = running

    def reload(self) -> None:
        """Apply what can change; log what cannot. Raises nothing: a file with an error changes nothing."""
        try:
            wanted = self._read()
        except ConfigurationError as error:
            log.warning("configuration_not_reloaded", reason=str(error))
            return
        set_level(wanted.log.level)
        log.info("configuration_reloaded", level=wanted.log.level)
        if waiting := changed(self._running, wanted):
            log.warning("settings_need_restart", settings=waiting)


def changed(running: Configuration, wanted: Configuration) -> list[str]:
    """Return the settings, as `section.name`, that differ and cannot change while the daemon runs."""
    return [
        f"{section.name}.{field.name}"
        for section in msgspec.structs.fields(Configuration)
        for field in msgspec.structs.fields(section.type)
        if (section.name, field.name) != ("log", "level")
        and getattr(getattr(running, section.name), field.name) != getattr(getattr(wanted, section.name), field.name)
    ]


def ignore(number: signal.Signals) -> None:
    """Log a signal that has no effect."""
    log.info("signal_ignored", signal=number.name)
