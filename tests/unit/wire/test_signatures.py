"""Signatures of requests to storage nodes: what each allows, and every way in which one does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.wire.installation_key import SIZE, InstallationKey
from tawara.wire.signatures import (
    LONGEST,
    SKEW,
    NodeRight,
    find_problem,
    right_for,
    sign,
    signature_in,
    signed_url,
    signing_key,
    split_target,
    unsigned_url,
)

KEY, OTHER = (signing_key(InstallationKey(letter * SIZE)) for letter in (b"1", b"2"))
PATH = "/dev1/0/000/000/0000000301.fid"
NOW = 1_796_040_000
RIGHTS = st.sampled_from(NodeRight)
PATHS = st.from_regex(r"/dev[0-9]{1,3}(/[\w.-]{1,8}){0,4}/?", fullmatch=True)


def problem(signature: str | None, right: NodeRight = NodeRight.WRITE, path: str = PATH, now: float = NOW) -> str:
    return find_problem([KEY], signature, right, path, now) or ""


@given(RIGHTS, PATHS, st.integers(0, LONGEST), st.integers(-SKEW, SKEW))
def test_a_signature_allows_its_request(right: NodeRight, path: str, seconds: int, skew: int) -> None:
    """It is valid from its making to its expiry, also where the node's clock differs by a minute."""
    signature = sign(KEY, right, path, NOW + seconds)
    for now in (NOW, NOW + seconds):
        assert find_problem([OTHER, KEY], signature, right, path, now + skew) is None


@given(RIGHTS, RIGHTS, PATHS, PATHS)
def test_it_allows_nothing_else(right: NodeRight, other: NodeRight, path: str, elsewhere: str) -> None:
    """Another right, another path and another key are refused."""
    signature = sign(KEY, right, path, NOW)
    expected = right is other and path.rstrip("/") == elsewhere.rstrip("/")
    assert (find_problem([KEY], signature, other, elsewhere, NOW) is None) is expected
    assert find_problem([OTHER], signature, right, path, NOW) is not None
    assert find_problem([], signature, right, path, NOW) is not None


def test_the_reasons() -> None:
    """Each problem has a sentence of its own, which says what to do where the machine can know it."""
    good = sign(KEY, NodeRight.WRITE, PATH, NOW)
    assert problem(good) == ""
    assert "not signed" in problem(None)
    assert "not signed" in problem("")
    assert "malformed" in problem("w1796040000")
    assert "another kind" in problem(good, NodeRight.DELETE)
    assert "another path" in problem(good, path=f"{PATH}x")
    assert "expired 61 seconds ago" in problem(good, now=NOW + SKEW + 1)
    assert "longer than allowed" in problem(sign(KEY, NodeRight.WRITE, PATH, NOW + LONGEST + SKEW + 1))


@given(st.data())
def test_a_changed_signature_is_refused(data: st.DataObject) -> None:
    """Whatever character is changed, also in the expiry, the signature is refused."""
    good = sign(KEY, NodeRight.WRITE, PATH, NOW + 100)
    position = data.draw(st.integers(0, len(good) - 1))
    letter = data.draw(st.sampled_from("abwz019._-A"))
    changed = good[:position] + letter + good[position + 1 :]
    assert (problem(changed) == "") is (changed == good)


@pytest.mark.parametrize(
    "text", ["w", ".", "w1.", "W" + "1" * 5, "w-1." + "a" * 43, "w1٣." + "a" * 43, "ä", "w1." + "a" * 44]
)
def test_garbage(text: str) -> None:
    """Any other text is malformed, and no error."""
    assert problem(text)


def test_rights_of_methods() -> None:
    """Every method that a node has needs a right; replacing and assembling need other ones than storing."""
    rights = {method: right_for(method, replace=False) for method in ("GET", "HEAD", "PUT", "MKCOL", "DELETE", "POST")}
    assert rights == {
        "GET": NodeRight.READ,
        "HEAD": NodeRight.READ,
        "PUT": NodeRight.WRITE,
        "MKCOL": NodeRight.WRITE,
        "DELETE": NodeRight.DELETE,
        "POST": NodeRight.ASSEMBLE,
    }
    assert right_for("PUT", replace=True) is NodeRight.REPLACE
    assert right_for("GET", replace=True) is NodeRight.READ
    assert right_for("BREW", replace=False) is None


def test_urls() -> None:
    """A signed URL has the signature in its query, and is found and removed there; other queries are left alone."""
    url = f"http://10.0.0.1:7500{PATH}"
    assert unsigned_url(signed_url(url, "w1.x")) == url
    assert unsigned_url(url) == url
    assert unsigned_url(f"{url}?a=b") == f"{url}?a=b"
    assert unsigned_url(f"{url}%3Ftawara%3Dw1.x") == url
    assert split_target(f"{PATH}%3Ftawara%3Dw1.x") == split_target(f"{PATH}?tawara=w1.x") == (PATH, "tawara=w1.x")
    assert split_target(f"{PATH}?a=%3Ftawara%3Dw1.x") == (PATH, "a=%3Ftawara%3Dw1.x")
    assert signature_in("tawara=w1.x") == "w1.x"
    assert signature_in("a=b&tawara=w1.x&tawara=w2.y") == "w1.x"
    for query in ("", "a", "xtawara=w1.x", "&&"):
        assert signature_in(query) is None
