"""A run from end to end: begin or resume, train, test, leave the run's files.

A task script calls :func:`main` with its name, its network and its defaults; :func:`run` tells the story.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

import common
import flags
import model_summary
from checkpoints import Files, files_of, load_checkpoint, load_weights, shown, whole_file

START_ANEW = "With --restart this run begins anew."
BEST_KEYS = ("model", "config", "epoch", "val_accuracy")


def main(
    description: str,
    task: str,
    network: Callable[[], nn.Module],
    argv: list[str] | None,
    epochs: int,
    batch_size: int,
    lr: float,
) -> None:
    """All that a task script does: read the flags (``argv``, else the command line) and do what they say.

    ``epochs``, ``batch_size`` and ``lr`` are the task's defaults.
    """
    if hasattr(sys.stdout, "reconfigure"):  # not in a notebook
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")  # a path may have any characters
    args = flags.parse_arguments(description, task, epochs, batch_size, lr, argv)
    try:
        if args.dry_run:
            with tempfile.TemporaryDirectory() as directory:
                args.output_dir = Path(directory)
                (args.output_dir / "plots").mkdir()
                (args.output_dir / "checkpoints").mkdir()
                run(args, network)
        else:
            run(args, network)
    except BrokenPipeError:  # nobody reads any more, as after `| head`; Python would complain of it once more at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except torch.OutOfMemoryError:
        raise SystemExit(f"The memory of {args.device} is full. Try a --batch-size below {args.batch_size}.") from None
    except KeyboardInterrupt:
        go_on = "" if args.test or args.dry_run else f" The finished epochs are kept; to go on: {args.command} --resume"
        print(f"\nInterrupted.{go_on}", file=sys.stderr)
        raise SystemExit(130) from None


def run(args: argparse.Namespace, network: Callable[[], nn.Module]) -> None:
    """Train, validate and test a network under one set of settings, and leave the run's files."""
    files = files_of(args)
    if args.resume and files.record.exists() and not files.last.exists():
        print_finished(args, files)
        return
    if args.device.index is not None:
        torch.cuda.set_device(args.device)
    torch.manual_seed(common.seed_for(args.seed, 0, common.WEIGHTS))
    model = network().to(args.device, memory_format=common.memory_format(args.device))
    if args.test:
        best = load_best(model, files.model, f"To train it: {args.command}")
        _, _, test_part = common.load_data(args)
        print_configuration(args.run, best["config"], common.environment(args.device))
        print_model(files)
        print_test(common.evaluate(model, test_part))
        return

    state = None if args.restart else unfinished_state(args, files)
    if state:
        load_weights(model, state["model"], files.last, START_ANEW)
    train_part, val_part, test_part = common.load_data(args)
    settings = ("task", "epochs", "batch_size", "lr", "constant_lr", "no_norm", "no_aug", "seed", "patience", "limit")
    config = {name: getattr(args, name) for name in settings}
    config |= {"mean": train_part.mean.flatten().tolist(), "std": train_part.std.flatten().tolist()}
    if state and state["config"] != config:
        raise SystemExit(f"{shown(files.last)} is of a run with other settings. {START_ANEW}")
    print_configuration(args.run, config, common.environment(args.device))
    model_summary.print_summary(model)
    with whole_file(files.picture) as file:
        model_summary.draw_network(model, file)

    if args.restart:
        for path in (files.last, files.best, files.live):
            path.unlink(missing_ok=True)
    history = common.train(model, train_part, val_part, config, files, state)
    best = load_best(model, best_file(files), START_ANEW)
    record = {"format": 1, "run": args.run, "config": config, "environment": common.environment(args.device)}
    record |= {"history": history, "best_epoch": best["epoch"], **common.evaluate(model, test_part)}
    finish(record, files)
    print_model(files)
    print_test(record)


