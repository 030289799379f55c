"""Usage errors that commands raise themselves: they name the command and show its usage."""

from __future__ import annotations

from tawara.model.errors import UsageError


class MissingArgument(UsageError):
    """A command was called without an argument that it needs."""

    code = "missing_argument"
    message = "Missing argument"
    hint = "See the command with --help."

    def __init__(self, command: str, usage: str, *, missing: str = "argument", hint: str | None = None) -> None:
        """`command` without `tawara`, such as `device change`; `usage`: what follows it."""
        super().__init__(
            f"tawara {command}: missing {missing}; usage: tawara {command} {usage}",
            hint=hint or f"See `tawara {command} --help`.",
        )
