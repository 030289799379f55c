"""Applications: what may be configured, and what they may send."""

from __future__ import annotations

import pytest

from tawara.model.applications import number_applications, parse_application, parse_upstream


@pytest.mark.parametrize(
    ("text", "upstream"),
    [
        ("127.0.0.1:8000", "127.0.0.1:8000"),
        ("http://127.0.0.1:8000/", "127.0.0.1:8000"),
        ("[::1]:8000", "[::1]:8000"),
        (":8000", "127.0.0.1:8000"),
        ("app.internal:80", "app.internal:80"),
        ("unix:/run/photos.sock", "unix:/run/photos.sock"),
    ],
)
def test_upstreams(text: str, upstream: str) -> None:
    """An upstream is a host with a port, or a Unix socket."""
    assert parse_upstream(text) == upstream


@pytest.mark.parametrize(
    "text", ["", "app", "app:0", "https://app:1", "unix:x", "unix:/a;b", "unix:/a b", "a;b:1", "a:1;", "http://a:1/x"]
)
def test_wrong_upstreams(text: str) -> None:
    """Any other text is refused, above all one that nginx would read as a directive."""
    with pytest.raises(ValueError, match=r"\w"):
        parse_upstream(text)


def test_where_an_application_is() -> None:
    """A name with a slash in front is a path, any other a host name."""
    one = parse_application(1, "Photos.Example", "127.0.0.1:1", ["d"])
    assert (one.host, one.path) == ("photos.example", "")
    other = parse_application(2, "/photos", "127.0.0.1:1", ["*"])
    assert (other.host, other.path) == ("", "/photos/")
    assert one.may_send("d")
    assert not one.may_send("e")
    assert other.may_send("e")


@pytest.mark.parametrize(
    "at",
    ["", "/", "/.tawara/", "/_tawara", "/_tawara/x/", "/a b/", "/a;/", "/a/../", "a b", "a;b", "*.x", "/a//b/", "~x"],
)
def test_wrong_places(at: str) -> None:
    """Paths of the gateway's own, and what nginx would read otherwise, are refused."""
    with pytest.raises(ValueError, match=r"\w"):
        parse_application(1, at, "127.0.0.1:1", ["d"])


def test_errors_name_the_application() -> None:
    """Two applications cannot be at one place, and each names its domains."""
    with pytest.raises(ValueError, match=r"'/A/'.*same"):
        number_applications([("/A", "127.0.0.1:1", ["d"], False), ("/A/", "127.0.0.1:2", ["d"], False)])
    with pytest.raises(ValueError, match=r"'h': domains"):
        number_applications([("h", "127.0.0.1:1", [], False)])
