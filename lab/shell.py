"""A command that works when its user pastes it: in the shell and the folder where they stand. Without torch."""

import contextlib
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from lab.files import shown


def line(command: Iterable[str]) -> str:
    """A command as one line for a POSIX shell or, on Windows, for cmd, which knows no single quotes."""
    if os.name != "nt":
        return shlex.join(command)
    return " ".join(word if re.fullmatch(r"[\w.:\\/+=@~-]+", word) else f'"{word}"' for word in command)


def interpreter() -> str:
    """The Python that runs this, as it can be called from here."""
    name = os.path.basename(sys.executable)
    if os.path.normcase(shutil.which(name) or "") == os.path.normcase(sys.executable):
        return name
    path = shown(Path(sys.executable))
    return path if os.path.dirname(path) else os.path.join(os.curdir, path)  # a bare name is not looked up here


def called(script: Path) -> str:
    """``script`` as its user has called it or, in a process of another script, as it can be called from here."""
    with contextlib.suppress(OSError):  # the folder where the process stands is gone
        if Path(sys.argv[0]).resolve() == script:
            return sys.argv[0]
    return shown(script)
