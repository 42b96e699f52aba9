"""What a checkpoint holds: saved, verified, loaded; and the one state from which an unfinished run goes on."""

import io
import json
import platform
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import torch
from torch import nn

from lab import exits
from lab.files import atomic_write, shown
from lab.flags import Run, older
from lab.precision import precision_of
from lab.recipe import Learner
from lab.record import (
    best_of,
    environments_of,
    first_problem,
    problem_of_environments,
    problem_of_history,
    problem_of_statistics,
    read_record,
)

STATE_FORMAT = 4  # 1 had the best weights in a second file; 2 one environment, and the schedule; 3 always Adam
START_ANEW = "With --restart this run begins anew."
ADAM = "step", "exp_avg", "exp_avg_sq"
MOMENTS = {"Adam": ADAM, "AdamW": ADAM, "SGD": ("momentum_buffer",)}  # what each optimizer keeps for a weight


def save(path: Path, checkpoint: dict, owner: str) -> None:
    """Write what :func:`load` reads; OSError if that cannot be done."""
    content = io.BytesIO()  # because torch.save makes a RuntimeError of a full disk, and of a Ctrl-C while it writes
    torch.save(checkpoint, content)
    with atomic_write(path, owner) as file:
        file.write(content.getvalue())


def load(path: Path, problem_of: Callable[[dict], str | None], what_to_do: str) -> dict:
    """Read a checkpoint in which ``problem_of`` finds no problem, its tensors to the CPU.

    Raises SystemExit: it is missing, damaged, or not such a checkpoint; the message ends in ``what_to_do``; OSError: it
    cannot be read; MemoryError or RuntimeError: the memory is full.
    """
    try:
        content = io.BytesIO(path.read_bytes())
    except FileNotFoundError:
        raise SystemExit(f"There is no {shown(path)}. {what_to_do}") from None
    try:
        with zipfile.ZipFile(content) as archive:
            # torch.load does not look at the checksums, and reads nothing of an entry whose attributes say "folder".
            changed = archive.testzip() or any(entry.external_attr for entry in archive.infolist())
        if changed:
            refuse(path, "wrong checksum", what_to_do)
        content.seek(0)
        checkpoint = torch.load(content, map_location="cpu", weights_only=True)
        problem = first_problem(problem_of, checkpoint) if isinstance(checkpoint, dict) else "it is no dictionary"
    except Exception as error:  # zipfile and torch raise many kinds for a file that is something else
        if exits.is_full_memory(error):
            raise
        problem = type(error).__name__
    if problem:
        refuse(path, problem, what_to_do)
    return checkpoint


def refuse(path: Path, problem: str, what_to_do: str) -> NoReturn:
    """End the script because of what a checkpoint holds."""
    raise SystemExit(f"{shown(path)} is damaged, or no checkpoint of these scripts ({problem}). {what_to_do}")


def load_weights(model: nn.Module, weights: dict, path: Path, what_to_do: str) -> None:
    """Put the ``weights`` of the file ``path`` into ``model``; SystemExit if they are those of another network."""
    try:
        model.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError):
        name = type(getattr(model, "module", model)).__name__  # what an average is of
        raise SystemExit(f"{shown(path)} holds the weights of another network than {name}. {what_to_do}") from None
    for name, tensor in model.state_dict().items():
        if not tensor.isfinite().all() or (name.endswith("running_var") and tensor.min() < 0):
            refuse(path, f"its {name} cannot be", what_to_do)


def load_best(model: nn.Module, run: Run) -> dict:
    """Put a finished run's best weights into ``model``, return their checkpoint; SystemExit if they cannot be used."""
    path = run.files.best
    what_to_do = f"To train it: {run.command}{' --resume' * run.files.state.exists()}"
    best = load(path, problem_of_best, what_to_do)
    load_weights(model, best["model"], path, what_to_do)
    if other := other_setting(older(run.usual) | best["config"], run.settings):
        raise SystemExit(f"{shown(path)} is of a run with another {other}. {what_to_do}")
    return best


