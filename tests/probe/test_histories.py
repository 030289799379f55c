"""The checker of histories is right about histories that are right, and about those that are wrong."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.probe.histories import NEVER, Call, File, Told, Verb, explained, refuted_by

ONE, TWO = File(1, "default"), File(2, "default")


def close(file: File, began: int, ended: int, answer: Told = Told.DONE, key: str = "a") -> Call:
    return Call(Verb.CLOSE, key, began, ended, answer, file=file)


def info(answer: Told | File, began: int, ended: int, key: str = "a") -> Call:
    return Call(Verb.INFO, key, began, ended, answer)


def paths(answer: Told | int, began: int, ended: int, key: str = "a") -> Call:
    return Call(Verb.PATHS, key, began, ended, answer)


def delete(answer: Told, began: int, ended: int, key: str = "a") -> Call:
    return Call(Verb.DELETE, key, began, ended, answer)


def rename(answer: Told, began: int, ended: int) -> Call:
    return Call(Verb.RENAME, "a", began, ended, answer, target="b")


def reclass(answer: Told, began: int, ended: int) -> Call:
    return Call(Verb.CLASS, "a", began, ended, answer, storage_class="other")


def test_what_is_right() -> None:
    """Sequential histories, and concurrent ones that have an order, are explained."""
    assert explained([])
    assert explained([close(ONE, 1, 2), close(TWO, 3, 4), info(TWO, 5, 6)])
    assert explained([close(ONE, 1, 2), close(TWO, 3, 8), info(ONE, 4, 5), info(TWO, 6, 7)])
    assert explained([close(ONE, 1, 2), rename(Told.DONE, 3, 8), paths(Told.UNKNOWN_KEY, 4, 5), info(ONE, 6, 7, "b")])
    assert explained([close(ONE, 1, 2), reclass(Told.DONE, 3, 4), info(File(1, "other"), 5, 6)])
    other = File(1, "other")
    assert explained([close(other, 1, 2), close(TWO, 3, 8), reclass(Told.DONE, 4, 7), info(File(2, "other"), 9, 10)])
    assert explained([delete(Told.UNKNOWN_KEY, 1, 2), rename(Told.UNKNOWN_KEY, 3, 4), close(ONE, 5, 6)])
    assert explained([close(ONE, 1, 2), close(TWO, 3, 4, key="b"), rename(Told.KEY_EXISTS, 5, 6), paths(1, 7, 8)])


def test_what_is_wrong() -> None:
    """Noticed: a lost close, stale answers, a path after the delete, a key that came twice or back, lost classes."""
    assert not explained([close(ONE, 1, 2), info(Told.UNKNOWN_KEY, 3, 4)])
    assert not explained([close(ONE, 1, 2), close(TWO, 3, 4), info(ONE, 5, 6)])
    assert not explained([close(ONE, 1, 2), delete(Told.DONE, 3, 4), paths(1, 5, 6)])
    assert not explained([close(ONE, 1, 2), delete(Told.DONE, 3, 4), delete(Told.DONE, 5, 6)])
    assert not explained([close(ONE, 1, 2), rename(Told.DONE, 3, 4), info(ONE, 5, 6), info(ONE, 7, 8, "b")])
    assert not explained([close(ONE, 1, 2), close(TWO, 1, 2), info(ONE, 3, 4), info(TWO, 5, 6)])
    assert not explained([close(ONE, 1, 2), reclass(Told.DONE, 3, 4), info(ONE, 5, 6)])
    assert not explained([close(ONE, 1, 2), close(TWO, 3, 9), info(TWO, 4, 5), info(ONE, 6, 7)])
    assert not explained([close(ONE, 1, 2), close(TWO, 3, 4, key="b"), rename(Told.DONE, 5, 6)])
    assert not explained([close(ONE, 1, 2), delete(Told.UNKNOWN_KEY, 3, 4)])


def test_what_got_lost() -> None:
    """A change without an answer may have been made or not, at any later time, but only once and not before."""
    lost = close(TWO, 3, NEVER, Told.LOST)
    for found in (ONE, TWO):
        assert explained([close(ONE, 1, 2), lost, info(found, 5, 6)])
    assert explained([close(ONE, 1, 2), lost, info(ONE, 5, 6), info(TWO, 7, 8)])
    assert not explained([close(ONE, 1, 2), lost, info(TWO, 5, 6), info(ONE, 7, 8)])
    assert not explained([close(ONE, 1, 2), info(TWO, 3, 4), close(TWO, 5, NEVER, Told.LOST)])
    gone = delete(Told.LOST, 3, NEVER)
    assert explained([close(ONE, 1, 2), gone, close(TWO, 4, 5), info(Told.UNKNOWN_KEY, 6, 7)])
    assert not explained(
        [close(ONE, 1, 2), gone, info(Told.UNKNOWN_KEY, 4, 5), close(TWO, 6, 7), info(Told.UNKNOWN_KEY, 8, 9)]
    )


KEYS = st.sampled_from("ab")


@given(st.lists(st.tuples(st.sampled_from(Verb), KEYS, st.integers(0, 3), st.integers(0, 3), st.booleans())))
def test_any_real_history_is_explained(steps: list[tuple[Verb, str, int, int, bool]]) -> None:
    """Calls that take effect one after another, each somewhere between its beginning and its end, are explained."""
    state: dict[str, File] = {}
    calls = []
    for number, (verb, key, earlier, later, lost) in enumerate(steps):
        now, target = state.get(key), "b" if key == "a" else "a"
        file = File(number, "default")
        answer: Told | File | int = Told.DONE if now else Told.UNKNOWN_KEY
        if verb is Verb.CLOSE:
            answer, state[key] = Told.DONE, file
        elif verb is Verb.INFO and now:
            answer = now
        elif verb is Verb.PATHS and now:
            answer = now.fid
        elif verb is Verb.RENAME and now and target in state:
            answer = Told.KEY_EXISTS
        elif verb in (Verb.RENAME, Verb.DELETE) and now:
            del state[key]
            if verb is Verb.RENAME:
                state[target] = now
        elif verb is Verb.CLASS and now:
            state[key] = File(now.fid, "other")
        began, ended = 10 * number - 7 * earlier, 10 * number + 7 * later
        if lost:
            answer, ended = Told.LOST, NEVER
        calls.append(Call(verb, key, began, ended, answer, target=target, file=file, storage_class="other"))
    assert explained(calls)
    assert refuted_by(calls) is None


def test_who_is_to_blame() -> None:
    """Of an impossible history the first answer is named that cannot be."""
    wrong = info(ONE, 5, 6)
    assert refuted_by([close(ONE, 1, 2), close(TWO, 3, 4), wrong, info(ONE, 7, 8), info(TWO, 9, 10)]) == wrong
