"""The command line of a task script: flags to a Run; how a run opens and ends, in one line for what a user can cause.

Exit codes: 0 finished, 2 refused while reading the flags, 130 Ctrl-C, 143 SIGTERM, 1 anything else.
"""

import _thread
import argparse
import contextlib
import difflib
import math
import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path

from lab import checkpoint, cifar10, console, files, precision
from lab.files import ROOT, shown
from lab.run import Run, contradictions, device, path
from lab.schedule import SAMPLE_IMAGES
from lab.settings import Settings, option, value_text

AT_ONCE = 3  # seconds: a second signal in this time must not interrupt the tidying up after the first


def parse(script: str, description: str, task: Settings, recipe: Settings, argv: list[str] | None) -> Run:
    """Read the flags of a task script, of ``argv`` or the command line; ``task`` and ``recipe`` are its two bases."""
    parser = parser_for(description)
    add_settings(parser, task, recipe)
    add_places_and_modes(parser)
    args = parsed(parser, argv)
    given = {it.name: getattr(args, it.name) for it in fields(Settings) if it.name in args}
    base = recipe if given.pop("recipe", False) else task
    settings = replace(base, **given)
    for name, reason in contradictions(settings, task, recipe).items():
        if name in given:
            parser.error(f"argument {option(name)}: {reason}")
    if args.mode == "dry-run":
        settings = replace(settings, epochs=min(settings.epochs, 2))
    if args.weights and not args.predict and args.mode != "test":
        parser.error("argument --weights: goes with --test or --predict")
    what = {name: getattr(args, name) for name in ("device", "data_dir", "output_dir", "weights")}
    what |= {"mode": "predict" if args.predict else args.mode, "images": tuple(args.predict)}
    return Run(script=Path(script).resolve(), base=base, settings=settings, **what)


def add_settings(parser: argparse.ArgumentParser, task: Settings, recipe: Settings) -> None:
    """A flag for each setting, in two groups; only the flags that are given become attributes."""
    said = parser.add_argument_group("what the lab report names")
    unsaid = parser.add_argument_group("what it does not name, or only the recipe changes")
    for it in fields(Settings):
        kind, plain, with_recipe = it.metadata["kind"], *(value_text(getattr(base, it.name)) for base in (task, recipe))
        known = "unsaid" not in it.metadata
        how = {"type": kind.parse, "metavar": kind.metavar} if kind else {"action": "store_true"}
        usual = f" ({plain})" if known and plain == with_recipe else f" ({plain}; with --recipe {with_recipe})"
        help = it.metadata["help"] + usual * bool(kind)
        (said if known else unsaid).add_argument(option(it.name), default=argparse.SUPPRESS, help=help, **how)


def add_places_and_modes(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where and how")
    flag, mode = group.add_argument, group.add_mutually_exclusive_group()
    flag("--device", type=device, default="auto", help="auto, cpu, cuda, cuda:1 or mps (auto: cuda, else mps or cpu)")
    named, there = os.environ.get("CIFAR10_DIR") or None, "has or gets CIFAR-10 ($CIFAR10_DIR or data)"
    flag("--data-dir", type=path, default=named, metavar="DIR", help=there)
    flag("--output-dir", type=path, default=ROOT, metavar="DIR", help="gets plots/ and checkpoints/ (here)")
    for name, help in {
        "resume": "continue this run from its last finished epoch",
        "restart": "throw this run's unfinished state away and begin again",
        "test": "test the saved best checkpoint; train and write nothing",
        "dry-run": "two epochs on made-up images; need and leave nothing",
    }.items():
        mode.add_argument(f"--{name}", dest="mode", action="store_const", const=name, default="train", help=help)
    help = "name what these images show (of a folder: all)"
    mode.add_argument("--predict", nargs="+", type=path, default=(), metavar="FILE", help=help)
    help = "for --test and --predict: the weights in this file, of whatever run of this network"
    flag("--weights", type=path, metavar="FILE", help=help)


OURS = (  # our flags, each with what others call it
    "--lr: learning-rate, --epochs: num-epochs max-epochs, --batch-size: b bs batch, --weight-decay: wd, "
    "--optimizer SGD: momentum, --device cuda: gpu cuda, --device cpu: no-cuda no-gpu, --test: eval evaluate, "
    "--resume: resume-from, --weights: checkpoint pretrained, no flag (no worker loads images): workers num-workers"
)
PEERS = {peer: ours for ours, peers in (it.split(": ") for it in OURS.split(", ")) for peer in peers.split()}


def parser_for(description: str) -> argparse.ArgumentParser:
    """A parser that refuses wrong flags in one line, with exit code 2."""
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, formatter_class=as_written, allow_abbrev=False)
    parser.error = console.refuse
    return parser


