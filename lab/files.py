"""A run's files: their names, the lock, and writing that leaves a complete file or none."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

ROOT = Path(__file__).resolve().parent.parent  # the folder of the scripts


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
        for path in (files.state, files.record):  # what a killed process left in either directory
            temporary_name(path, files.name).unlink(missing_ok=True)
        yield
    finally:
        if lock.is_locked:
            with contextlib.suppress(OSError):  # Windows removes it on release
                files.lock.unlink()
            lock.release()


def temporary_name(path: Path, owner: str) -> Path:
    """What a file is called until it is complete: one name in each directory, for a run has one process."""
    return path.with_name(f".{owner}.tmp")


@contextlib.contextmanager
def atomic_write(path: Path, owner: str) -> Iterator[IO[bytes]]:
    """A file to write into that gets the name ``path`` when it is complete and on the disk, or never.

    ``owner`` is the run that writes, or what else no second process writes at the same time. OSError names ``path``.
    """
    temporary = temporary_name(path, owner)
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def shown(path: Path) -> str:
    """``path`` as short as it can be written from here."""
    with contextlib.suppress(ValueError, OSError):  # on another drive of Windows; from a folder that is gone
        return min(str(path), os.path.relpath(path), key=len)
    return str(path)
