"""A run's files: their names, the lock, and writing that leaves a complete file or none; pictures, too."""

import contextlib
import errno
import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

COMPILER_CACHE = "TORCHINDUCTOR_CACHE_DIR"
PAGE_WIDTH = 16 / 2.54  # inches: the 16 cm between the margins of a page of A4
NOT_DRAWN: set[Path] = set()  # pictures that this process has told of


class Files:
    """The files of one run: ``lock``, ``state`` and ``live`` until it has finished, then the others."""

    def __init__(self, output_dir: Path, task: str, name: str):
        plots, checkpoints = output_dir / "plots", output_dir / "checkpoints"
        self.name = name
        self.lock = checkpoints / f".{name}.lock"
        self.state = checkpoints / f"{name}.last.pt"  # all that is needed to continue
        self.live = plots / f"{name}.live.png"  # the curves so far
        self.best = checkpoints / f"{name}.pt"  # the weights of the best epoch
        self.record = plots / f"{name}.json"
        self.curves = plots / f"{name}.png"
        self.confusion = plots / f"{name}_confusion.png"
        self.mistakes = plots / f"{name}_mistakes.png"
        recipe = "_recipe" * name.startswith(f"{task}_recipe")
        self.network = plots / f"{task}{recipe}_model.png"  # the picture of the network, which many runs share

    @property
    def finished(self) -> bool:
        return self.record.exists() and not self.state.exists()


def make_folders(files: Files) -> None:
    """Make the folders of a run; OSError if they cannot be written."""
    for folder in (files.record.parent, files.state.parent):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that is gone afterwards, with what torch stores for its compiler.

    torch makes a folder for that as soon as an optimizer is built or torchvision is imported.
    """
    with tempfile.TemporaryDirectory() as folder:
        before = os.environ.get(COMPILER_CACHE)
        os.environ[COMPILER_CACHE] = folder
        try:
            yield Path(folder)
        finally:
            os.environ.pop(COMPILER_CACHE, None)
            if before is not None:
                os.environ[COMPILER_CACHE] = before


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
    except (OSError, NotImplementedError) as error:
        if getattr(error, "errno", None) not in (None, errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
            raise
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

    ``owner`` is the name of the run that writes, or of what else no second process writes at the same time.
    Raises OSError: it cannot be written; the error names ``path``.
    """
    temporary = temporary_name(path, owner)
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        with contextlib.suppress(OSError):  # where the system can, so that a power failure does not undo the name
            directory = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def save_figure(path: Path, owner: str, draw: Callable[..., None], *what: object) -> None:
    """Save what ``draw(figure, *what)`` draws on an empty figure as PNG, complete or not at all.

    A figure is as wide as the text on a page of A4, and its letters have 8 points there; ``draw`` sets its height.
    If it cannot be drawn, that is told in one line, once for each picture: a training does not end for that.
    Raises OSError: the file cannot be written.
    """
    picture = io.BytesIO()
    try:
        with matplotlib_as_it_comes():
            from matplotlib.figure import Figure

            draw(figure := Figure((PAGE_WIDTH, PAGE_WIDTH / 2), dpi=200, layout="constrained"), *what)
            figure.savefig(picture, format="png", dpi=figure.dpi)
    except Exception as error:  # whatever it is
        if path not in NOT_DRAWN:
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            print(f"{shown(path)} could not be drawn: {reason}", file=sys.stderr)
        NOT_DRAWN.add(path)
        return
    with atomic_write(path, owner) as file:
        file.write(picture.getvalue())


def print_written(*paths: Path) -> None:
    """Name those of the files that are there, one a line; no picture of before, if it could not be drawn again."""
    for path in paths:
        if path.exists() and path not in NOT_DRAWN:
            print(f"Written: {shown(path)}")


@contextlib.contextmanager
def matplotlib_as_it_comes() -> Iterator[None]:
    """Inside, matplotlib has its own settings, not those of somebody's matplotlibrc; afterwards it has them again.

    It is imported here, and not before, because it needs a folder to write into, and fails where ``MPLBACKEND`` names
    something that is not installed here, as in a process that was started from a notebook.
    """
    backend = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib.style
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend:
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = backend  # as matplotlib itself does it when it is imported
    with matplotlib.style.context(["default", {"font.size": 8, "axes.titlesize": 8, "figure.titlesize": 9}]):
        yield


def shown(path: Path) -> str:
    """``path`` as short as it can be written from here."""
    with contextlib.suppress(ValueError, OSError):  # on another drive of Windows; from a folder that is gone
        return min(str(path), os.path.relpath(path), key=len)
    return str(path)
