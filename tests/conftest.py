"""For all tests: what whoever starts them may have left to them is as a test may expect it."""

from __future__ import annotations

import signal

# A shell that runs the suite in the background has these ignored, and every child would inherit that:
# then nothing that a test interrupts would ever end.
for _number, _handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGTERM, signal.SIG_DFL),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)
