"""The checker of histories accepts possible histories and rejects impossible ones."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.probe.histories import NEVER, Call, File, Status, Verb, explained, refuted_by

ONE, TWO = File(1, "default"), File(2, "default")


def close(file: File, began: int, ended: int, answer: Status = Status.DONE, key: str = "a") -> Call:
    return Call(Verb.CLOSE, key, began, ended, answer, file=file)


def info(answer: Status | File, began: int, ended: int, key: str = "a") -> Call:
    return Call(Verb.INFO, key, began, ended, answer)


def paths(answer: Status | int, began: int, ended: int, key: str = "a") -> Call:
    return Call(Verb.PATHS, key, began, ended, answer)


def delete(answer: Status, began: int, ended: int, key: str = "a") -> Call:
    return Call(Verb.DELETE, key, began, ended, answer)


def rename(answer: Status, began: int, ended: int) -> Call:
    return Call(Verb.RENAME, "a", began, ended, answer, target="b")


def reclass(answer: Status, began: int, ended: int) -> Call:
    return Call(Verb.CLASS, "a", began, ended, answer, storage_class="other")


def test_possible_histories() -> None:
    """Sequential histories, and concurrent ones that have an order, are explained."""
    assert explained([])
    assert explained([close(ONE, 1, 2), close(TWO, 3, 4), info(TWO, 5, 6)])
    assert explained([close(ONE, 1, 2), close(TWO, 3, 8), info(ONE, 4, 5), info(TWO, 6, 7)])
    assert explained(
        [close(ONE, 1, 2), rename(Status.DONE, 3, 8), paths(Status.UNKNOWN_KEY, 4, 5), info(ONE, 6, 7, "b")]
    )
    assert explained([close(ONE, 1, 2), reclass(Status.DONE, 3, 4), info(File(1, "other"), 5, 6)])
    other = File(1, "other")
    assert explained([close(other, 1, 2), close(TWO, 3, 8), reclass(Status.DONE, 4, 7), info(File(2, "other"), 9, 10)])
    assert explained([delete(Status.UNKNOWN_KEY, 1, 2), rename(Status.UNKNOWN_KEY, 3, 4), close(ONE, 5, 6)])
    assert explained([close(ONE, 1, 2), close(TWO, 3, 4, key="b"), rename(Status.KEY_EXISTS, 5, 6), paths(1, 7, 8)])


def test_impossible_histories() -> None:
    """Rejected: a lost close, stale answers, a path after the delete, a key twice or reappearing, lost classes."""
    assert not explained([close(ONE, 1, 2), info(Status.UNKNOWN_KEY, 3, 4)])
    assert not explained([close(ONE, 1, 2), close(TWO, 3, 4), info(ONE, 5, 6)])
    assert not explained([close(ONE, 1, 2), delete(Status.DONE, 3, 4), paths(1, 5, 6)])
    assert not explained([close(ONE, 1, 2), delete(Status.DONE, 3, 4), delete(Status.DONE, 5, 6)])
    assert not explained([close(ONE, 1, 2), rename(Status.DONE, 3, 4), info(ONE, 5, 6), info(ONE, 7, 8, "b")])
    assert not explained([close(ONE, 1, 2), close(TWO, 1, 2), info(ONE, 3, 4), info(TWO, 5, 6)])
    assert not explained([close(ONE, 1, 2), reclass(Status.DONE, 3, 4), info(ONE, 5, 6)])
    assert not explained([close(ONE, 1, 2), close(TWO, 3, 9), info(TWO, 4, 5), info(ONE, 6, 7)])
    assert not explained([close(ONE, 1, 2), close(TWO, 3, 4, key="b"), rename(Status.DONE, 5, 6)])
    assert not explained([close(ONE, 1, 2), delete(Status.UNKNOWN_KEY, 3, 4)])


def test_lost_answers() -> None:
    """A change without a reply may take effect or not, at any later time, but only once and not before."""
    lost = close(TWO, 3, NEVER, Status.LOST)
    for found in (ONE, TWO):
        assert explained([close(ONE, 1, 2), lost, info(found, 5, 6)])
    assert explained([close(ONE, 1, 2), lost, info(ONE, 5, 6), info(TWO, 7, 8)])
    assert not explained([close(ONE, 1, 2), lost, info(TWO, 5, 6), info(ONE, 7, 8)])
    assert not explained([close(ONE, 1, 2), info(TWO, 3, 4), close(TWO, 5, NEVER, Status.LOST)])
    gone = delete(Status.LOST, 3, NEVER)
    assert explained([close(ONE, 1, 2), gone, close(TWO, 4, 5), info(Status.UNKNOWN_KEY, 6, 7)])
    assert not explained(
        [close(ONE, 1, 2), gone, info(Status.UNKNOWN_KEY, 4, 5), close(TWO, 6, 7), info(Status.UNKNOWN_KEY, 8, 9)]
    )


KEYS = st.sampled_from("ab")


@given(st.lists(st.tuples(st.sampled_from(Verb), KEYS, st.integers(0, 3), st.integers(0, 3), st.booleans())))
def test_any_real_history_is_explained(steps: list[tuple[Verb, str, int, int, bool]]) -> None:
    """Calls that take effect one after another, each between its start and its end, are accepted."""
    state: dict[str, File] = {}
    calls = []
    for number, (verb, key, earlier, later, lost) in enumerate(steps):
        now, target = state.get(key), "b" if key == "a" else "a"
        file = File(number, "default")
        answer: Status | File | int = Status.DONE if now else Status.UNKNOWN_KEY
        if verb is Verb.CLOSE:
            answer, state[key] = Status.DONE, file
        elif verb is Verb.INFO and now:
            answer = now
        elif verb is Verb.PATHS and now:
            answer = now.fid
        elif verb is Verb.RENAME and now and target in state:
            answer = Status.KEY_EXISTS
        elif verb in (Verb.RENAME, Verb.DELETE) and now:
            del state[key]
            if verb is Verb.RENAME:
                state[target] = now
        elif verb is Verb.CLASS and now:
            state[key] = File(now.fid, "other")
        began, ended = 10 * number - 7 * earlier, 10 * number + 7 * later
        if lost:
            answer, ended = Status.LOST, NEVER
        calls.append(Call(verb, key, began, ended, answer, target=target, file=file, storage_class="other"))
    assert explained(calls)
    assert refuted_by(calls) is None


def test_first_impossible_answer() -> None:
    """Of an impossible history, the first impossible answer is reported."""
    wrong = info(ONE, 5, 6)
    assert refuted_by([close(ONE, 1, 2), close(TWO, 3, 4), wrong, info(ONE, 7, 8), info(TWO, 9, 10)]) == wrong
