"""The one hierarchy of errors: each says once how it looks on every surface.

A class's docstring is its default message, for people. Each class maps once to a tracker code (`code`, derived from
the class's name unless given), a text for the tracker's wire (`text`, where MogileFS sends other words than ours; of
those that are `wordless` it sends the code twice; docs/mogilefs.md 7), an HTTP status, and a CLI exit
code; `hint` says what to do next.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Any, ClassVar


class Exit(IntEnum):
    """Exit codes of the command line, the same for every command."""

    OK = 0
    FAILURE = 1
    """The operation failed, or failed in part."""
    USAGE = 2
    """The command line or the configuration is wrong."""
    NOT_FOUND = 3
    """What was asked for does not exist."""
    CONFLICT = 4
    """It exists already, or is in use."""
    DENIED = 5
    """Not authorised."""
    UNAVAILABLE = 6
    """A server did not answer, or has no room; trying again later may work."""
    CORRUPT = 7
    """What arrived is not what was stored."""


class TawaraError(Exception):
    """Operation failed"""

    code: ClassVar[str] = "failure"
    text: ClassVar[str | None] = None
    http: ClassVar[int] = 500
    exit: ClassVar[Exit] = Exit.FAILURE
    hint: str | None = None

    def __init__(self, message: str | None = None, *, hint: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").strip()
        self.specific = message is not None
        if hint is not None:
            self.hint = hint
        super().__init__(self.message)

    def __init_subclass__(cls, *, wordless: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "code" not in cls.__dict__ and not cls.__name__.endswith("Error"):
            cls.code = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()
        if wordless:
            cls.text = cls.code

    @property
    def wire_text(self) -> str:
        """What the tracker sends after the code: never empty, for clients split the line into code and text."""
        return self.message if self.specific else (self.text or self.message)


# --- the families: a status and an exit code for each kind of trouble ------------------------------------------------


class UsageError(TawaraError):
    """The request is not understood"""

    code = "bad_params"
    http = 400
    exit = Exit.USAGE


class NotFoundError(TawaraError):
    """There is no such thing"""

    http = 404
    exit = Exit.NOT_FOUND


class ConflictError(TawaraError):
    """It exists already, or is in use"""

    http = 409
    exit = Exit.CONFLICT


class UnavailableError(TawaraError):
    """A part of the store does not answer"""

    http = 503
    exit = Exit.UNAVAILABLE
    hint = "Try again; `tawara status` shows what is down."


class CorruptError(TawaraError):
    """What arrived is not what was meant"""

    http = 422
    exit = Exit.CORRUPT


class DeniedError(TawaraError):
    """Not authorised"""

    code = "denied"
    http = 401
    exit = Exit.DENIED
    hint = "Give the secret key: --key FILE, or TAWARA_KEY_FILE."


class ConfigurationError(TawaraError):
    """The configuration is wrong"""

    code = "configuration"
    exit = Exit.USAGE


# --- what is missing or malformed in a request ------------------------------------------------------------------------


class BadParams(UsageError):
    """Invalid parameters to command; please see documentation"""


class BadArgs(UsageError, wordless=True):
    """The arguments contradict each other"""


class BogusArgs(UsageError, wordless=True):
    """The path is not the one that was handed out for this file and device"""


class UnknownCommand(UsageError):
    """Unknown server command"""


class LineTooLong(UsageError):
    """The request line is longer than this tracker accepts"""


class NoDomain(UsageError):
    """No domain provided"""


class NoKey(UsageError, wordless=True):
    """No key provided"""


class NoClass(UsageError):
    """No class provided"""


class NoHost(UsageError):
    """No host provided"""


class NoIp(UsageError):
    """IP required to create host"""


class NoPort(UsageError):
    """Port required to create host"""


class NoFid(UsageError, wordless=True):
    """No fid provided"""


class NoDevid(UsageError, wordless=True):
    """No devid provided"""


class NoPath(UsageError, wordless=True):
    """No path provided"""


class InvalidKey(UsageError, wordless=True):
    """The key is not valid, or does not exist"""


class InvalidName(UsageError, wordless=True):
    """The name is not valid"""


class InvalidDestdev(UsageError):
    """The file was uploaded to a device that was not offered"""


class InvalidMindevcount(UsageError):
    """The mindevcount must be at least 1"""


class InvalidReplpolicy(UsageError):
    """The replication policy is not understood"""


class InvalidHashtype(UsageError, wordless=True):
    """The hash type is not known"""


class InvalidChecksumFormat(UsageError, wordless=True):
    """A checksum is written NAME:HEX, with NAME one of MD5, SHA-1"""


class InvalidState(UsageError, wordless=True):
    """A device's state is one of alive, dead, down, readonly, drain"""


class InvalidDevid(UsageError, wordless=True):
    """A device's id is a whole number"""


class InvalidFormat(UsageError):
    """The value does not have the form that this setting needs"""


class UnknownState(UsageError):
    """Invalid/unknown state"""


class AfterMismatch(UsageError):
    """Pattern does not match the after-value?"""


class NotWritable(UsageError, wordless=True):
    """This setting cannot be written"""


class StateTooHigh(UsageError):
    """Status cannot go from dead to alive; must use down"""


class HostMismatch(UsageError):
    """The device specified doesn't belong to the host specified"""


class NodelDefaultClass(UsageError):
    """Cannot delete the default class"""


class BadRebalPol(UsageError):
    """The rebalance policy is not understood"""


# --- what is not there ------------------------------------------------------------------------------------------------


class UnregDomain(NotFoundError):
    """Domain name invalid/not found"""


class DomainNotFound(NotFoundError):
    """Domain not found"""


