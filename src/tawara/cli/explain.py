"""`tawara explain`: where a file is and why, whether that is enough, what is pending and what stands in the way."""

from __future__ import annotations

from dataclasses import asdict
from itertools import groupby
from typing import Annotated, Final

from cyclopts import Parameter

from tawara.cli import output
from tawara.cli.session import DEFAULT, Session, file_at
from tawara.model import errors
from tawara.model.errors import Exit
from tawara.model.explanation import Explanation, FileVerdict, Sentence, Topic

_HEADS: Final = {
    Topic.FILE: "",
    Topic.COPY: "Copies",
    Topic.POLICY: "Enough",
    Topic.PENDING: "Pending",
    Topic.OBSTACLE: "In the way",
}
_EXITS: Final = {FileVerdict.WANTING: Exit.FAILURE, FileVerdict.LOST: Exit.CORRUPT, FileVerdict.UNKNOWN: Exit.NOT_FOUND}


async def explain(
    where: str | None = None,
    /,
    *,
    fid: Annotated[int | None, Parameter(help="The number of a file, an upload, or what was deleted.")] = None,
    verify: Annotated[bool, Parameter(negative="--no-verify")] = True,
    session: Session = DEFAULT,
) -> int:
    """Explain a file: where its copies are, why there, whether that is enough, what is pending, what is in the way.

    The exit code is 0 when its class is satisfied, 1 when copies are missing or cannot be read, 7 when none is left,
    and 3 when there is no trace of it.

    For example:

        tawara explain photos/cat.jpg

        tawara explain --fid 4711 --json

    Parameters
    ----------
    where
        DOMAIN/KEY.
    verify
        Ask the storage nodes for each copy's size, too.
    """
    if (where is None) == (fid is None):
        raise errors.UsageError("Explain what? Say DOMAIN/KEY, or --fid NUMBER")
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


def _topic(sentence: Sentence) -> Topic:
    return sentence.topic
