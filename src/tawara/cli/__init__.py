"""The command line: command registry and top-level error handling.

Commands are registered by import string and imported when they are called, so that `tawara --help` is quick.
"""

from __future__ import annotations

import difflib
import json
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

from cyclopts import App, CycloptsError, Group, Parameter, UnknownCommandError

from tawara import __version__
from tawara.cli import streams
from tawara.model.errors import Exit, TawaraError

INTERRUPTED: Final = 130
"""Exit code after Ctrl-C (128 + SIGINT)."""
BROKEN_PIPE: Final = 141
"""Exit code when the reader of the output closed it (128 + SIGPIPE)."""

_DAEMONS, _FILES, _CLUSTER, _MACHINES, _SHELL = (
    Group(name, sort_key=place)
    for place, name in enumerate(("Run the store", "Files", "Cluster", "Packaged machines", "Shell"))
)
_COMMANDS: Final = (
    (_DAEMONS, "up", "tawara.cli.up:up", "Run the whole store on this machine"),
    (_DAEMONS, "tracker", "tawara.cli.daemons:tracker", "Run a tracker"),
    (_DAEMONS, "node", "tawara.cli.daemons:node", "Run a storage node"),
    (_DAEMONS, "workers", "tawara.cli.daemons:workers", "Run the workers: replication, deletion, maintenance"),
    (_DAEMONS, "gateway", "tawara.cli.daemons:gateway", "Run the HTTP gateway"),
    (_DAEMONS, "nginx-config", "tawara.cli.nginx_config:nginx_config", "Print the configuration of another nginx"),
    (_DAEMONS, "upgrade", "tawara.cli.upgrade:upgrade", "Migrate the database of an older Tawara"),
    (_DAEMONS, "adopt", "tawara.cli.adopt:adopt", "Adopt a database of MogileFS, or undo that"),
    (_FILES, "put", "tawara.cli.put:put", "Store files"),
    (_FILES, "get", "tawara.cli.get:get", "Fetch files"),
    (_FILES, "cp", "tawara.cli.cp:cp", "Copy stored files"),
    (_FILES, "ls", "tawara.cli.ls:ls", "List domains, or the keys of one"),
    (_FILES, "rm", "tawara.cli.rm:rm", "Delete files"),
    (_FILES, "mount", "tawara.cli.mount:mount", "Mount a domain as a directory"),
    (_FILES, "umount", "tawara.cli.mount:umount", "Unmount a directory, once its files are stored"),
    (_FILES, "info", "tawara.cli.info:info", "Show a file and where its replicas are"),
    (_FILES, "explain", "tawara.cli.explain:explain", "Explain where a file is, and its pending work"),
    (_CLUSTER, "status", "tawara.cli.status:status", "Show trackers, hosts, devices, and what is wrong"),
    (_CLUSTER, "health", "tawara.cli.health:app", "Show the findings by code; mute one for a time"),
    (_CLUSTER, "simulate", "tawara.cli.simulate:simulate", "Show the effect of losing hosts or devices"),
    (_CLUSTER, "domain", "tawara.cli.domain:app", "List, add and remove domains"),
    (_CLUSTER, "class", "tawara.cli.storage_class:app", "List, add, change and remove storage classes"),
    (_CLUSTER, "host", "tawara.cli.host:app", "List, add, change and remove hosts"),
    (_CLUSTER, "device", "tawara.cli.device:app", "List, add, change and remove devices"),
    (_CLUSTER, "fsck", "tawara.cli.fsck:app", "Check all files and repair them (fsck)"),
    (_CLUSTER, "scrub", "tawara.cli.scrub:app", "Show progress and findings of the scrub"),
    (_CLUSTER, "rebalance", "tawara.cli.rebalance:app", "Move files between devices"),
    (_CLUSTER, "key", "tawara.cli.key:app", "Create, list, show and revoke access keys"),
    (_CLUSTER, "settings", "tawara.cli.settings:app", "List, change and remove the cluster's settings"),
    (_CLUSTER, "rebuild", "tawara.cli.rebuild:rebuild", "Rebuild the database from the devices alone"),
    (_CLUSTER, "backup", "tawara.cli.backup:backup", "Back the database up, incrementally"),
    (_CLUSTER, "restore", "tawara.cli.backup:restore", "Restore a database from a backup"),
    (_CLUSTER, "fids", "tawara.cli.fids:fids", "Show the counter of fids, or reset it"),
    (_CLUSTER, "drill", "tawara.cli.drill:drill", "Check whether a rebuild would restore every file"),
    (_MACHINES, "vm", "tawara.cli.vm:app", "Build and run virtual machines as packages"),
    (_SHELL, "completion", "tawara.cli.completion:completion", "Print the completion script of a shell"),
)

_EXIT_CODES: Final = (
    "Exit codes: 0 done, 1 failed (also in part), 2 wrong usage or configuration, 3 not found, 4 exists already or in"
    " use, 5 not authorised, 6 a server does not answer or has no space, 7 damaged data, 130 Ctrl-C."
)

