"""Ctrl-C ends a command at once, wherever it is, with a message and exit code 2.

Python's own way is an exception in the main thread. It waits for a long call to return, is lost in a destructor, and
may crash a library that it meets while that is being loaded. Here a thread ends the process, and nothing is raised.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

_ends: list[Callable[[], object]] = []


def watch() -> None:
    """From now on an interrupt ends this process; not where whoever started it has interrupts ignored."""
    if os.name != "posix" or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, lambda number, frame: None)
    threading.Thread(target=_wait, args=(reader,), daemon=True).start()


@contextlib.contextmanager
def ending(end: Callable[[], object]) -> Iterator[None]:
    """Call `end` at the end of the block, and before if an interrupt ends the process; perhaps in both places."""
    _ends.append(end)
    try:
        yield
    finally:
        end()
        _ends.remove(end)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that no end of the block or of the process leaves behind."""
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="lstsq-"))
    with ending(lambda: shutil.rmtree(folder, ignore_errors=True)):
        yield folder


def _wait(reader: int) -> None:
    while os.read(reader, 1) != bytes([signal.SIGINT]):
        pass
    for end in reversed(_ends):
        with contextlib.suppress(Exception):
            end()
    # Below the bar of progress, which hides the cursor.
    os.write(2, b"\x1b[?25h\nlstsq: interrupted.\n" if os.isatty(2) else b"lstsq: interrupted.\n")
    os._exit(2)
