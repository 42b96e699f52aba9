"""A run from its flags to its last file: begin or resume, train, test, and say in one line what went wrong.

A task script calls :func:`main` with its name, its network and its defaults; :func:`run` tells the story.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn

import common
import diagnosis
import flags
import interruption
import model_summary
import photos
from checkpoints import Files, files_of, load_checkpoint, load_weights, only_process, rename, shown, whole_file
from cifar10 import CLASSES
from records import FORMAT, read_record

SETTINGS = ("task", "epochs", "batch_size", "lr", "constant_lr", "no_norm", "no_aug", "seed", "patience", "limit")
BEST_KEYS = ("model", "config", "epoch", "val_accuracy")
STATE_KEYS = ("model", "adam", "scheduler", "config", "history", "environment")
START_ANEW = "With --restart this run begins anew."


def main(description: str, task: str, network: Callable[[], nn.Module], argv: list[str] | None, defaults: dict) -> None:
    """All that a task script does: read the flags (``argv``, else the command line) and do what they say.

    ``defaults`` are the task's epochs, batch_size and lr.

    Raises:
        SystemExit: something went wrong: with code 2 for wrong flags, 130 for Ctrl-C, 143 for SIGTERM, else 1.
    """
    prepare_output()
    args = flags.parse_arguments(description, task, defaults, argv)
    try:
        with interruption.as_exception(), dry_run_directory(args):
            run(args, network)
        return
    except BrokenPipeError:  # nobody reads any more, as after `| head`
        drop_output()
        raise SystemExit(1) from None
    except KeyboardInterrupt as interrupt:
        problem, advice, code = "Interrupted.", "To go on:", 128 + interrupt.args[0]
    except FloatingPointError as error:
        problem, advice, code = f"{error} Try a smaller --lr.", None, 1  # going on would come to the same
    except (RuntimeError, MemoryError) as error:
        full = (
            "out of memory",
            "can't allocate memory",
            "not enough memory",
        )  # on a CPU the error has no type of its own
        if isinstance(error, RuntimeError) and not any(words in str(error) for words in full):
            raise
        problem = f"The memory of {args.device} is full. Try a --batch-size below {args.batch_size}."
        advice, code = "To go on as before, when there is more:", 1
    except OSError as error:
        where = shown(Path(error.filename)) if error.filename else "standard output"
        problem, advice, code = f"{error.strerror or error}: {where}.", "When that is mended, go on:", 1
        if not error.filename:
            drop_output()
    with contextlib.suppress(OSError):  # if nobody reads it, the code still tells
        print(problem, *what_is_kept(args, advice), file=sys.stderr)
    raise SystemExit(code)


def prepare_output() -> None:
    """Let both streams take any text at any time."""
    # A stream that the shell closed (2>&-) is None, and the next file to be opened would get its number and its text.
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115
    if hasattr(sys.stdout, "reconfigure"):  # not in a notebook
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")  # a path may have any characters


def drop_output() -> None:
    """Send what is left of the standard output nowhere; else Python would complain of it once more at its exit."""
    with contextlib.suppress(OSError):  # in a notebook it has no number
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def dry_run_directory(args: argparse.Namespace) -> Iterator[None]:
    """Inside, a dry run has a temporary output directory; other runs keep theirs."""
    if not args.dry_run:
        yield
        return
    with tempfile.TemporaryDirectory() as directory:
        args.output_dir = Path(directory)
        (args.output_dir / "plots").mkdir()
        (args.output_dir / "checkpoints").mkdir()
        yield


def run(args: argparse.Namespace, network: Callable[[], nn.Module]) -> None:
    """Train, validate and test a network under one set of settings and leave the run's files, or --test, --predict."""
    files = files_of(args)
    if args.test or args.predict:
        do = test if args.test else predict
        do(args, build(args, network), files)
        return
    with only_process(files):
        if args.resume and files.record.exists() and not files.last.exists():
            print_finished(args, network, files)
        else:
            train_and_test(args, build(args, network), files)


def build(args: argparse.Namespace, network: Callable[[], nn.Module]) -> nn.Module:
    """The network on ``args.device``, with the first weights of ``args.seed``."""
    if args.device.index is not None:
        torch.cuda.set_device(args.device)
    torch.manual_seed(common.seed_for(args.seed, 0, common.WEIGHTS))
    return network().to(args.device, memory_format=common.memory_format(args.device))


