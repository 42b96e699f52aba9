"""The lab report, rebuilt from the records of its runs: reads plots/*.json and writes REPORT.md.

    python report.py                         write REPORT.md from the runs that have finished
    python report.py --plot                  draw its pictures, too: all results, and the runs that it compares
    python report.py --run                   train the original's runs that are missing, one after the other (many hours)
    python report.py --run recipe --seeds 0 1 2     other runs, by their names or by their group, with several seeds
    python report.py --list                  print the commands of --run, one a line, for a scheduler; write nothing
    python report.py --compare RUN RUN       draw the curves of any runs on the same axes, as plots/compare.png

--run goes on with unfinished runs, and writes the report again after each run.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import threading
from dataclasses import fields
from pathlib import Path

import task1_simplecnn
import task2_resnet18
from experiments import two_blocks
from lab import cifar10, console
from lab.commandline import parsed, parser_for, told_in_one_line
from lab.drawing import save_figure
from lab.files import ROOT, Files, atomic_write, shown
from lab.original import Experiment
from lab.record import read_record
from lab.report.comparisons import COMPARISONS, lacking
from lab.report.pages import page
from lab.report.pictures import draw_comparison, draw_results
from lab.report.runs import GROUPS, RUNS, Records, Task, collect
from lab.run import command_line, path
from lab.settings import Settings, flags_for, option, run_name

TASKS = {
    "task1_simplecnn": Task(
        lambda settings: task1_simplecnn.SimpleCNN(settings.dropout), task1_simplecnn.TASK, task1_simplecnn.RECIPE
    ),
    "task2_resnet18": Task(lambda settings: task2_resnet18.ResNet18(), task2_resnet18.TASK, task2_resnet18.RECIPE),
    "two_blocks": Task(lambda settings: two_blocks.TwoBlocks(settings.dropout), two_blocks.TASK, two_blocks.RECIPE),
}
KIND = {it.name: it.metadata["kind"] for it in fields(Settings)}


def main(argv: list[str] | None = None) -> None:
    """Do what the flags say, of ``argv`` or the command line.

    Raises SystemExit: with code 2 for wrong flags, 130 for Ctrl-C, 143 for SIGTERM; 1 if a run failed, if a record
    cannot be used, or if a file cannot be written.
    """
    console.make_output_safe()
    args, failures = parse_arguments(argv), []
    with told_in_one_line(lambda error: "The same command goes on." * isinstance(error, KeyboardInterrupt)):
        if args.compare:
            return compare(args.output_dir, args.compare)
        try:
            records, skipped = collect(args.output_dir, TASKS)
            failures += [f"Left out: {shown(args.output_dir / 'plots' / it)}: {why}" for it, why in skipped.items()]
            commands = []
            if args.train is not None:
                data_dir = cifar10.find(args.data_dir).absolute()  # a scheduler may start in another folder
                commands = missing_commands(args, data_dir)
            if args.list is not None:
                for command in commands:
                    print(command_line(command))
                return
            write(args, records, skipped)
            if commands:
                cifar10.download(data_dir)
            for number, command in enumerate(commands, 1):
                print(f"\nRun {number} of {len(commands)}: {command_line(command)}")
                if reason := train(command):
                    failures.append(f"Failed: {command_line(command)}\n  {reason}")
                try:
                    write(args, *collect(args.output_dir, TASKS))
                except OSError as error:  # the next run may still be trained
                    failures.append(f"The report was not written: {error.strerror}: {shown(Path(error.filename))}.")
        finally:
            for failure in failures:
                print(failure, file=sys.stderr)
            if failures and sys.exc_info()[0] is None:
                raise SystemExit(1)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = parser_for(__doc__)
    mode = parser.add_mutually_exclusive_group()
    some = {"nargs": "*", "metavar": "NAME"}
    groups = ", ".join(GROUPS)
    mode.add_argument("--run", help=f"train what is missing of these runs, by name or group ({groups})", **some)
    mode.add_argument("--list", help="print the commands that --run would call", **some)
    mode.add_argument(
        "--compare", nargs="+", metavar="RUN", help="draw the curves of these runs, by their plots/RUN.json"
    )
    flag = parser.add_argument
    flag("--plot", action="store_true", help="draw the report's pictures of several runs, too; --run does")
    flag("--seeds", type=KIND["seed"].parse, nargs="+", metavar="N", help="for --run and --list: seeds (0)")
    for name in ("epochs", "limit"):
        quick = f"for --list: makes all of them quick looks, which the report leaves out (the scripts' --{name})"
        flag(f"--{name}", type=KIND[name].parse, metavar="N", help=quick)
    flag("--device", help="for --run and --list: passed on to the scripts")
    data_dir = os.environ.get("CIFAR10_DIR") or None
    flag(
        "--data-dir", type=path, default=data_dir, metavar="DIR", help="for --run and --list: passed on to the scripts"
    )
    flag("--output-dir", type=path, default=ROOT, metavar="DIR", help="has plots/, gets REPORT.md (here)")
    args = parsed(parser, argv)
    args.train = args.list if args.run is None else args.run
    for name in ("seeds", "device", "epochs", "limit"):
        only_list = name in ("epochs", "limit")
        if getattr(args, name) is not None and (args.list if only_list else args.train) is None:
            parser.error(f"{option(name)} goes with {'' if only_list else '--run or '}--list")
    if unknown := [name for name in args.train or [] if name not in GROUPS and name not in RUNS]:
        parser.error(f"there is no run or group {unknown[0]}; groups: {groups}; runs: {', '.join(RUNS)}")
    if len(args.compare or []) > 10:
        parser.error("argument --compare: more than 10 runs cannot be told apart by their colours")
    if args.plot and (args.list is not None or args.compare):
        parser.error(f"--plot does not go with {'--compare' if args.compare else '--list'}")
    return args


def write(args: argparse.Namespace, records: Records, skipped: dict[str, str]) -> None:
    """Write the report, and draw its pictures of several runs if asked for; OSError if that cannot be done."""
    plots = args.output_dir / "plots"
    plots.mkdir(parents=True, exist_ok=True)
    written = [args.output_dir / "REPORT.md"]
    if args.plot or args.run is not None:
        pictures = {"results": (draw_results, records)}
        for name, (rows, _) in COMPARISONS.items():
            if not lacking(name, records):
                compared = [[records[run.name][0] for run in row] for row in rows]
                pictures[f"compare_{name}"] = draw_comparison, compared
        for name, drawing in pictures.items():
            written.append(plots / f"{name}.png")
            save_figure(written[-1], f"{name}.{os.getpid()}", *drawing)
    with atomic_write(written[0], f"REPORT.{os.getpid()}") as file:
        file.write(page(records, skipped, args.output_dir, TASKS).encode())
    console.print_written(*written)


def compare(output_dir: Path, names: list[str]) -> None:
    """Draw the curves of these runs, each on the same axes; SystemExit if the record of one cannot be used."""
    plots, records = output_dir / "plots", []
    plots.mkdir(parents=True, exist_ok=True)
    for file in dict.fromkeys(Path(it) if it.endswith(".json") else plots / f"{it}.json" for it in names):
        try:
            records.append(read_record(file, file.name.removesuffix(".json")))
        except FileNotFoundError:
            finished = ", ".join(it.name.removesuffix(".json") for it in sorted(file.parent.glob("*.json")))
            raise SystemExit(f"There is no {shown(file)}. Runs there: {finished or 'none'}.") from None
        except ValueError as error:
            raise SystemExit(f"{shown(file)} cannot be used: {error}.") from None
    save_figure(plots / "compare.png", f"compare.{os.getpid()}", draw_comparison, [records])
    console.print_written(plots / "compare.png")


# ---------------------------------------------------------------- the runs


def chosen_runs(names: list[str]) -> list[Experiment]:
    """The runs with these names, or of these groups; without names, the original's."""
    runs = [run for name in names or ["original"] for run in (GROUPS[name] if name in GROUPS else [RUNS[name]])]
    return list({run.name: run for run in runs}.values())


