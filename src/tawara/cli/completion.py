"""`tawara completion`: print the completion script of a shell."""

from __future__ import annotations

import os
from pathlib import PurePath
from typing import Literal, TypeAlias, get_args

from tawara.cli import build, output
from tawara.cli.usage import MissingArgument

Shell: TypeAlias = Literal["bash", "zsh", "fish"]


def completion(shell: Shell | None = None, /) -> None:
    """Print the script that completes commands and options. It changes nothing: the shell must source it.

    For example:

        source <(tawara completion bash)

        tawara completion fish > ~/.config/fish/completions/tawara.fish

    Parameters
    ----------
    shell
        The shell; default: that of $SHELL.
    """
    mine = PurePath(os.environ.get("SHELL", "")).name
    chosen = shell or next((each for each in get_args(Shell) if each == mine), None)
    if chosen is None:
        raise MissingArgument("completion", "|".join(get_args(Shell)), missing="argument: the shell")
    output.line(build().generate_completion(prog_name="tawara", shell=chosen))
