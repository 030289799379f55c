"""`tawara explain`: where a file is and why, whether its class is satisfied, pending work, and what blocks it."""

from __future__ import annotations

from dataclasses import asdict
from itertools import groupby
from typing import Annotated, Final

from cyclopts import Parameter

from tawara.cli import output
from tawara.cli.session import DEFAULT, Session, file_at
from tawara.cli.usage import MissingArgument
from tawara.model.errors import Exit
from tawara.model.explanation import Explanation, FileVerdict, Statement, Topic

_HEADS: Final = {
    Topic.FILE: "",
    Topic.COPY: "Copies",
    Topic.POLICY: "Enough",
    Topic.PENDING: "Pending",
    Topic.OBSTACLE: "Blocked by",
}
_EXITS: Final = {
    FileVerdict.INCOMPLETE: Exit.FAILURE,
    FileVerdict.LOST: Exit.CORRUPT,
    FileVerdict.UNKNOWN: Exit.NOT_FOUND,
}


async def explain(
    where: str | None = None,
    /,
    *,
    fid: Annotated[int | None, Parameter(help="The fid of a file, an upload or a deleted file.")] = None,
    verify: Annotated[bool, Parameter(negative="--no-verify")] = True,
    session: Session = DEFAULT,
) -> int:
    """Explain a file: where its replicas are and why, whether its class is satisfied, pending work, what blocks it.

    The exit code is 0 if its class is satisfied, 1 if replicas are missing or unreadable, 7 if none is left, and 3 if
    the file is not found.

    For example:

        tawara explain photos/cat.jpg

        tawara explain --fid 4711 --json

    Parameters
    ----------
    where
        DOMAIN/KEY.
    verify
        Also ask the storage nodes for the size of each replica.
    """
    if (where is None) == (fid is None):
        raise MissingArgument("explain", "DOMAIN/KEY | --fid NUMBER", missing="argument: DOMAIN/KEY")
    async with session.client() as client:
        if fid is not None:
            found = await client.explain_fid(fid, verify=verify)
        else:
            found = await client.explain(*await file_at(client, where), verify=verify)
    if session.json:
        output.json_line(asdict(found))
    else:
        _show(found)
    return _EXITS.get(found.verdict, Exit.OK)


def _show(found: Explanation) -> None:
    order = list(_HEADS)
    sentences = sorted(found.sentences, key=lambda each: order.index(each.topic))
    for topic, group in groupby(sentences, key=_topic):
        if _HEADS[topic]:
            output.line()
            output.line(f"{_HEADS[topic]}:")
        for each in group:
            indent = "  " if _HEADS[topic] else ""
            output.line(output.shown(f"{indent}{'! ' if each.trouble else ''}{each.text}."))


def _topic(sentence: Statement) -> Topic:
    return sentence.topic
