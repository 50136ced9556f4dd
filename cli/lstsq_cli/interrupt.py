"""Ctrl-C where Python's own way fails: its exception waits for a long call to return, and is lost in a destructor."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Any

#: Seconds that the exception has for its way out, through whatever cleans up.
GRACE = 3.0


def watch() -> None:
    """From now on an interrupt ends this process with a message and exit code 2, at the latest after `GRACE`."""
    sys.unraisablehook = _lost
    if os.name != "posix":
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_wait, args=(reader,), daemon=True).start()


def _wait(reader: int) -> None:
    while os.read(reader, 1) != bytes([signal.SIGINT]):
        pass
    time.sleep(GRACE)
    _leave()


def _lost(told: Any) -> None:
    if told.exc_type is KeyboardInterrupt:
        _leave()
    sys.__unraisablehook__(told)


def _leave() -> None:
    # Below the bar of progress, which hides the cursor.
    os.write(2, b"\x1b[?25h\nlstsq: interrupted.\n" if os.isatty(2) else b"lstsq: interrupted.\n")
    os._exit(2)
