"""A run's files: what they are called, how they are written whole, how a checkpoint is read."""

import argparse
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import torch
from torch import nn


class Files(NamedTuple):
    """A run's name and files: ``last``, ``best`` and ``live`` until it has finished, then the others."""

    run: str
    last: Path
    best: Path
    live: Path
    model: Path
    record: Path
    curves: Path
    picture: Path


def files_of(args: argparse.Namespace) -> Files:
    """Where the run of these settings keeps what."""
    plots, checkpoints, run = args.output_dir / "plots", args.output_dir / "checkpoints", args.run
    return Files(
        run=run,
        last=checkpoints / f"{run}.last.pt",
        best=checkpoints / f"{run}.best.pt",
        live=plots / f"{run}.live.png",
        model=checkpoints / f"{run}.pt",
        record=plots / f"{run}.json",
        curves=plots / f"{run}.png",
        picture=plots / f"{args.task}_model.png",
    )


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write into that gets the name ``path`` when it is complete and on the disk, or never."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def save_checkpoint(path: Path, checkpoint: dict) -> None:
    """Write what :func:`load_checkpoint` reads."""
    with whole_file(path) as file:
        torch.save(checkpoint, file)


def load_checkpoint(path: Path, keys: tuple[str, ...], what_to_do: str) -> dict:
    """Read a checkpoint with these ``keys``, its tensors to the CPU.

    Raises:
        SystemExit: it is missing, or not such a checkpoint; the message ends in ``what_to_do``.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        missing = [key for key in keys if key not in checkpoint]
        problem = f"it has no {missing[0]}" if missing else None
    except FileNotFoundError:
        raise SystemExit(f"There is no {shown(path)}. {what_to_do}") from None
    except Exception as error:  # torch raises RuntimeError, EOFError, KeyError, UnpicklingError and more
        problem = type(error).__name__
    if problem:
        raise SystemExit(f"{shown(path)} is not a checkpoint of these scripts ({problem}). {what_to_do}")
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
