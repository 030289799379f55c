"""The `debian13` base: what `debian12` is, of Debian 13."""

from __future__ import annotations

from dataclasses import replace

from tawara.vm.bases.debian12 import DEBIAN12

DEBIAN13 = replace(
    DEBIAN12,
    name="debian13",
    summary="Debian 13 with systemd, openssh and the guest agent",
    suite="trixie",
    release=1,
)
RECIPES = (DEBIAN13,)
