"""What a checkpoint holds: saved, verified, loaded; and the one state from which an unfinished run goes on."""

import contextlib
import hashlib
import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from lab import record as records
from lab.files import atomic_write, shown
from lab.learner import Learner
from lab.run import Run, command_line
from lab.settings import Settings, settings_of

STATE_FORMAT = 5
START_ANEW = "With --restart this run begins anew."
OUT_OF_MEMORY = "out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory"


def save(path: Path, checkpoint: dict, owner: str) -> None:
    """Write what :func:`load` reads; OSError if that cannot be done."""
    content = io.BytesIO()  # because torch.save makes a RuntimeError of a full disk, and of a Ctrl-C while it writes
    torch.save(checkpoint, content)
    atomic_write(path, content.getvalue(), owner)


def load(path: Path, shape: dict, what_to_do: str) -> dict:
    """Read a checkpoint of this :func:`shape <lab.record.misfit>`, its tensors to the CPU.

    Raises SystemExit, whose message ends in ``what_to_do``: it is missing, damaged, or not such a checkpoint; OSError;
    MemoryError or RuntimeError: the memory is full.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise SystemExit(f"There is no {shown(path)}. {what_to_do}") from None
    with usable(path, what_to_do):
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:  # torch.load looks at neither of these two
                damaged = archive.testzip() or any(it.external_attr for it in archive.infolist())
            checkpoint = None if damaged else torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except Exception as error:  # zipfile and torch raise many kinds for a file that is something else
            if is_full_memory(error):
                raise
            raise ValueError(f"it is damaged, or no checkpoint of these scripts ({type(error).__name__})") from None
        if damaged:
            raise ValueError("it is damaged (wrong checksum)")
        if records.misfit(checkpoint, shape):
            raise ValueError(f"it is no checkpoint of these scripts ({', '.join(shape) or 'names and values'})")
    return checkpoint


def is_full_memory(error: BaseException) -> bool:
    """Whether an error says that there is no more memory; on a CPU, PyTorch has no type of its own for it."""
    words = str(error).lower() if isinstance(error, RuntimeError) else ""
    return isinstance(error, MemoryError) or any(known in words for known in OUT_OF_MEMORY)


@contextlib.contextmanager
def usable(path: Path, what_to_do: str) -> Iterator[None]:
    """Inside, an error about what the file ``path`` holds ends the script, and its message is the reason."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # nonsense has many kinds
        raise SystemExit(f"{shown(path)} cannot be used: {error}. {what_to_do}") from None


def load_weights(model: nn.Module, weights: dict) -> None:
    """Put ``weights`` into ``model``; ValueError: they are those of another network, or not finite."""
    try:
        model.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError):
        name = type(getattr(model, "module", model)).__name__  # of an average, what it averages
        raise ValueError(f"it holds the weights of another network than {name}") from None
    if broken := [name for name, tensor in model.state_dict().items() if not tensor.isfinite().all()]:
        raise ValueError(f"its {broken[0]} is not finite")


def copy_of_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of the weights as they are now, on the CPU and in plain layout, so that they load anywhere."""
    plain = {"device": "cpu", "copy": True, "memory_format": torch.contiguous_format}
    return {name: tensor.to(**plain) for name, tensor in model.state_dict().items()}


def fingerprint(model: nn.Module) -> dict[str, object]:
    """What tells a network from one with other layers: class, number of parameters, a digest of its printed form."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    printed = re.sub(r", \w+=(True|False)", "", repr(model))  # switches: newer versions of PyTorch print more of them
    printed = hashlib.sha256(printed.encode()).hexdigest()[:16]
    return {"class": type(model).__name__, "parameters": parameters, "printed": printed}


@torch.inference_mode()
def logits_of_one_image(model: nn.Module, size: int) -> list[float]:
    """The logits of an image of noise, [3, size, size]: they tell, too, whether an activation is another."""
    torch.manual_seed(0)  # also for what a network itself draws
    image = torch.randn(1, 3, size, size)
    return model.eval()(image.to(next(model.parameters()).device))[0].tolist()