class UnregClass(NotFoundError, wordless=True):
    """There is no such class in the domain"""


class ClassNotFound(NotFoundError):
    """Class not found"""


class UnknownKey(NotFoundError, wordless=True):
    """There is no file of that name"""


class NoneMatch(NotFoundError):
    """No keys match that pattern and after-value (if any)."""


class NoDevice(NotFoundError):
    """Device not found"""


class UnknownHost(NotFoundError):
    """Host not found"""


class HostNotFound(NotFoundError):
    """Host not found"""


class UnknownHostid(NotFoundError, wordless=True):
    """There is no host with that id"""


class NoTempFile(NotFoundError):
    """No tempfile or file already closed"""


class NoRebalPolicy(NotFoundError):
    """No rebalance policy available"""


class NoRebalState(NotFoundError):
    """No available rebalance status"""


# --- what is there already --------------------------------------------------------------------------------------------


class KeyExists(ConflictError):
    """Target key name already exists; can't overwrite."""


class FidExists(ConflictError, wordless=True):
    """That fid is stored already"""


class FidInUse(ConflictError, wordless=True):
    """That fid is in use already"""


class DomainExists(ConflictError):
    """That domain already exists"""


class DomainHasFiles(ConflictError):
    """Domain still has files, unable to delete"""


class DomainHasClasses(ConflictError, wordless=True):
    """Domain still has classes, unable to delete"""


class ClassExists(ConflictError):
    """That class already exists in that domain"""


class ClassHasFiles(ConflictError):
    """Class still has files, unable to delete"""


class HostExists(ConflictError):
    """That host already exists"""


class HostNotEmpty(ConflictError):
    """Unable to delete host; it contains devices still"""


class DeviceInUse(ConflictError):
    """The device is not dead, or has files still"""


class ExistingDevid(ConflictError, wordless=True):
    """A device with that id exists already"""


class Dup(ConflictError):
    """Duplicate name/number used."""


class DeviceNotAbsent(ConflictError):
    """Nothing is held against that device"""

    hint = "`tawara status` shows which devices are absent."


class FsckRunning(ConflictError):
    """A check (fsck) is running; stop it first"""


class RebalRunning(ConflictError):
    """A rebalance is running; stop it first"""


class RebalNotStarted(ConflictError):
    """Rebalance not running"""


class NoSetRebal(ConflictError):
    """The policy cannot be changed while a rebalance is running"""


class LeaseLost(ConflictError):
    """The lease ran out, and the work was taken over or undone by another worker"""


class PortTaken(ConflictError):
    """The port is taken"""


class InUse(ConflictError):
    """Another Tawara is running there"""


class PreconditionFailed(ConflictError):
    """It is not, or no longer, as the request demands"""

    http = 412


# --- what cannot be done now ------------------------------------------------------------------------------------------


class NoDevices(UnavailableError):
    """No devices found to store file"""

    http = 507
    hint = "Every device is full, down or read-only; `tawara status` shows which."


class Db(UnavailableError):
    """Database error"""

    hint = "The database does not answer; the tracker goes on by itself when it returns."


class DatabaseUnavailable(Db):
    """The database does not answer"""

    # It is certain that nothing was changed: another tracker, with another way to the database, may be asked.


class DatabaseFull(Db):
    """The disk of the database is full"""

    http = 507
    hint = "Make space there; the tracker goes on by itself then."


class TooManyFiles(UnavailableError):
    """There are too many files on these devices to look at them one by one"""

    hint = "Ask about fewer devices at a time."


class FidsExhausted(UnavailableError):
    """The counter of fids is at its end: no upload can be opened"""

    hint = "Run `tawara fids`: it shows where the counter stands, and with --reset brings it back."


class StaleDatabase(UnavailableError):
    """The database is older than what the devices hold"""

    @classmethod
    def because(cls, reason: str) -> StaleDatabase:
        """The error with what is to be done; `reason` is which device tells what."""
        return cls(
            f"The database is older than what the devices hold ({reason}). Nothing is written until the lost files are"
            " merged from the devices: tawara rebuild --merge DATABASE_URL"
        )


class Busy(UnavailableError):
    """Too many requests are waiting; try again"""


class NodeUnreachable(UnavailableError):
    """The storage node does not answer"""

    nothing_sent = False
    """Whether it is certain that the node got nothing: no connection to it could be made."""


class FidConflict(NodeUnreachable):
    """The storage node holds other content under this fid"""

    hint = "The database may be older than what the devices hold: see `tawara status` and docs/recovery.md."


class NodeFull(NodeUnreachable):
    """The storage node's device is full"""

    http = 507


class ReadFailed(UnavailableError):
    """The storage node cannot read the file from its disk"""


class TrackerUnreachable(UnavailableError):
    """No tracker answers"""

    hint = "Is the store running? `tawara up` starts it; --tracker HOST:PORT names another."


class NoSource(UnavailableError):
    """No replica of the file can be read now"""


class PluginAborted(TawaraError):
    """Action aborted by plugin"""


# --- what is not as it should be --------------------------------------------------------------------------------------


class SizeMismatch(CorruptError):
    """The stored file has another size than the client says"""


class SizeVerifyError(CorruptError):
    """The stored file cannot be found where the client says it is"""

    code = "size_verify_error"


class ChecksumMismatch(CorruptError):
    """The stored file has another checksum than the client says"""


class CopyErr(CorruptError):
    """A copy failed"""


BY_CODE: dict[str, type[TawaraError]] = {}
"""Tracker code -> class, for a client that turns an answer back into the error."""


def _index(family: type[TawaraError]) -> None:
    for each in family.__subclasses__():
        BY_CODE.setdefault(each.code, each)
        _index(each)


_index(TawaraError)