def other_setting(found: dict, wanted: dict) -> str | None:
    """The first setting that is not as wanted, and both values; None if there is none.

    A run's name tells which flags it had. So where the name is right, DEFAULTS or RECIPE have been changed since.
    """
    name = next((name for name in wanted if found.get(name) != wanted[name]), None)
    return f"{name}: {found.get(name)!r}, not {wanted[name]!r}" if name else None


def problem_of_best(best: dict) -> str | None:
    """What is wrong with a finished run's checkpoint beside its weights."""
    config, epoch, accuracy = best["config"], best["epoch"], best["val_accuracy"]
    json.dumps([config, epoch, accuracy])  # TypeError: one of them is a tensor
    if epoch < 1 or not 0 <= accuracy <= 1:
        return "its epoch or val_accuracy cannot be"
    return problem_of_statistics(config) if "model" in best else "it has no model"


def copy_of_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """The weights as they are now, on the CPU and in plain layout, so that they load anywhere.

    A copy, because the tensors of a ``state_dict`` go on changing with the model.
    """
    return {
        name: tensor.to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }


def environment(run: Run) -> dict:
    """What the numbers of a run depend on beside its settings."""
    device = run.device
    return {
        "torch": str(torch.__version__),  # a class of its own, which no weights_only load accepts
        "device": f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device),
        "precision": precision_of(run),
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
    }


# ---------------------------------------------------------------- the state of an unfinished run


def save_state(
    run: Run, history: list[dict], best: dict[str, torch.Tensor], model: nn.Module, learner: Learner
) -> None:
    """Save all that the next epoch depends on. No random state is among it, because each epoch seeds its own."""
    state = {"format": STATE_FORMAT, "config": run.config, "environments": environments(run, history)}
    state |= {"history": history, "best": best}
    state |= {"model": model.state_dict(), "optimizer": learner.optimizer.state_dict()}
    if learner.average:
        state["average"] = learner.average.state_dict()
    save(run.files.state, state, run.name)


def environments(run: Run, history: list[dict]) -> list[dict]:
    """One for each set of conditions under which the epochs of ``history`` were trained, with its first epoch."""
    before, done = (run.state["environments"], len(run.state["history"])) if run.state else ([], 0)
    now = environment(run)
    if len(history) == done or (before and not differences(before[-1], now)):
        return before
    return [*before, {"from_epoch": done + 1} | now]


def differences(before: dict, now: dict) -> list[str]:
    """In which of the conditions that both know two environments differ."""
    return [f"{name} {before[name]} -> {now[name]}" for name in now if before.get(name, now[name]) != now[name]]


def load_state(run: Run) -> dict:
    """Read what an unfinished run left; SystemExit if it cannot be used."""
    state = load(run.files.state, lambda state: upgrade(state, run) or problem_of_state(state, run), START_ANEW)
    if other := other_setting(state["config"], run.settings):
        raise SystemExit(f"{shown(run.files.state)} is of a run with another {other}. {START_ANEW}")
    return state


def upgrade(state: dict, run: Run) -> None:
    """Bring a state to today's format; SystemExit if that cannot be done."""
    if state.get("format") not in (2, 3, STATE_FORMAT):
        other = "was left by another version of these scripts, which can go on with it"
        raise SystemExit(f"{shown(run.files.state)} {other}. {START_ANEW}")
    if state["format"] == 2:
        state["environments"] = environments_of(state.pop("environment"))
    if state["format"] < STATE_FORMAT:
        state |= {"format": STATE_FORMAT, "optimizer": state.pop("adam")}
    state["config"] = older(run.usual) | state["config"]


def problem_of_state(state: dict, run: Run) -> str | None:
    """What is wrong with a state beside its weights and its optimizer, or None."""
    history, environments, epochs = state["history"], state["environments"], state["config"]["epochs"]
    json.dumps([history, environments, state["config"]])  # TypeError: one of them holds a tensor
    parts = {"model", "optimizer", "best"} | ({"average"} if state["config"].get("average") else set())
    if missing := parts - state.keys():
        return f"it has no {min(missing)}"
    if not 0 < len(history) <= epochs:
        return f"its history has {len(history)} of {epochs} epochs"
    return problem_of_history(history, state["config"]) or problem_of_environments(environments, history)


