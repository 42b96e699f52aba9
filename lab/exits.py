"""How a script ends: whatever a user can cause is told in one line on standard error. Without torch.

Exit codes: 0 finished, 2 refused while reading the flags, 130 Ctrl-C, 143 SIGTERM, 1 anything else.
"""

import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from lab.files import shown

AT_ONCE = 3  # seconds: a second signal in this time is part of the first, and must not interrupt the tidying up
OUT_OF_MEMORY = "out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory"


@contextlib.contextmanager
def told_in_one_line(what_next: Callable[[BaseException], str], device: object = "this machine") -> Iterator[None]:
    """Inside, Ctrl-C, SIGTERM, and errors that a user can cause end the script in one line, not in a traceback.

    ``what_next(error)`` is the end of that line: what is kept, and how to go on. ``device`` is the one whose memory may
    be full. Signal handlers are afterwards what they were.
    Raises SystemExit: instead of such an error, with its exit code. All other exceptions pass.
    """
    with signals_as_exceptions():
        try:
            yield
        except BrokenPipeError:  # nobody reads any more, as after `| head`
            drop_output()
            raise SystemExit(1) from None
        except (KeyboardInterrupt, FloatingPointError, RuntimeError, MemoryError, OSError) as error:
            if not (problem := cause_of(error, device)):
                raise
            if isinstance(error, OSError) and not error.filename:
                drop_output()
            with contextlib.suppress(OSError):  # if nobody reads it, the exit code still tells
                print(" ".join(filter(None, [problem, what_next(error)])), file=sys.stderr)
            interrupted = isinstance(error, KeyboardInterrupt)
            raise SystemExit(128 + (error.args or [signal.SIGINT])[0] if interrupted else 1) from None


def cause_of(error: BaseException, device: object) -> str | None:
    """What happened, in a sentence; None for an error that no user can cause."""
    match error:
        case KeyboardInterrupt():
            return "Interrupted."
        case FloatingPointError():
            return str(error)
        case OSError():
            if error.filename:
                return f"{error.strerror}: {shown(Path(error.filename))}."
            missing = isinstance(error, FileNotFoundError)  # a folder for temporary files, which the message names
            return f"{error.strerror or error}{'' if missing else ': standard output'}."
    return f"The memory of {device} is full." if is_full_memory(error) else None


def is_full_memory(error: BaseException) -> bool:
    """Whether an error says that there is no more memory; on a CPU, PyTorch has no type of its own for it."""
    words = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(known in words for known in OUT_OF_MEMORY)
    )


@contextlib.contextmanager
def signals_as_exceptions() -> Iterator[None]:
    """Inside, SIGINT and SIGTERM raise KeyboardInterrupt(number), except where they are ignored.

    A second one within :data:`AT_ONCE` seconds is ignored.
    """
    last = -math.inf

    def interrupt(number, frame):
        nonlocal last
        if time.monotonic() - last > AT_ONCE:
            last = time.monotonic()
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


def refuse(message: str) -> NoReturn:
    """End the script because of a wrong flag."""
    with contextlib.suppress(OSError):
        print(f"{Path(sys.argv[0]).name}: error: {message} (--help lists the flags)", file=sys.stderr)
    raise SystemExit(2)


def make_output_safe() -> None:
    """Replace closed output streams, and let standard output print paths that it cannot encode."""
    # A stream that the shell closed (2>&-) is None, and the next file to be opened would get its number and its text.
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115
    if hasattr(sys.stdout, "reconfigure"):  # not in a notebook
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")


def drop_output() -> None:
    """Discard what is left of standard output; Python would complain about it once more at its exit."""
    with contextlib.suppress(OSError):  # in a notebook it has no number
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