def missing_commands(args: argparse.Namespace, data_dir: Path) -> list[list[str]]:
    """What to call for each run and seed that has not finished: all runs with the first seed, then with the next.

    Each names the directory of CIFAR-10, so that none goes on with the sample. A run with a record that cannot be used
    is left alone, too: what is there may be of use to somebody.
    """
    places = ["--data-dir", str(data_dir)] + ([] if args.device is None else ["--device", args.device])
    if args.output_dir != ROOT:
        places += ["--output-dir", str(args.output_dir.absolute())]
    commands = []
    for seed in dict.fromkeys(args.seeds or [0]):
        for run in chosen_runs(args.train):
            task, given = TASKS[run.task], {"epochs": args.epochs, "seed": seed, "limit": args.limit}
            usual = task.settings(run.changes)
            changes = run.changes | {name: it for name, it in given.items() if it not in (None, getattr(usual, name))}
            if not Files(args.output_dir, run_name(run.task, changes)).finished:
                commands.append([sys.executable, str(ROOT / run.script), *flags_for(changes), *places, "--resume"])
    return commands


def train(command: list[str]) -> str:
    """Call one command and wait for its end; returns why it failed, or ""."""
    process, lines = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace"), []

    def pass_on() -> None:
        for line in process.stderr:
            print(line, end="", file=sys.stderr)
            if line.strip():
                lines.append(line.strip())

    reader = threading.Thread(target=pass_on, daemon=True)
    try:
        reader.start()
        process.wait()
    except KeyboardInterrupt as interrupt:
        if interrupt.args[0] == signal.SIGINT:  # in a terminal it reaches both processes
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
        raise
    finally:
        process.terminate()  # if it has not ended
        process.wait()
        reader.join()
    return ": ".join([f"exit code {process.returncode}", *lines[-1:]]) if process.returncode else ""


if __name__ == "__main__":
    main()
