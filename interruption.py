"""Ctrl-C (SIGINT) and SIGTERM end a script in one and the same clean way."""

import contextlib
import signal
import threading
from collections.abc import Iterator


def end_quietly() -> None:
    """Let Ctrl-C end this process without a traceback, as long as there is nothing to lose or to say.

    For a script that begins with imports that take seconds. Does nothing where Ctrl-C is ignored, as it is after ``&``
    in a shell script.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def as_exception() -> Iterator[None]:
    """Inside, SIGINT and SIGTERM raise KeyboardInterrupt(number), except where they are ignored."""

    def interrupt(number, frame):
        raise KeyboardInterrupt(number)

    before = {}
    if threading.current_thread() is threading.main_thread():  # no other may set a handler
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