def parsed(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """What ``parser`` reads from ``argv``; its error for an unknown flag names the one that was meant."""
    values, unknown = parser.parse_known_args(argv)
    if unknown:
        known = re.findall(r"--[\w-]+", parser.format_usage())
        names = [word.partition("=")[0].lower().replace("_", "-").lstrip("-") for word in unknown]
        meant = [PEERS[name] for name in names if PEERS.get(name, "").split(" ")[0] in [*known, "no"]]
        meant += [match for name in names for match in difflib.get_close_matches(f"--{name}", known, 1, 0.8)]
        parser.error(f"unrecognized arguments: {' '.join(unknown)}.{f' Did you mean {meant[0]}?' if meant else ''}")
    return values


@contextlib.contextmanager
def open_run(
    script: str, description: str, task: Settings, recipe: Settings, argv: list[str] | None = None
) -> Iterator[Run]:
    """The run that the flags describe (``argv``, else the command line); inside, no other process can train it."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(console.safe_output())
        run = parse(script, description, task, recipe, argv)
        stack.enter_context(told_in_one_line(lambda error: console.what_next(run, error), run.device))
        stack.enter_context(precision.torch_as_it_comes(run.device))
        if run.mode == "dry-run":
            run = replace(run, output_dir=Path(stack.enter_context(tempfile.TemporaryDirectory())))
            if (cache := "TORCHINDUCTOR_CACHE_DIR") not in os.environ:  # torch would set it, and make one
                os.environ[cache] = str(run.output_dir)
                stack.callback(os.environ.pop, cache)
        if run.mode not in ("test", "predict"):
            try:
                files.make_folders(run.output_dir)
            except OSError as error:
                console.refuse(f"argument --output-dir: cannot write to {run.output_dir}: {error.strerror}")
            console.tell_of_the_sample(run)
            if needs_the_sample(run):
                run = replace(run, settings=replace(run.settings, sample=True))
            stack.enter_context(files.only_process(run.files))
        if run.trains:
            console.tell_what_is_there(run)
        yield run


def needs_the_sample(run: Run) -> bool:
    """Whether a run must do with the sample, because CIFAR-10 is not there and cannot be downloaded."""
    # Never where the user has named a directory, or where a part of CIFAR-10 is: then its reader says what is wrong.
    given = run.data_dir or run.settings.sample or run.mode == "dry-run" or (run.settings.limit or 0) > SAMPLE_IMAGES
    if given or not run.trains or run.files.state.exists() or cifar10.parts_of(cifar10.find()):
        return False
    try:
        cifar10.download(cifar10.find())
    except SystemExit as failure:
        print(str(failure).partition("\n")[0])
        print("So this run becomes one on the sample of CIFAR-10 that comes with the scripts (--sample).")
        return True
    return False


@contextlib.contextmanager
def told_in_one_line(what_next: Callable[[BaseException], str], device: object = "this machine") -> Iterator[None]:
    """Inside, Ctrl-C, SIGTERM, and errors that a user can cause end the script in one line, not in a traceback.

    ``what_next(error)`` ends that line: what is kept, and how to go on. ``device`` is the one whose memory may be full.
    """
    with signals_as_exceptions():
        try:
            yield
        except BrokenPipeError:  # nobody reads any more, as after `| head`
            console.drop_output()
            raise SystemExit(1) from None
        except (KeyboardInterrupt, FloatingPointError, RuntimeError, MemoryError, OSError) as error:
            if not (problem := cause_of(error, device)):
                raise
            if isinstance(error, OSError) and not error.filename:
                console.drop_output()
            with contextlib.suppress(OSError):  # if nobody reads it, the exit code still tells
                print(f"{problem} {what_next(error)}".rstrip(), file=sys.stderr)
            interrupted = isinstance(error, KeyboardInterrupt)
            raise SystemExit(128 + (error.args or [signal.SIGINT])[0] if interrupted else 1) from None


def cause_of(error: BaseException, device: object) -> str | None:
    """What happened, in a sentence; None for an error that no user can cause."""
    if isinstance(error, (KeyboardInterrupt, FloatingPointError)):
        return "Interrupted." if isinstance(error, KeyboardInterrupt) else str(error)
    if isinstance(error, OSError):
        if error.filename:
            return f"{error.strerror}: {shown(Path(error.filename))}."
        missing = isinstance(error, FileNotFoundError)  # a folder for temporary files, which the message names
        return f"{error.strerror or error}{'' if missing else ': standard output'}."
    return f"The memory of {device} is full." if checkpoint.is_full_memory(error) else None


@contextlib.contextmanager
def signals_as_exceptions() -> Iterator[None]:
    """Inside, SIGINT and SIGTERM raise KeyboardInterrupt(number), except where the process ignores them."""
    last = -math.inf

    def interrupt(number, frame):
        nonlocal last
        if time.monotonic() - last > AT_ONCE:
            last = time.monotonic()
            raise KeyboardInterrupt(number)

    def send_again(ignored, show=sys.unraisablehook):
        nonlocal last
        if not isinstance(ignored.exc_value, KeyboardInterrupt):
            return show(ignored)
        last = -math.inf
        threading.Timer(0.01, _thread.interrupt_main, ignored.exc_value.args).start()  # raised here, it is lost, too

    here = threading.current_thread() is threading.main_thread()  # no other may set a handler
    heeded = [it for it in (signal.SIGINT, signal.SIGTERM) if here and signal.getsignal(it) is not signal.SIG_IGN]
    with contextlib.ExitStack() as stack:
        for number in heeded:
            stack.callback(signal.signal, number, signal.signal(number, interrupt))
        if here:  # Python drops what is raised in a destructor, or in the callback of a weak reference
            stack.callback(setattr, sys, "unraisablehook", sys.unraisablehook)
            sys.unraisablehook = send_again
        yield
