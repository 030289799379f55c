"""Which certificates and keys are accepted, and the errors for others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tawara.gateway.certificates import TlsFiles
from tawara.model.certificates import ListenerCertificate
from tawara.model.errors import ConfigurationError
from tawara.model.health_codes import Severity
from tawara.monitoring.findings import find_expiring
from tests.certificates import write_pair


def test_a_pair(tmp_path: Path) -> None:
    """A certificate with its key is loaded, with the time of its expiry; again only when a file has changed."""
    files = TlsFiles(*write_pair(tmp_path, "a", days=10))
    pair = files.load()
    assert 9 * 86400 < pair.expires - files.chain.stat().st_mtime <= 10 * 86400
    assert files.load_if_changed() is None
    write_pair(tmp_path, "a", days=20)
    changed = files.load_if_changed()
    assert changed is not None and changed.expires > pair.expires
    assert files.load_if_changed() is None


def test_pairs_that_cannot_be_used(tmp_path: Path) -> None:
    """Each fault has its own sentence, which names the file."""
    chain, key = write_pair(tmp_path, "a")
    other_chain, other_key = write_pair(tmp_path, "b")
    old = write_pair(tmp_path, "old", begins_in=-9, days=-1)
    early = write_pair(tmp_path, "early", begins_in=1)
    locked = write_pair(tmp_path, "locked", passphrase=b"secret")
    (tmp_path / "text").write_text("no PEM")
    (tmp_path / "text").chmod(0o600)
    (tmp_path / "open").write_bytes(key.read_bytes())
    (tmp_path / "open").chmod(0o644)
    for pair, told in (
        ((tmp_path / "none", key), "none cannot be read: No such file"),
        ((chain, tmp_path / "none"), "none cannot be read: No such file"),
        ((tmp_path / "text", key), "text is not a certificate in PEM form"),
        ((key, key), "a.key is not a certificate in PEM form"),
        ((chain, tmp_path / "text"), "text is not a private key in PEM form"),
        ((chain, tmp_path / "open"), "open can be read by every user"),
        ((chain, other_key), "b.key does not belong to the certificate"),
        ((other_chain, key), "a.key does not belong to the certificate"),
        (old, "old.crt expired on"),
        (early, "early.crt is valid from"),
        (locked, "locked.key has a passphrase"),
    ):
        with pytest.raises(ConfigurationError, match=told):
            TlsFiles(*pair).load()


def test_expiry_is_reported() -> None:
    """A certificate is a warning in its last 30 days, critical afterwards, and nothing before."""
    day, now = 86400, 1_700_000_000
    for left, severity in ((31 * day, None), (29 * day, Severity.WARNING), (0, Severity.CRITICAL)):
        found = find_expiring([ListenerCertificate("10.0.0.1:443", now + left)], now)
        assert [each.severity for each in found] == ([] if severity is None else [severity])
        assert all("10.0.0.1:443" in each.text for each in found)