def train_and_test(args: argparse.Namespace, model: nn.Module, files: Files) -> None:
    """Begin the run, or go on with it, until its last file is written."""
    state = None if args.restart else unfinished_state(args, files)
    if state:
        load_weights(model, state["model"], files.last, START_ANEW)
    train_part, val_part, test_part = common.load_data(args)
    config = config_of(args, train_part)
    if state and state["config"] != config:
        raise SystemExit(f"{shown(files.last)} is of a run with other settings. {START_ANEW}")
    print_configuration(args, config)
    model_summary.print_summary(model)
    with whole_file(files.picture, files.run) as file:
        model_summary.draw_network(model, file)

    if args.restart:
        for path in (files.last, files.best, files.live):
            path.unlink(missing_ok=True)
    history = common.train(model, train_part, val_part, config, files, state)
    best = load_best(model, best_file(files), START_ANEW)
    record = {"format": FORMAT, "run": args.run, "config": config, "environment": common.environment(args.device)}
    record |= {"history": history, "best_epoch": best["epoch"], **common.evaluate(model, test_part)}
    finish(record, files)
    print_reading(record)
    print_model(files)
    print_test(record)


def test(args: argparse.Namespace, model: nn.Module, files: Files) -> None:
    """Test the saved best checkpoint, and write nothing."""
    load_finished(args, model, files)
    _, _, test_part = common.load_data(args)
    print_configuration(args, config_of(args, test_part))
    print_model(files)
    print_test(common.evaluate(model, test_part))


def predict(args: argparse.Namespace, model: nn.Module, files: Files) -> None:
    """Print the three likeliest classes of each image file; SystemExit at the end if one cannot be read."""
    config = load_finished(args, model, files)["config"]
    mean, std = (torch.tensor(config[name], device=args.device).view(3, 1, 1) for name in ("mean", "std"))
    failures = 0
    for path in args.predict:
        try:
            image = photos.read_image(path).to(args.device)
        except ValueError as error:
            print(error, file=sys.stderr)
            failures += 1
            continue
        part = common.Part(image[None], torch.zeros(1, dtype=torch.int64, device=args.device), mean, std)
        likeliest = common.predict_logits(model, part)[0].softmax(0).topk(3)
        classes = zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True)
        print(f"{path}: {', '.join(f'{CLASSES[number]} {probability:.1%}' for number, probability in classes)}")
    if failures:
        raise SystemExit(1)


def load_finished(args: argparse.Namespace, model: nn.Module, files: Files) -> dict:
    """Put the best weights of this finished run into ``model``; SystemExit if they are missing, or of another run."""
    best = load_best(model, files.model, f"To train it: {args.command}")
    for name in SETTINGS:
        value = getattr(args, name)
        if best["config"].get(name, value) != value:
            raise SystemExit(f"{shown(files.model)} is of a run with another {name}, {best['config'][name]}.")
    return best


def config_of(args: argparse.Namespace, part: common.Part) -> dict:
    """All that decides the numbers of a run: its settings, and how images are normalized."""
    config = {name: getattr(args, name) for name in SETTINGS}
    return config | {"mean": part.mean.flatten().tolist(), "std": part.std.flatten().tolist()}


def print_finished(args: argparse.Namespace, network: Callable[[], nn.Module], files: Files) -> None:
    """Print the result of a finished run from its record, and draw its pictures if they are missing.

    Raises:
        SystemExit: there is no record that can be used.
    """
    try:
        record = read_record(files.record, args.run, {name: getattr(args, name) for name in SETTINGS})
    except ValueError as error:
        problem = f"{shown(files.record)} is damaged, or of another version: {error}."
        raise SystemExit(f"{problem} To train this run anew: {args.command}") from None
    print(f"{args.run} has finished, with its best epoch {record['best_epoch']}: see {shown(files.record)}")
    for path, draw in ((files.curves, common.draw_curves), (files.confusion, common.draw_confusion)):
        if not path.exists():
            draw(record, path)
            print(f"Written: {shown(path)}")
    if not files.picture.exists():
        with whole_file(files.picture, files.run) as file:
            model_summary.draw_network(network(), file)
        print(f"Written: {shown(files.picture)}")
    print_reading(record)
    print_test(record)


def unfinished_state(args: argparse.Namespace, files: Files) -> dict | None:
    """What an interrupted run of these settings left to go on from, or None.

    Raises:
        SystemExit: there is such a state, and ``--resume`` is not given; or its best weights are not there any more.
    """
    if not files.last.exists():
        return None
    state = load_checkpoint(files.last, STATE_KEYS, START_ANEW)
    if not args.resume:
        raise SystemExit(
            f"{progress(args, state)} Add --resume to go on, or --restart to throw that away and begin again."
        )
    best = common.best_of(state["history"])
    if best is not state["history"][-1]:
        path = best_file(files)
        checkpoint = load_checkpoint(path, BEST_KEYS, START_ANEW)
        if (checkpoint["epoch"], checkpoint["val_accuracy"]) != (best["epoch"], best["val_accuracy"]):
            raise SystemExit(f"{shown(path)} is not of the best epoch, {best['epoch']}. {START_ANEW}")
    print(progress(args, state))
    now = common.environment(args.device)
    changed = [
        f"{name} {before} -> {now[name]}" for name, before in state["environment"].items() if before != now[name]
    ]
    if changed:
        print(f"Resuming under other conditions, so the numbers may differ a little: {', '.join(changed)}")
    return state


