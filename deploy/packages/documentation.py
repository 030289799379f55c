"""Manual pages and completions, made from the help of the command line."""

from __future__ import annotations

import io
import re
from typing import Any

from cyclopts import App
from rich.console import Console

import tawara
from tawara.cli import build

_WIDTH = 100
_COMPLETIONS = {
    "bash": "/usr/share/bash-completion/completions/tawara",
    "zsh": "/usr/share/zsh/vendor-completions/_tawara",
    "fish": "/usr/share/fish/vendor_completions.d/tawara.fish",
}


def completion_scripts() -> dict[str, str]:
    """Return the completion script of each shell by its path on the system."""
    shells: Any = _COMPLETIONS
    return {path: build().generate_completion(prog_name="tawara", shell=shell) + "\n" for shell, path in shells.items()}


def man_pages() -> dict[str, str]:
    """Return the manual pages by their path: tawara(1), and one for each command."""
    app = build()
    names = [name for name in app if not name.startswith("-")]
    pages = {"/usr/share/man/man1/tawara.1": man_page("tawara", help_of([]), [f"tawara-{each}" for each in names])}
    for name in names:
        text = "\n".join(help_of([name, *more]) for more in ([], *_subcommands(name)))
        pages[f"/usr/share/man/man1/tawara-{name}.1"] = man_page(f"tawara-{name}", text, ["tawara"])
    return pages


def _subcommands(name: str) -> list[list[str]]:
    app = build(name)[name]
    return [[each] for each in app if not each.startswith("-")] if isinstance(app, App) else []


def help_of(words: list[str]) -> str:
    """Return the help of a command as text."""
    console = Console(file=io.StringIO(), width=_WIDTH, force_terminal=False, no_color=True, legacy_windows=False)
    build(words[0] if words else None).help_print(words, console=console)
    assert isinstance(console.file, io.StringIO)
    return re.sub(r"[ \t]+$", "", console.file.getvalue(), flags=re.MULTILINE)


def man_page(name: str, text: str, also: list[str]) -> str:
    """Return a page of section 1 that has `text` as it is (man(7))."""
    body = "\n".join(_escape(line) for line in text.strip("\n").splitlines())
    first = next((line.strip() for line in text.splitlines() if line.strip() and not line.startswith("Usage")), name)
    listed = ", ".join(f"{_escape(each)}(1)" for each in also)
    return (
        f'.TH {_escape(name.upper())} 1 "" "Tawara {tawara.__version__}"\n'
        f".SH NAME\n{_escape(name)} \\- {_escape(first.rstrip('.'))}\n"
        f".SH DESCRIPTION\n.nf\n{body}\n.fi\n.SH SEE ALSO\n{listed}\n"
    )


def _escape(line: str) -> str:
    """Return a line in which nothing is an instruction of roff."""
    escaped = line.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