STREAM: Final = "\0"
"""Replaces an argument `-` (standard input or output). No real argument contains a NUL."""


def build(called: str | None = None) -> App:
    """Build the command line: each command with its short description, `called` with its complete help."""
    made = App(
        name="tawara",
        help="Tawara: a replicated file store and packaged virtual machines.",
        help_epilogue=_EXIT_CODES,
        # Markdown is wrapped well but slow to load: only for the complete help of one command.
        help_format="markdown" if called in {name for _, name, _, _ in _COMMANDS} else "plaintext",
        version=__version__,
        default_parameter=Parameter(negative="", show_default=False),
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )
    for group, name, where, short in _COMMANDS:
        made.command(where, name=name, help=None if name == called else short, group=group)
    return made


app = build()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (default: that of the process); return the exit code."""
    streams.prepare()
    if arguments is None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # Python leaves it ignored where the parent ignored it
    given = sys.argv[1:] if arguments is None else arguments
    say = _failed_as_json if _wants_json(given) else _failed
    try:
        words = [STREAM if word == "-" else word for word in given]
        outcome = build(words[0] if words else None)(words, print_error=False, exit_on_error=False)
        sys.stdout.flush()
    except TawaraError as error:
        return say(error.exit, error.message, error.hint, code=error.code)
    except UnknownCommandError as error:
        return say(Exit.USAGE, _no_such(error), f"See `{_command_of(error)} --help`.")
    except CycloptsError as error:
        return say(Exit.USAGE, f"{_command_of(error)}: {error}", _usage_of(error))
    except ImportError as error:  # the package for hosts of machines has `tawara vm` only
        what = f"tawara {given[0]} is not part of this installation, or is damaged ({error})"
        return say(Exit.USAGE, what, "Install the whole of it: pip install tawara", code="not_installed")
    except KeyboardInterrupt:
        return say(INTERRUPTED, "interrupted", code="interrupted")
    except BrokenPipeError:
        streams.flush_output()
        return BROKEN_PIPE
    except OSError as error:
        name = "standard output" if not streams.flush_output() else error.filename
        named = f"{os.fsdecode(name)}: " if name is not None else ""
        return say(_exit_of(error), f"{named}{error.strerror or error}", code="system")
    return outcome if isinstance(outcome, int) else Exit.OK


def _wants_json(words: Sequence[str]) -> bool:
    """Return whether the options (before `--`) include --json, also on an invalid command line."""
    return "--json" in (words[: words.index("--")] if "--" in words else words)


def _failed_as_json(status: int, message: str, hint: str | None = None, *, code: str = "usage") -> int:
    """Print the error as one JSON object on standard error."""
    print(json.dumps({"error": code, "message": message, "hint": hint, "exit": status}), file=sys.stderr)
    return status


def _failed(status: int, message: str, hint: str | None = None, *, code: str = "usage") -> int:
    """Print the error: one line, unless the message is a list. `code` is printed with --json only.

    A message that begins with its command (`tawara put: …`) is printed as it is.
    """
    red, plain = ("\x1b[31m", "\x1b[0m") if sys.stderr.isatty() and not os.environ.get("NO_COLOR") else ("", "")
    text = "".join(each if each.isprintable() or each == "\n" else repr(each)[1:-1] for each in message.rstrip(". \n"))
    end = "" if text.endswith("?") else "."
    named = text if text.startswith("tawara ") else f"tawara: {text}"
    print(f"{red}{named}{plain}{end}{f' {hint}' if hint else ''}", file=sys.stderr)
    return status


def _exit_of(error: OSError) -> Exit:
    match error:
        case FileNotFoundError():
            return Exit.NOT_FOUND
        case FileExistsError():
            return Exit.CONFLICT
        case PermissionError():
            return Exit.DENIED
        case _:
            return Exit.FAILURE


def _no_such(error: UnknownCommandError) -> str:
    """Name the unknown command, and the most similar one that exists."""
    command = error.unused_tokens[0] if error.unused_tokens else ""
    names = [name for name in error.app or () if not name.startswith("-")]
    near = difflib.get_close_matches(command, names, n=1)
    meant = f"; is {near[0]!r} meant?" if near else f"; there are {', '.join(names)}" if error.command_chain else ""
    return f"Unknown command {' '.join([*(error.command_chain or ()), command])!r}{meant}"


def _command_of(error: CycloptsError) -> str:
    return " ".join(["tawara", *(error.command_chain or ())])


def _usage_of(error: CycloptsError) -> str:
    """Return the usage of the command that was called, and where to read more."""
    from cyclopts.help import format_usage

    chain = list(error.command_chain or ())
    usage = str(format_usage(build(chain[0] if chain else None), chain)).strip()
    return f"Usage: {usage}; see `{_command_of(error)} --help`."