def print_finished(args: argparse.Namespace, files: Files) -> None:
    """Print the result of a finished run from its record; SystemExit if that cannot be read."""
    try:
        record = json.loads(files.record.read_text())
        print(f"{args.run} has finished, with its best epoch {record['best_epoch']}: see {shown(files.record)}")
        print_test(record)
    except (ValueError, KeyError, TypeError):
        raise SystemExit(f"{shown(files.record)} is damaged. To train this run anew: {args.command}") from None


def unfinished_state(args: argparse.Namespace, files: Files) -> dict | None:
    """What an interrupted run of these settings left to go on from, or None.

    Raises:
        SystemExit: there is such a state, and ``--resume`` is not given; or its best weights are not there any more.
    """
    if not files.last.exists():
        return None
    keys = ("model", "optimizer", "scheduler", "config", "history", "environment")
    state = load_checkpoint(files.last, keys, START_ANEW)
    best = common.best_of(state["history"])
    progress = (
        f"{args.run} is unfinished: {len(state['history'])} of {args.epochs} epochs are done, "
        f"the best validation accuracy is {best['val_accuracy']:.4f} (epoch {best['epoch']})."
    )
    if not args.resume:
        raise SystemExit(f"{progress} Add --resume to go on, or --restart to throw that away and begin again.")
    checkpoint = load_checkpoint(best_file(files), BEST_KEYS, START_ANEW)
    is_best = checkpoint["val_accuracy"] == best["val_accuracy"] and checkpoint["epoch"] == best["epoch"]
    # A crash after the best weights of an epoch were written and before its state was leaves them one epoch ahead.
    is_ahead = files.best.exists() and checkpoint["epoch"] == len(state["history"]) + 1
    if not (is_best or is_ahead):
        raise SystemExit(f"{shown(best_file(files))} is not of the best epoch, {best['epoch']}. {START_ANEW}")
    print(progress)
    now = common.environment(args.device)
    changed = [
        f"{name} {before} -> {now[name]}" for name, before in state["environment"].items() if before != now[name]
    ]
    if changed:
        print(f"Resuming under other conditions, so the numbers may differ a little: {', '.join(changed)}")
    return state


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
    with whole_file(files.record) as file:
        file.write(json.dumps(record, indent=1).encode())
    if files.best.exists():
        os.replace(files.best, files.model)
    files.last.unlink()
    files.live.unlink(missing_ok=True)
    best = record["history"][record["best_epoch"] - 1]
    print(f"Best epoch: {best['epoch']} of {len(record['history'])}, validation accuracy {best['val_accuracy']:.4f}")
    print(f"Written: {', '.join(shown(path) for path in (files.model, files.record, files.curves, files.picture))}")


def print_configuration(run: str, config: dict, environment: dict) -> None:
    mean, std = (" ".join(f"{value:.4f}" for value in config[name]) for name in ("mean", "std"))
    normalized = f"normalized with mean {mean} and standard deviation {std}, of the first training image"
    patience = f" (patience {config['patience']})" if config["patience"] else ""
    print(f"Run:     {run}")
    print(f"Input:   {'pixels in [0, 1]' if config['no_norm'] else normalized}")
    print(f"Augment: {'no' if config['no_aug'] else 'random crop, flip and rotation, in training and validation'}")
    print(f"Train:   {config['epochs']} epochs{patience}, batches of {config['batch_size']}, seed {config['seed']}")
    print(
        f"Adam:    learning rate {config['lr']:g}, {'constant' if config['constant_lr'] else 'halved every 10 epochs'}"
    )
    print(f"Device:  {environment['device']}, {environment['threads']} threads, torch {environment['torch']}")


def print_model(files: Files) -> None:
    print(f"Model loaded from {shown(files.model)} ({files.model.stat().st_size / 1e6:.1f} MB)")


def print_test(result: dict) -> None:
    print(f"Test loss: {result['test_loss']:.3f}, Test accuracy: {result['test_accuracy']:.3f}")
