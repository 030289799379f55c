"""Front ends whose X-Forwarded-Host counts."""

from __future__ import annotations

import pytest

from tawara.model.trusted_peers import is_trusted, parse_networks


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("fd00::1%eth0", True),
        ("2001:db8::1", False),
        ("unix:", False),
        ("", False),
        (None, False),
    ],
)
def test_is_trusted(peer: str | None, trusted: bool) -> None:
    """A peer is trusted if its address is listed or in a listed network, also when it is written as IPv6."""
    assert is_trusted(peer, parse_networks("10.0.0.0/8, 192.0.2.7,fd00::/8")) is trusted
    assert not is_trusted(peer, parse_networks(""))


@pytest.mark.parametrize("text", ["example.org", "10.0.0.1/8", "10.0.0.0/33", "*"])
def test_wrong_networks(text: str) -> None:
    """What is neither an address nor a network is refused."""
    with pytest.raises(ValueError, match=r".+"):
        parse_networks(text)
