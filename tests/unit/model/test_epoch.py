"""Epochs: which database of a store is the latest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tawara.model.epoch import AHEAD, KEPT, Lineage, Relation, explain, relation
from tawara.wire import epoch

START = Lineage("0123456789abcdef", ((1, "aaaa"),))


def later(lineage: Lineage, *tokens: str) -> Lineage:
    for token in tokens:
        lineage = lineage.advanced(token)
    return lineage


def test_a_database_knows_its_own_marks() -> None:
    """A database recognises every mark that it has ever written."""
    lineage, marks = START, [START.current]
    for number in range(2 * KEPT):
        lineage = lineage.advanced(f"{number:04x}")
        marks.append(lineage.current)
    assert {lineage.relation(mark) for mark in marks} == {Relation.KNOWN}
    assert len(lineage.steps) == KEPT


def test_a_restored_database_is_older() -> None:
    """A database that is one epoch behind a device is older than it, and the difference is known."""
    now = later(START, "bbbb", "cccc")
    assert START.relation(now.current) is Relation.LATER
    assert explain(START, now.current, 7) == (
        "dev7 carries epoch 3, and this database knows 1: it was put back to an earlier state"
    )


def test_two_copies_of_one_state_differ() -> None:
    """Each of two copies recognises marks of the other, whether or not it has been changed itself."""
    one, other = later(START, "b1b1"), later(START, "b2b2")
    assert one.relation(other.current) is other.relation(one.current) is Relation.DIVERGED
    assert later(one, "c1c1").relation(other.current) is Relation.DIVERGED
    assert START.relation(other.current) is Relation.LATER
    assert "beside this one" in explain(one, other.current, 7)


def test_a_merged_database_is_the_latest() -> None:
    """After a merge the database is ahead of all others, which then are older, however many epochs they add."""
    merged = later(START, "b1b1").advanced("mmmm", beyond=50 + AHEAD)
    old = later(START, *(f"{number:04x}" for number in range(1000)))
    assert merged.relation(old.current) is Relation.KNOWN
    assert old.relation(merged.current) is Relation.LATER


def test_another_store() -> None:
    """The mark of another store is neither earlier nor later."""
    assert START.relation(replace(START.current, store="ffffffffffffffff", number=99)) is Relation.OTHER_STORE


def test_no_epoch_yet() -> None:
    """A device without a mark has no relation; a database without an epoch is older than any device that has a mark."""
    assert relation(None, None) is relation(START, None) is Relation.KNOWN
    assert relation(None, START.current) is Relation.LATER


@pytest.mark.parametrize("text", [None, "", "store", "store x", "store 1:", "store a:b", "store 1:a 2"])
def test_an_invalid_setting_is_no_lineage(text: str | None) -> None:
    """A setting that cannot be parsed counts as none."""
    assert Lineage.parse(text) is None


def test_round_trip() -> None:
    """Lineages and marks are parsed as they were written; a damaged mark is none."""
    lineage = later(START, "bbbb", "cccc")
    assert Lineage.parse(str(lineage)) == lineage
    assert epoch.parse(epoch.render(lineage.current)) == lineage.current
    assert epoch.parse(epoch.render(lineage.current)[:-1]) is None
    assert epoch.parse(b"store: x\n") is None
