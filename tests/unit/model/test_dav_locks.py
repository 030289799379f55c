"""Decisions about WebDAV's write locks, compared with the resources that each lock really covers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tawara.model.dav_locks import DavLock, ancestors, conflicting, hindering, is_below, parent, valid

PATHS = [b"", b"a", b"a/b", b"a/b/c", b"ab", b"a/d", b"e"]
LOCKS = st.lists(
    st.builds(
        DavLock,
        token=st.uuids().map(str),
        path=st.sampled_from(PATHS),
        deep=st.booleans(),
        exclusive=st.booleans(),
        account=st.sampled_from(["anna", "otto"]),
        expires_at=st.integers(0, 20),
    ),
    max_size=5,
    unique_by=lambda each: each.token,
)


def covered(path: bytes, *, deep: bool) -> set[bytes]:
    """The known resources that a lock on `path` covers."""
    below = {each for each in PATHS if each != path and (path == b"" or each.startswith(path + b"/"))}
    return {path} | (below if deep else set())


@given(LOCKS, st.sampled_from(PATHS), st.booleans(), st.booleans())
def test_locks_conflict_where_they_share_a_resource(
    locks: list[DavLock], path: bytes, deep: bool, exclusive: bool
) -> None:
    """A new lock conflicts with those that cover one of its resources, unless both are shared (6.1, 6.2)."""
    expected = {
        each.token
        for each in locks
        if (exclusive or each.exclusive) and covered(path, deep=deep) & covered(each.path, deep=each.deep)
    }
    assert {each.token for each in conflicting(locks, path, deep=deep, exclusive=exclusive)} == expected


@given(LOCKS, st.sampled_from(PATHS), st.data())
def test_a_write_needs_a_token_of_each_locked_resource(locks: list[DavLock], path: bytes, data: st.DataObject) -> None:
    """Without tokens every lock on what is written hinders; with a token of each locked resource none does (7)."""
    membership, tree = data.draw(st.booleans()), data.draw(st.booleans())
    written = covered(path, deep=tree) | ({parent(path)} if membership and path else set())
    relevant = [each for each in locks if covered(each.path, deep=each.deep) & written]
    found = hindering(locks, path, frozenset(), "anna", membership=membership, tree=tree)
    assert {each.token for each in found} == {each.token for each in relevant}
    tokens = frozenset(each.token for each in locks)
    left = hindering(locks, path, tokens, "anna", membership=membership, tree=tree)
    assert all(each.account != "anna" for each in left)
    if all(each.account == "anna" for each in relevant):
        assert left == ()


def test_one_token_of_several_shared_locks_is_sufficient() -> None:
    """Who holds one of the shared locks on a resource may write it (7.6)."""
    mine = DavLock("t:1", b"a", deep=False, exclusive=False, account="anna", expires_at=9)
    other = DavLock("t:2", b"a", deep=False, exclusive=False, account="otto", expires_at=9)
    assert hindering([mine, other], b"a", frozenset({"t:1"}), "anna") == ()
    assert hindering([mine, other], b"a", frozenset({"t:2"}), "anna") == (mine, other)


def test_a_locked_collection_protects_its_members() -> None:
    """Creating or removing a member needs the token of a lock on the collection; changing one does not (7.4)."""
    lock = DavLock("t:1", b"a", deep=False, exclusive=True, account="anna", expires_at=9)
    assert hindering([lock], b"a/b", frozenset(), "anna", membership=True) == (lock,)
    assert hindering([lock], b"a/b", frozenset(), "anna") == ()


@given(LOCKS, st.integers(0, 20))
def test_expired_locks_are_none(locks: list[DavLock], now: int) -> None:
    """A lock is valid before its time, not at it."""
    assert set(valid(locks, now)) == {each for each in locks if now < each.expires_at}


def test_collections_above() -> None:
    """The collections above a path end at the root; a name that begins alike is no collection."""
    assert ancestors(b"a/b/c") == (b"a/b", b"a", b"")
    assert ancestors(b"") == ()
    assert not is_below(b"ab", b"a")
    assert not is_below(b"a", b"a")
