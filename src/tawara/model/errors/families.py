"""The root of the error hierarchy and its families: one HTTP status and one exit code for each kind of failure."""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class Exit(IntEnum):
    """Exit codes of the command line, the same for every command."""

    OK = 0
    FAILURE = 1
    """The operation failed, entirely or in part."""
    USAGE = 2
    """The command line or the configuration is wrong."""
    NOT_FOUND = 3
    """The file, domain, host or device does not exist."""
    CONFLICT = 4
    """It exists already, or is in use."""
    DENIED = 5
    """Not authorised."""
    UNAVAILABLE = 6
    """A server does not answer or is full; a later attempt may succeed."""
    CORRUPT = 7
    """Data differs from what was sent or stored."""


class TawaraError(Exception):
    """Base of all errors that users and clients see.

    Each class states `code`, `message` and `hint` itself; `text`, `http` and `exit` are inherited from its family.
    """

    code: ClassVar[str] = "failure"
    """Tracker code: one word. Unique except for families."""
    message: str = "Operation failed"
    """What is wrong, in the user's terms. An instance can have a more specific one."""
    hint: str | None = None
    """What to do next; None if the message says it."""
    text: ClassVar[str | None] = None
    """Text sent by the tracker in place of `message`, for codes that MogileFS repeats as text (docs/mogilefs.md 7)."""
    http: ClassVar[int] = 500
    """HTTP status."""
    exit: ClassVar[Exit] = Exit.FAILURE
    """Exit code of the command line."""

    def __init__(self, message: str | None = None, *, hint: str | None = None) -> None:
        self.specific = message is not None
        if message:
            self.message = message
        if hint is not None:
            self.hint = hint
        super().__init__(self.message)

    @property
    def wire_text(self) -> str:
        """The text that the tracker sends after the code; never empty, because clients split the line at it."""
        return self.message if self.specific else (self.text or self.message)


class UsageError(TawaraError):
    """A request or command line is invalid."""

    code = "bad_params"
    message = "Invalid request"
    hint: str | None = None
    http = 400
    exit = Exit.USAGE


class NotFoundError(TawaraError):
    """Something that a request names does not exist."""

    code = "not_found"
    message = "Not found"
    hint: str | None = None
    http = 404
    exit = Exit.NOT_FOUND


class ConflictError(TawaraError):
    """Something exists already, is in use or has changed."""

    code = "conflict"
    message = "It exists already, or is in use"
    hint: str | None = None
    http = 409
    exit = Exit.CONFLICT


class UnavailableError(TawaraError):
    """A component does not answer or is full."""

    code = "unavailable"
    message = "A component of the store does not answer"
    hint: str | None = "Try again; `tawara status` shows what is down."
    http = 503
    exit = Exit.UNAVAILABLE


class CorruptError(TawaraError):
    """Data is not what was sent or stored."""

    code = "corrupt"
    message = "Data corrupted: checksum or length mismatch"
    hint: str | None = None
    http = 422
    exit = Exit.CORRUPT


class DeniedError(TawaraError):
    """The request is not authorised."""

    code = "denied"
    message = "Not authorised"
    hint: str | None = None
    http = 401
    exit = Exit.DENIED


class ConfigurationError(TawaraError):
    """The configuration is wrong."""

    code = "configuration"
    message = "The configuration is wrong"
    hint: str | None = None
    exit = Exit.USAGE