def progress(args: argparse.Namespace, state: dict) -> str:
    """How far an unfinished run has come, in a sentence."""
    best = common.best_of(state["history"])
    return (
        f"{args.run} is unfinished: {len(state['history'])} of {args.epochs} epochs are done, "
        f"the best validation accuracy is {best['val_accuracy']:.4f} (epoch {best['epoch']})."
    )


def what_is_kept(args: argparse.Namespace, advice: str | None) -> list[str]:
    """What is on the disk of a run that ends before its time and, after ``advice``, the command that goes on."""
    if args.test or args.predict or args.dry_run:
        return []
    files = files_of(args)
    if not files.last.exists():
        # The signal came after the run's last file, or before a second run of the same name had an epoch.
        if files.record.exists():
            return [f"There is nothing to resume; {shown(files.record)} is of a run that has finished."]
        return [f"There is nothing to resume; to begin: {args.command}" if advice else "There is nothing to resume."]
    try:
        state = load_checkpoint(files.last, STATE_KEYS, START_ANEW)
    except (SystemExit, OSError) as error:
        return [str(error)]
    return [progress(args, state), *([f"{advice} {args.command} --resume"] if advice else [])]


def best_file(files: Files) -> Path:
    """The best weights of an unfinished run; a crash in :func:`finish` may leave them under their final name."""
    return files.best if files.best.exists() else files.model


def load_best(model: nn.Module, path: Path, what_to_do: str) -> dict:
    """Put the best weights of a run into ``model`` and return their checkpoint; SystemExit if they cannot be had."""
    checkpoint = load_checkpoint(path, BEST_KEYS, what_to_do)
    load_weights(model, checkpoint["model"], path, what_to_do)
    return checkpoint


def finish(record: dict, files: Files) -> None:
    """Give a finished run its final files. The state to resume from goes last, so that a crash here loses nothing."""
    common.draw_curves(record, files.curves)
    common.draw_confusion(record, files.confusion)
    with whole_file(files.record, files.run) as file:
        file.write(json.dumps(record, indent=1).encode())
    if files.best.exists():
        rename(files.best, files.model)
    files.live.unlink(missing_ok=True)
    files.last.unlink()
    best = record["history"][record["best_epoch"] - 1]
    print(f"Best epoch: {best['epoch']} of {len(record['history'])}, validation accuracy {best['val_accuracy']:.4f}")
    written = (files.model, files.record, files.curves, files.confusion, files.picture)
    print(f"Written: {', '.join(map(shown, written))}")


def print_configuration(args: argparse.Namespace, config: dict) -> None:
    environment = common.environment(args.device)
    mean, std = (" ".join(f"{value:.4f}" for value in config[name]) for name in ("mean", "std"))
    normalized = f"normalized with mean {mean} and standard deviation {std}, of the first training image"
    patience = f" (patience {config['patience']})" if config["patience"] else ""
    print(f"Run:     {args.run}")
    print(f"Input:   {'pixels in [0, 1]' if config['no_norm'] else normalized}")
    print(f"Augment: {'no' if config['no_aug'] else 'random crop, flip and rotation, in training and validation'}")
    print(f"Train:   {config['epochs']} epochs{patience}, batches of {config['batch_size']}, seed {config['seed']}")
    print(
        f"Adam:    learning rate {config['lr']:g}, {'constant' if config['constant_lr'] else 'halved every 10 epochs'}"
    )
    print(f"Device:  {environment['device']}, {environment['threads']} threads, torch {environment['torch']}")


def print_model(files: Files) -> None:
    print(f"Model loaded from {shown(files.model)} ({files.model.stat().st_size / 1e6:.1f} MB)")


def print_reading(record: dict) -> None:
    """What the curves show, and what to turn next."""
    for finding in diagnosis.diagnose(record["history"]):
        text = f"{finding.name.capitalize()}: {finding.evidence} {finding.advice}"
        print(textwrap.fill(text, width=100, subsequent_indent="  ", break_on_hyphens=False))


def print_test(result: dict) -> None:
    print(f"Test loss: {result['test_loss']:.3f}, Test accuracy: {result['test_accuracy']:.3f}")