def announce(run: Run) -> None:
    """Say what there is already of a run that is about to be trained: a result, or nothing to resume."""
    if run.resume and not run.state:
        print(f"There is nothing to resume of {run.name}: it begins at epoch 1.")
    if not run.files.record.exists():
        return
    try:
        accuracy = read_record(run.files.record, run.name, run.settings, older(run.usual))["test_accuracy"]
        result, again = f"with a test accuracy of {accuracy:.3f}", not run.files.state.exists()
    except (ValueError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error  # without its number, and the path once more
        result, again = f"but its record cannot be used: {reason}", False
    print(
        f"{run.name} has finished before, {result} ({shown(run.files.record)}). Its files stay until this new run has "
        "finished, and are then replaced."
        + f" To see the old result instead (until the first epoch is done): {run.command} --resume" * again
        + f"; to test the old model: {run.command} --test" * again
    )


def unfinished_state(run: Run) -> dict | None:
    """What an interrupted run of this name left to go on from, or None; SystemExit if it cannot or must not be used."""
    if run.restart or not run.files.state.exists():
        return None
    state = load_state(run)
    if not run.resume:
        go_on, begin = (f"{run.command} --{word}" for word in ("resume", "restart"))
        raise SystemExit(f"{how_far(run, state)} To go on: {go_on}; to throw that away and begin again: {begin}")
    print(how_far(run, state))
    if changed := differences(state["environments"][-1], environment(run)):
        print(f"Resuming under other conditions, so the numbers may differ a little: {', '.join(changed)}")
    return state


def begin_or_resume(run: Run, learner: Learner, steps: int) -> tuple[list[dict], dict | None]:
    """The history and best weights so far; sets what trains to what it was. With --restart, removes what there is.

    Of the optimizer, only its moments are taken from the state, and nothing of the schedule, which has made ``steps``
    in each epoch: all else is as the settings say. Raises SystemExit: the state is that of another network.
    """
    if run.restart:
        for path in (run.files.state, run.files.live):
            path.unlink(missing_ok=True)
    if not run.state:
        return [], None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the optimizer has not made its steps
        for _ in range(steps * len(run.state["history"])):
            learner.scheduler.step()
    if found := first_problem(resume_optimizer, learner.optimizer, run):
        refuse(run.files.state, found, START_ANEW)
    if learner.average:
        load_weights(learner.average, run.state["average"], run.files.state, START_ANEW)
    return list(run.state["history"]), run.state["best"]


def resume_optimizer(optimizer: torch.optim.Optimizer, run: Run) -> str | None:
    """Set the optimizer's moments to what they were; what is wrong with them, or None."""
    optimizer.load_state_dict(optimizer.state_dict() | {"state": run.state["optimizer"]["state"]})
    for weight in (weight for group in optimizer.param_groups for weight in group["params"]):
        for name in MOMENTS[run.optimizer]:
            moment = optimizer.state[weight][name]
            if moment.shape != (() if name == "step" else weight.shape) or not moment.isfinite().all():
                return "its optimizer is that of another network"
            if (name == "exp_avg_sq" and moment.min() < 0) or (name == "step" and moment < 1):
                return "its optimizer's moments cannot be"
            if name != "step":  # fused steps need it in the weight's order of memory, which is another one on MPS
                optimizer.state[weight][name] = torch.empty_like(weight.detach()).copy_(moment)
    return None


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
        lead = "To go on as before, when there is more:"
        if run.config and not run.test:  # it was in the training
            first = f"Try a --batch-size below {run.batch_size}. "
    if run.test or run.predict or run.dry_run:
        kept = ""
    elif run.files.state.exists():
        try:
            kept = how_far(run, load_state(run)) + f" {lead} {run.command} --resume" * bool(lead)
        except (OSError, RuntimeError, MemoryError):
            kept = f"{shown(run.files.state)} has what was done. {lead} {run.command} --resume"
        except SystemExit as unusable:
            kept = str(unusable)
    elif run.files.record.exists():  # the signal came after the last file, or before the first epoch of a second run
        kept = f"There is nothing to resume; {shown(run.files.record)} is of a run that has finished."
    else:
        kept = f"There is nothing to resume; to begin: {run.command}" if lead else "There is nothing to resume."
    return (first + kept).rstrip()