def check_network(model: nn.Module, network: dict, size: int | None = None) -> None:
    """ValueError: the record or checkpoint with this ``network`` is of another one than ``model``.

    With a ``size`` of its images, ``model`` has the weights of the checkpoint, and its logits are compared, too.
    """
    now, changed = fingerprint(model), f"{network['class']} has been changed since"
    if now["class"] != network["class"]:
        raise ValueError(f"it is of a {network['class']}, not of a {now['class']}")
    if any(now[name] != network[name] for name in now):
        raise ValueError(f"{changed}: then it had other layers")
    if size and network.get("logits"):
        before, after = network["logits"], logits_of_one_image(model, size)
        if not all(abs(a - b) <= 1e-3 * max(map(abs, before)) for a, b in zip(before, after, strict=True)):  # or nan
            raise ValueError(f"{changed}: with the same weights, it computed something else then")


def load_best(model: nn.Module, run: Run) -> dict:
    """Put a run's best weights, or those of --weights, into ``model``; return their configuration, {} without one."""
    path, shape = run.files.best, {"epoch": int, "val_accuracy": float}
    what_to_do = f"To train it: {run.command}"
    if run.files.state.exists():
        what_to_do += f" --resume; its best epoch so far: {command_line(['--weights', shown(run.files.state)])}"
    if run.weights:  # of any run, whose settings are its own; of a state, those of the best epoch; or a state_dict
        path, shape, what_to_do = run.weights, {}, "--weights takes a RUN.pt of this network, or its state_dict."
    best = load(path, shape, what_to_do)
    config = best.get("config", {})  # which a plain state_dict has not
    with usable(path, what_to_do):
        if config or not run.weights:
            records.check_config(config, None if run.weights else run.settings)
        load_weights(model, best.get("best") or best.get("model") or best)
        if config:  # with another dropout, a network is printed in another way, but computes the same
            check_network(model, config["network"] | (fingerprint(model) if run.weights else {}), config["image_size"])
    return config


def save_state(path: Path, record: dict, best: dict[str, torch.Tensor], learner: Learner) -> None:
    """Save all that the next epoch depends on. No random state is among it, because each epoch seeds its own."""
    state = {"format": STATE_FORMAT} | {name: record[name] for name in ("config", "environments", "history")}
    state |= {"best": best, "model": learner.model.state_dict(), "optimizer": learner.optimizer.state_dict()}
    if learner.average:
        state["average"] = learner.average.state_dict()
    save(path, state, record["run"])


def load_state(path: Path, wanted: Settings) -> dict:
    """Read what an unfinished run left; SystemExit if it cannot be used, or is of a run with other settings."""
    parts = {"history": records.HISTORY, "environments": [records.ENVIRONMENT]}
    parts |= {"best": dict, "model": dict, "optimizer": {"state": dict}}
    state = load(path, {"format": int}, START_ANEW)
    with usable(path, START_ANEW):
        if state["format"] != STATE_FORMAT:
            raise ValueError("another version of these scripts left it, which can go on with it")
        if missing := [name for name, shape in parts.items() if records.misfit(state.get(name), shape)]:
            raise ValueError(f"its {missing[0]} is missing or of another kind")
        records.check_config(state.get("config"), wanted)
        records.check_history(state)
    return state


def restore(path: Path, record: dict, model: nn.Module, learner: Learner) -> dict[str, torch.Tensor]:
    """Set what trains, and history and environments of ``record``, to what they were; return the best weights so far.

    Only the optimizer's moments are restored: all else is as the settings say. SystemExit: the state cannot be used.
    """
    state = load_state(path, settings_of(record["config"]))
    config = state["config"]
    with usable(path, START_ANEW):
        if any(config[name] != record["config"][name] for name in ("mean", "std")):
            raise ValueError("it is of a run with other images")
        load_weights(model, state["best"])
        check_network(model, config["network"], config["image_size"])
        load_weights(learner.model, state["model"])
        if learner.average:
            load_weights(learner.average, state.get("average"))
        if state["history"] and not restore_moments(learner.optimizer, state["optimizer"]):
            raise ValueError("its optimizer is that of another network")
    record["config"]["network"] = config["network"]
    record |= {name: state[name] for name in ("environments", "history")}
    return state["best"]


def restore_moments(optimizer: torch.optim.Optimizer, saved: dict) -> bool:
    """Set the optimizer's moments to what they were; False: they are not those of its weights."""
    optimizer.load_state_dict(optimizer.state_dict() | {"state": saved["state"]})
    for weight, moments in optimizer.state.items():  # there are none of a weight that has had no gradient
        for name, moment in moments.items():
            if moment.shape != (() if name == "step" else weight.shape):
                return False
            if name != "step":  # fused steps need it in the weight's order of memory, which is another one on MPS
                moments[name] = torch.empty_like(weight.detach()).copy_(moment)
    return bool(optimizer.state)
