"""What all tests have in common.

Properties are tried without a limit of time, for the machine may be busy. What parts of the store log that run in the
test's own process goes to standard error, lest it be taken for what a command prints.
"""

from __future__ import annotations

import sys

import structlog
from hypothesis import settings

settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.__stderr__))
