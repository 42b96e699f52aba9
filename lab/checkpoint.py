"""What a checkpoint holds: saved, verified, loaded; and the one state from which an unfinished run goes on."""

import io
import platform
import zipfile
from pathlib import Path

import torch
from torch import nn

from lab.files import atomic_write, shown
from lab.flags import Run
from lab.record import best_of

STATE_KEYS = {"model", "adam", "scheduler", "best", "environment"}
STATE_FORMAT = 2  # 1 had the best weights in a second file
START_ANEW = "With --restart this run begins anew."


def save(path: Path, checkpoint: dict, owner: str) -> None:
    """Write what :func:`load` reads; OSError if that cannot be done."""
    content = io.BytesIO()  # because torch.save makes a RuntimeError of a full disk, and of a Ctrl-C while it writes
    torch.save(checkpoint, content)
    with atomic_write(path, owner) as file:
        file.write(content.getbuffer())


def load(path: Path, keys: tuple[str, ...], what_to_do: str) -> dict:
    """Read a checkpoint with these ``keys``, its tensors to the CPU.

    Raises SystemExit: it is missing, damaged, or not such a checkpoint; the message ends in ``what_to_do``; OSError: it
    cannot be read.
    """
    try:
        content = io.BytesIO(path.read_bytes())
    except FileNotFoundError:
        raise SystemExit(f"There is no {shown(path)}. {what_to_do}") from None
    try:
        with zipfile.ZipFile(content) as archive:
            # torch.load does not look at the checksums, and reads nothing of an entry whose attributes say "folder".
            changed = archive.testzip() or any(entry.external_attr for entry in archive.infolist())
        content.seek(0)
        checkpoint = {} if changed else torch.load(content, map_location="cpu", weights_only=True)
        problems = ["wrong checksum"] * bool(changed) + [f"it has no {key}" for key in keys if key not in checkpoint]
    except Exception as error:  # zipfile and torch raise many kinds for a file that is something else
        problems = [type(error).__name__]
    if problems:
        raise SystemExit(f"{shown(path)} is damaged, or no checkpoint of these scripts ({problems[0]}). {what_to_do}")
    return checkpoint


def load_weights(model: nn.Module, weights: dict, path: Path, what_to_do: str) -> None:
    """Put the ``weights`` of the file ``path`` into ``model``; SystemExit if they are those of another network."""
    try:
        model.load_state_dict(weights)
    except (RuntimeError, TypeError):
        name = type(model).__name__
        raise SystemExit(f"{shown(path)} holds the weights of another network than {name}. {what_to_do}") from None


def load_best(model: nn.Module, run: Run) -> dict:
    """Put a finished run's best weights into ``model``, return their checkpoint; SystemExit if they cannot be used."""
    path, what_to_do = run.files.best, f"To train it: {run.command}"
    best = load(path, ("model", "config", "epoch", "val_accuracy"), what_to_do)
    load_weights(model, best["model"], path, what_to_do)
    for name, value in run.settings.items():
        if best["config"].get(name, value) != value:
            raise SystemExit(f"{shown(path)} is of a run with another {name}, {best['config'][name]}.")
    return best


def copy_of_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """The weights as they are now, on the CPU and in plain layout, so that they load anywhere.

    A copy, because the tensors of a ``state_dict`` go on changing with the model.
    """
    return {
        name: tensor.to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }


def environment(device: torch.device) -> dict:
    """What the numbers of a run depend on beside its settings."""
    return {
        "torch": str(torch.__version__),  # a class of its own, which no weights_only load accepts
        "device": f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device),
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
    }


# ---------------------------------------------------------------- the state of an unfinished run


def save_state(run: Run, history: list[dict], best: dict[str, torch.Tensor], **parts) -> None:
    """Save all that the next epoch depends on. No random state is among it, because each epoch seeds its own."""
    state = {"format": STATE_FORMAT, "config": run.config, "environment": environment(run.device)}
    state |= {"history": history, "best": best} | {name: part.state_dict() for name, part in parts.items()}
    save(run.files.state, state, run.name)


def load_state(run: Run) -> dict:
    """Read what an unfinished run left; SystemExit if it cannot be used."""
    state = load(run.files.state, ("config", "history"), START_ANEW)
    if state.get("format") != STATE_FORMAT or not (state["history"] and state.keys() >= STATE_KEYS):
        raise SystemExit(f"{shown(run.files.state)} was left by another version of these scripts. {START_ANEW}")
    return state


def unfinished_state(run: Run) -> dict | None:
    """What an interrupted run of this name left to go on from, or None; SystemExit if it cannot or must not be used."""
    if run.restart or not run.files.state.exists():
        return None
    state = load_state(run)
    if not run.resume:
        raise SystemExit(
            f"{how_far(run, state)} Add --resume to go on, or --restart to throw that away and begin again."
        )
    print(how_far(run, state))
    before, now = state["environment"], environment(run.device)
    changed = [f"{name} {before[name]} -> {now[name]}" for name in before if before[name] != now[name]]
    if changed:
        print(f"Resuming under other conditions, so the numbers may differ a little: {', '.join(changed)}")
    return state


def how_far(run: Run, state: dict) -> str:
    """How far an unfinished run has come, in a sentence."""
    best = best_of(state["history"])
    return (
        f"{run.name} is unfinished: {len(state['history'])} of {run.epochs} epochs are done, "
        f"the best validation accuracy is {best['val_accuracy']:.4f} (epoch {best['epoch']})."
    )


def advice(run: Run, error: BaseException) -> str:
    """What is on the disk of a run that an error has ended, and how to go on."""
    first, lead = "", "When that is mended, go on:"
    if isinstance(error, KeyboardInterrupt):
        lead = "To go on:"
    elif isinstance(error, FloatingPointError):
        first, lead = "Try a smaller --lr. ", ""  # going on would come to the same end
    elif isinstance(error, (RuntimeError, MemoryError)):
        first, lead = f"Try a --batch-size below {run.batch_size}. ", "To go on as before, when there is more:"
    if run.test or run.predict or run.dry_run:
        kept = ""
    elif run.files.state.exists():
        try:
            kept = how_far(run, load_state(run)) + f" {lead} {run.command} --resume" * bool(lead)
        except (SystemExit, OSError) as unusable:
            kept = str(unusable)
    elif run.files.record.exists():  # the signal came after the last file, or before the first epoch of a second run
        kept = f"There is nothing to resume; {shown(run.files.record)} is of a run that has finished."
    else:
        kept = f"There is nothing to resume; to begin: {run.command}" if lead else "There is nothing to resume."
    return (first + kept).rstrip()
