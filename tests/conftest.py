"""What all tests have in common: properties are tried without a limit of time, for the machine may be busy."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
