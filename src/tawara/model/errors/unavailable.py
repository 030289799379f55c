"""Errors of components that do not answer or are full: HTTP 503 or 507, exit code 6."""

from __future__ import annotations

from tawara.model.errors.families import TawaraError, UnavailableError


class NoDevices(UnavailableError):
    """No device can take the file."""

    code = "no_devices"
    message = "No devices found to store file"
    hint = "Every device is full, down or read-only; `tawara status` shows which."
    http = 507


class Db(UnavailableError):
    """The database reported an error."""

    code = "db"
    message = "Database error"
    hint = "The tracker continues when the database answers again."


class DatabaseUnavailable(Db):
    """The database does not answer, and certainly nothing was changed.

    The request can be sent to another tracker, which may reach the database.
    """

    code = "database_unavailable"
    message = "The database does not answer"
    hint = "The tracker continues when the database answers again."


class DatabaseFull(Db):
    """The file system of the database is full."""

    code = "database_full"
    message = "The disk of the database is full"
    hint = "Free space there; the tracker then continues."
    http = 507


class TooManyFiles(UnavailableError):
    """The devices have more files than one request may examine."""

    code = "too_many_files"
    message = "Too many files on these devices to examine each"
    hint = "Ask about fewer devices at a time."


class FidsExhausted(UnavailableError):
    """The counter of fids is at its end."""

    code = "fids_exhausted"
    message = "The counter of fids is at its end: no upload can be opened"
    hint = "Run `tawara fids` to see the counter; --reset sets it back."


class StaleDatabase(UnavailableError):
    """The database is older than what the devices hold: nothing is written with it."""

    code = "stale_database"
    message = "The database is older than what the devices hold"
    hint = "Merge the lost files from the devices: tawara rebuild --merge DATABASE_URL"

    @classmethod
    def because(cls, reason: str) -> StaleDatabase:
        """Return the error with the device that showed it (`reason`) and what to do, for clients that show no hint."""
        return cls(
            f"The database is older than what the devices hold ({reason}). Nothing is written until the lost files are"
            " merged from the devices: tawara rebuild --merge DATABASE_URL"
        )


class Busy(UnavailableError):
    """The tracker has as many requests waiting as it accepts."""

    code = "busy"
    message = "Too many requests are waiting; try again"
    hint = None


class NodeUnreachable(UnavailableError):
    """A storage node does not answer."""

    code = "node_unreachable"
    message = "The storage node does not answer"
    hint = "`tawara status` shows which nodes answer."

    nothing_sent = False
    """True if the node certainly received nothing: no connection to it could be made."""


class FidConflict(NodeUnreachable):
    """A storage node holds other content under this fid."""

    code = "fid_conflict"
    message = "The storage node holds other content under this fid"
    hint = "The database may be older than what the devices hold: see `tawara status` and docs/recovery.md."


class CannotAssemble(NodeUnreachable):
    """A storage node does not assemble files, or does not hold all sources: the bytes have to be read and sent."""

    code = "cannot_assemble"
    message = "The storage node cannot make the file from what it holds"
    hint = "Read the sources, and PUT the file."


class NodeFull(NodeUnreachable):
    """The device of a storage node is full."""

    code = "node_full"
    message = "The storage node's device is full"
    hint = "Add a device, or delete files."
    http = 507


class ReadFailed(UnavailableError):
    """A storage node cannot read a file from its disk."""

    code = "read_failed"
    message = "The storage node cannot read the file from its disk"
    hint = "`tawara fsck` finds and replaces such replicas."


class TrackerUnreachable(UnavailableError):
    """No tracker answers."""

    code = "tracker_unreachable"
    message = "No tracker answers"
    hint = "Is the store running? `tawara up` starts it; --tracker HOST:PORT names another."


class NoSource(UnavailableError):
    """No replica of a file can be read now."""

    code = "no_source"
    message = "No replica of the file can be read now"
    hint = "`tawara explain DOMAIN/KEY` shows where they are."


class PluginAborted(TawaraError):
    """A plugin of a MogileFS tracker refused the command; Tawara never sends it."""

    code = "plugin_aborted"
    message = "Action aborted by plugin"
    hint = None
