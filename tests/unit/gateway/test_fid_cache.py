"""Which files nginx sends through its cache, and from where."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tawara.gateway.acceleration import ReplicaLocation, redirect
from tawara.gateway.fid_cache import FidCache, reply_by_nginx, through_cache
from tawara.gateway.reading import decide
from tawara.model.cache_settings import CacheSettings
from tawara.model.files import StoredFile
from tawara.wire.http import Conditions

FILE = StoredFile(7, 1, b"k.txt", 10, 0, 1, (1,), 1_000_000)
LOCAL, REMOTE = ReplicaLocation("/dev1/7.fid", None), ReplicaLocation("/dev2/7.fid", "10.0.0.2:7500", "r1.x")
ALONE = CacheSettings(size=1 << 30, file=1000)
PEERS = replace(ALONE, listen="a:1", peers=["a:1", "b:1"], secret="s", hot_rate=2.0)


def test_what_is_cached() -> None:
    """Files of other machines up to the limit are; local, large and empty ones are not."""
    cache = FidCache(ALONE)
    assert cache.choose(FILE, [REMOTE, LOCAL]).content == "7-10"
    assert cache.choose(replace(FILE, length=1000), [REMOTE]).content == "7-1000"
    for stored, replicas in ((FILE, [LOCAL, REMOTE]), (replace(FILE, length=1001), [REMOTE]), (FILE, [])):
        assert cache.choose(stored, replicas).content == ""
        assert cache.choose(stored, replicas).replicas == replicas
    assert cache.choose(replace(FILE, length=0), [REMOTE]).content == ""


def test_the_gateway_that_caches_it_is_asked() -> None:
    """Of two gateways one sends a file through its cache, the other asks that one first, with secret and signature."""
    a, b = FidCache(PEERS), FidCache(replace(PEERS, listen="b:1"))
    for fid in range(20):
        stored = replace(FILE, fid=fid)
        own, other = sorted(
            (a.choose(stored, [REMOTE]), b.choose(stored, [REMOTE])), key=lambda each: len(each.replicas)
        )
        assert (own.replicas, own.content) == ([REMOTE], f"{fid}-10")
        peer, *rest = other.replicas
        assert (rest, other.content) == ([REMOTE], "")
        assert (peer.path, peer.signature) == (f"/{fid}-10/10.0.0.2:7500/dev2/7.fid", "s r1.x")
        assert peer.host in ("a:1", "b:1")


def test_one_that_does_not_answer_is_not_asked() -> None:
    """While the other gateway is gone this one caches all files."""
    cache = FidCache(PEERS, reachable=lambda _: False)
    assert all(cache.choose(replace(FILE, fid=fid), [REMOTE]).content for fid in range(20))


def test_a_hot_file_is_cached_by_all() -> None:
    """A gateway that reads a file of another one's often enough keeps it, too."""
    fid = next(fid for fid in range(99) if len(FidCache(PEERS).choose(replace(FILE, fid=fid), [REMOTE]).replicas) == 2)
    cache = FidCache(PEERS, clock=lambda: 5.0)
    found = [cache.choose(replace(FILE, fid=fid), [REMOTE]) for _ in range(12)]
    assert [each.content for each in found] == [""] * 9 + [f"{fid}-10"] * 3
    assert all(each.replicas[0].host == "b:1" for each in found)


def test_fields_without_a_slot() -> None:
    """A file with fields that only the script of nginx can send is not sent through the cache."""
    answer = decide(FILE, Conditions(), None, head=False)
    plain = reply_by_nginx(FidCache(ALONE), answer, FILE, [REMOTE])
    assert plain.fields["X-Accel-Redirect"] == "@cached_whole"
    further = replace(answer, headers={**answer.headers, "x-amz-meta-colour": "red"})
    scripted = reply_by_nginx(FidCache(ALONE), further, FILE, [REMOTE])
    assert scripted.fields["X-Accel-Redirect"] == "@remote_fields_1"
    assert reply_by_nginx(None, answer, FILE, [REMOTE]).fields["X-Accel-Redirect"] == "@remote_1"


@pytest.mark.parametrize(("field", "place"), [(None, "@cached_whole"), ("bytes=1-2", "@cached_part")])
def test_the_place_in_the_cache(field: str | None, place: str) -> None:
    """The first place is the cache, under the content's name; the next replica follows as without a cache."""
    answer = decide(FILE, Conditions(), field, head=False)
    fields = redirect(answer, [REMOTE, REMOTE])
    told = through_cache(fields, "7-10", partial=answer.partial)
    assert told == {**fields, "X-Accel-Redirect": place, "X-Tawara-Content": "7-10"}
    assert told["X-Tawara-Place-2"] == "@remote_2"
