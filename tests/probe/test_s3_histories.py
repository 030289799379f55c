"""The checker of S3's histories tells possible ones from impossible ones."""

from __future__ import annotations

import pytest

from tests.probe.histories import NEVER
from tests.probe.s3_histories import S3Call, S3Result, S3Verb, explained


def write(content: str, began: int, ended: int, answer: S3Result = S3Result.DONE, **condition: object) -> S3Call:
    """A write."""
    return S3Call(S3Verb.WRITE, began, ended, answer, content, **condition)  # type: ignore[arg-type]


def read(answer: S3Result | str, began: int, ended: int) -> S3Call:
    """A read."""
    return S3Call(S3Verb.READ, began, ended, answer)


GONE = S3Call(S3Verb.DELETE, 5, 6, S3Result.DONE)


@pytest.mark.parametrize(
    "calls",
    [
        [write("x", 1, 2), read("x", 3, 4), GONE, read(S3Result.ABSENT, 7, 8)],
        [write("x", 1, 4), write("y", 2, 3), read("x", 5, 6)],
        [write("x", 1, 4), write("y", 2, 3), read("y", 5, 6)],
        [write("x", 1, 4, only_new=True), write("y", 2, 3, S3Result.FAILED, only_new=True)],
        [write("x", 1, 2), write("y", 3, 4, only_over="x"), write("z", 5, 6, S3Result.FAILED, only_over="x")],
        [write("y", 1, 2, S3Result.ABSENT, only_over="x")],
        [write("x", 1, NEVER, S3Result.LOST), read(S3Result.ABSENT, 2, 3), read("x", 4, 5)],
    ],
)
def test_possible(calls: list[S3Call]) -> None:
    """Histories of a store that does one request after another are explained, also with lost answers."""
    assert explained(calls)


@pytest.mark.parametrize(
    "calls",
    [
        [write("x", 1, 2), read(S3Result.ABSENT, 3, 4)],
        [write("x", 1, 2), write("y", 3, 4), read("x", 5, 6)],
        [write("x", 1, 2), GONE, read("x", 7, 8)],
        [write("x", 1, 4, only_new=True), write("y", 2, 3, only_new=True)],
        [write("x", 1, 2), write("y", 3, 4, S3Result.FAILED, only_over="x")],
        [read("x", 1, 2)],
        [write("x", 1, NEVER, S3Result.LOST), read("x", 2, 3), read(S3Result.ABSENT, 4, 5)],
    ],
)
def test_impossible(calls: list[S3Call]) -> None:
    """A lost update, a stale read, two winners and a wrong refusal have no history."""
    assert not explained(calls)
