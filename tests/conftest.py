"""Set-up for all tests: Hypothesis without deadlines, logging to standard error, signals and environment as by default.

Components that run in the test's own process log to standard error, since tests read what commands print.
"""

from __future__ import annotations

import os
import signal
import sys

import structlog
from hypothesis import settings

# `make test` tries more examples of each property than `make check`.
settings.register_profile("any machine", deadline=None, max_examples=int(os.environ.get("TAWARA_TEST_EXAMPLES", "30")))
settings.load_profile("any machine")
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.__stderr__))

for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
    # A child inherits that a signal is ignored, as below nohup or in a background job, but not that it is handled.
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)
signal.pthread_sigmask(signal.SIG_SETMASK, ())
for name in [
    name for name in os.environ if name.startswith("TAWARA_") and not name.startswith(("TAWARA_TEST_", "TAWARA_PROBE_"))
]:
    del os.environ[name]  # the configuration of the user who starts the tests
