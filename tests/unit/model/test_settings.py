"""The cluster's settings: names, values, and refusals."""

from __future__ import annotations

import pytest

from tawara.metadata import fsck, rebalance, scrub
from tawara.model import errors, settings


def test_documented_defaults_are_in_force() -> None:
    """Defaults that are constants elsewhere in the code are documented with the same value, and are valid."""
    shown = {each.name: each.default for each in settings.SETTINGS}
    assert (shown["queue_rate_for_fsck"], shown["queue_size_for_fsck"]) == (str(fsck.RATE), str(fsck.QUEUE))
    assert (shown["queue_rate_for_rebal"], shown["queue_size_for_rebal"]) == (str(rebalance.RATE), str(rebalance.QUEUE))
    assert scrub.period_of(shown[scrub.PERIOD]) == scrub.period_of("")
    for each in settings.SETTINGS:
        each.read(each.default)
        assert each.meaning


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("queue_rate_for_fsck", "abc"), ("queue_size_for_rebal", "-1"), ("tawara_rate_fsck", "fast"),
        ("tawara_scrub_period", "soon"), ("skip_mkcol", "perhaps"), ("zone_near", "here"), ("fsck_checksum", "CRC"),
    ],
)  # fmt: skip
def test_malformed_values_are_refused(name: str, value: str) -> None:
    """An invalid value is refused, and the message has the valid ones."""
    with pytest.raises(errors.InvalidFormat, match="Doesn't match"):
        settings.writable(name).read(value)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("tawara_rate_nonsense", "tawara_rate_"), ("queue_rate_for_fcsk", "queue_rate_for_fsck"), ("skip_mkdir", "skip_")],
)
def test_unknown_names_are_refused(name: str, meant: str) -> None:
    """An unknown setting is refused, and the message has a similar name."""
    with pytest.raises(errors.NotWritable, match=f"no setting '{name}'; is '{meant}"):
        settings.writable(name)


def test_internal_state_is_not_writable() -> None:
    """Rows with the store's state are not settings, and are refused as by MogileFS."""
    for name in ("schema_version", "tawara_schema_version", "fsck_host", "rebal_state", "zone_a b"):
        with pytest.raises(errors.NotWritable) as refused:
            settings.writable(name)
        assert refused.value.wire_text == "not_writable"
