"""A run's files: their names, the lock, and writing that leaves a complete file or none."""

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

ROOT = Path(__file__).resolve().parent.parent  # the folder of the scripts
PAUSES = 0.1, 0.4, 1, 2  # seconds: who shows or copies a file may hold it for so long, on Windows from everybody else


class Files:
    """The files of one run: ``lock``, ``state`` and the ``live`` ones until it has finished, then the others."""

    def __init__(self, output_dir: Path, name: str):
        plots, checkpoints = output_dir / "plots", output_dir / "checkpoints"
        self.name = name
        self.lock = checkpoints / f".{name}.lock"
        self.state = checkpoints / f"{name}.last.pt"  # everything needed to continue
        self.live = plots / f"{name}.live.png"  # the curves so far
        self.live_table = plots / f"{name}.live.csv"  # a row for each epoch so far
        self.best = checkpoints / f"{name}.pt"  # the weights of the best epoch
        self.record = plots / f"{name}.json"
        self.table = plots / f"{name}.csv"
        self.curves = plots / f"{name}.png"
        self.confusion = plots / f"{name}_confusion.png"
        self.mistakes = plots / f"{name}_mistakes.png"

    @property
    def finished(self) -> bool:
        return self.record.exists() and not self.state.exists()


def make_folders(output_dir: Path) -> None:
    """Make the folders of a run; OSError if they cannot be written."""
    for folder in (output_dir / "plots", output_dir / "checkpoints"):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


@contextlib.contextmanager
def only_process(files: Files) -> Iterator[None]:
    """Keep others from this run, by a lock that the system takes back with the process; SystemExit if one has it."""
    lock = FileLock(files.lock, fallback_to_soft=False)  # a soft lock outlives a machine that dies
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise SystemExit(
            f"Another process is training {files.name}; its curves: {shown(files.live)}. "
            "To train it a second time, name another --output-dir."
        ) from None
    except PermissionError:  # it is somebody else's
        raise
    except (OSError, NotImplementedError) as error:
        files.lock.unlink(missing_ok=True)
        print(f"This file system has no locks ({error}), so do not start {files.name} twice at the same time.")
    try:
        yield
    finally:
        if lock.is_locked:
            with contextlib.suppress(OSError):  # Windows removes it on release
                files.lock.unlink()
            lock.release()


def atomic_write(path: Path, content: bytes, owner: str) -> None:
    """Write a file that gets the name ``path`` when it is complete and on the disk, or never.

    ``owner`` is the run that writes, or what else no second process writes at the same time. OSError names ``path``.
    """
    temporary = path.with_name(f".{owner}.tmp")  # one in each directory: what a killed process left is written over
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        patiently(os.replace, temporary, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Remove a file that its run no longer needs; where that is refused, say so."""
    with told("It can be removed by hand."):
        patiently(lambda: path.unlink(missing_ok=True))


def patiently(do: Callable, *what: object) -> None:
    """Name or remove a file; where that is refused, try again for a few seconds."""
    for pause in PAUSES:
        with contextlib.suppress(PermissionError):
            return do(*what)
        time.sleep(pause)
    do(*what)


@contextlib.contextmanager
def told(consequence: str) -> Iterator[None]:
    """Inside, a file that cannot be written or removed costs a line, and does not end the run."""
    try:
        yield
    except OSError as error:
        print(f"{error.strerror}: {shown(Path(error.filename))}. {consequence}", file=sys.stderr)


def shown(path: Path) -> str:
    """``path`` as short as it can be written from here."""
    return min(str(path), seen_from(os.curdir, path), key=len)


def seen_from(folder: str | Path, path: Path) -> str:
    """``path`` relative to a folder; as it is where that cannot be written."""
    with contextlib.suppress(ValueError, OSError):  # on another drive of Windows; in a folder that is gone
        return os.path.relpath(path, folder)
    return str(path)
