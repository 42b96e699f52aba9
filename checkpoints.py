"""A run's files: their names, the lock, how they are written whole or not at all, how a checkpoint is read."""

import argparse
import contextlib
import errno
import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import torch
from filelock import FileLock, Timeout
from torch import nn


class Files(NamedTuple):
    """A run's name and files: ``last``, ``best`` and ``live`` until it has finished, then the others."""

    run: str
    lock: Path
    last: Path
    best: Path
    live: Path
    model: Path
    record: Path
    curves: Path
    confusion: Path
    picture: Path


def files_of(args: argparse.Namespace) -> Files:
    """Where the run of these settings keeps what."""
    plots, checkpoints, run = args.output_dir / "plots", args.output_dir / "checkpoints", args.run
    return Files(
        run=run,
        lock=checkpoints / f".{run}.lock",
        last=checkpoints / f"{run}.last.pt",
        best=checkpoints / f"{run}.best.pt",
        live=plots / f"{run}.live.png",
        model=checkpoints / f"{run}.pt",
        record=plots / f"{run}.json",
        curves=plots / f"{run}.png",
        confusion=plots / f"{run}_confusion.png",
        picture=plots / f"{args.task}_model.png",
    )


@contextlib.contextmanager
def only_process(files: Files) -> Iterator[None]:
    """Keep all other processes from this run, by a lock that the system takes back however this process ends.

    Raises:
        SystemExit: another process has the lock.
    """
    lock = FileLock(files.lock)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise SystemExit(
            f"Another process is training {files.run}; its curves: {shown(files.live)}. "
            "To train it a second time, name another --output-dir."
        ) from None
    except (OSError, NotImplementedError) as error:
        if getattr(error, "errno", None) not in (None, errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
            raise
        print(f"This file system has no locks ({error}), so do not start {files.run} twice at the same time.")
    try:
        for path in (files.last, files.record):  # what a killed process left in either directory
            temporary_name(path, files.run).unlink(missing_ok=True)
        yield
    finally:
        if lock.is_locked:
            with contextlib.suppress(OSError):  # Windows removes it on release
                files.lock.unlink()
            lock.release()


def temporary_name(path: Path, run: str) -> Path:
    """What a file of ``run`` is called until it is whole: one name in each directory, for a run has one process."""
    return path.with_name(f".{run}.tmp")


@contextlib.contextmanager
def whole_file(path: Path, run: str) -> Iterator[IO[bytes]]:
    """A file to write into that gets the name ``path`` when it is complete and on the disk, or never.

    Raises:
        OSError: it cannot be written; the error names ``path``.
    """
    temporary = temporary_name(path, run)
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        rename(temporary, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def rename(old: Path, new: Path) -> None:
    """Rename a file, over ``new`` if there is one; where the system can, so that a power failure does not undo it."""
    os.replace(old, new)
    with contextlib.suppress(OSError):  # Windows and some network file systems cannot
        directory = os.open(new.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def save_checkpoint(path: Path, checkpoint: dict, run: str) -> None:
    """Write what :func:`load_checkpoint` reads; OSError if that cannot be done."""
    content = io.BytesIO()  # because torch.save makes a RuntimeError of a full disk, and of a Ctrl-C while it writes
    torch.save(checkpoint, content)
    with whole_file(path, run) as file:
        file.write(content.getbuffer())


def load_checkpoint(path: Path, keys: tuple[str, ...], what_to_do: str) -> dict:
    """Read a checkpoint with these ``keys``, its tensors to the CPU.

    Raises:
        SystemExit: it is missing, damaged, or not such a checkpoint; the message ends in ``what_to_do``.
        OSError: it cannot be read.
    """
    try:
        content = io.BytesIO(path.read_bytes())
    except FileNotFoundError:
        raise SystemExit(f"There is no {shown(path)}. {what_to_do}") from None
    problem = None
    try:
        with zipfile.ZipFile(content) as archive:
            # torch.load does not look at the checksums, and reads nothing of an entry whose attributes say "folder".
            changed = [archive.testzip(), *(entry.filename for entry in archive.infolist() if entry.external_attr)]
        if any(changed):
            problem = "wrong checksum"
        else:
            content.seek(0)
            checkpoint = torch.load(content, map_location="cpu", weights_only=True)
            problem = next((f"it has no {key}" for key in keys if key not in checkpoint), None)
    except Exception as error:  # zipfile and torch raise many kinds for a file that is something else
        problem = type(error).__name__
    if problem:
        raise SystemExit(f"{shown(path)} is damaged, or no checkpoint of these scripts ({problem}). {what_to_do}")
    return checkpoint


def load_weights(model: nn.Module, weights: dict, path: Path, what_to_do: str) -> None:
    """Put the ``weights`` that were read from ``path`` into ``model``.

    Raises:
        SystemExit: they are those of another network; the message ends in ``what_to_do``.
    """
    try:
        model.load_state_dict(weights)
    except (RuntimeError, TypeError):
        name = type(model).__name__
        raise SystemExit(f"{shown(path)} holds the weights of another network than {name}. {what_to_do}") from None


def shown(path: Path) -> str:
    """``path`` as short as it can be written from here."""
    with contextlib.suppress(ValueError):  # on another drive of Windows
        return min(str(path), os.path.relpath(path), key=len)
    return str(path)
