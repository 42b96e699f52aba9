"""The lab report and its guide, from the records of the runs: reads plots/*.json, writes REPORT.md and GUIDE.md.

    python report.py                         write both pages from the runs that have finished
    python report.py --plot                  draw their pictures, too: all results, and the runs that they compare
    python report.py --run                   train those of the original's runs that are missing (many hours)
    python report.py --run recipe --seeds 0 1 2     train other runs, by group or by name, with several seeds
    python report.py --list                  print the commands of --run, one a line, for a scheduler; write nothing
    python report.py --compare               list all runs that have finished
    python report.py --compare RUN RUN       what differs in these runs, and their curves on the same axes

--run goes on with unfinished runs, and writes both pages again after each run.
"""

import argparse
import difflib
import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

if __name__ == "__main__":  # python -I, and PYTHONSAFEPATH, leave out the folder of the script
    sys.path.insert(0, str(Path(__file__).resolve().parent))

import task1_simplecnn
import task2_resnet18
from experiments import two_blocks
from lab import cifar10, console
from lab.commandline import parsed, parser_for, told_in_one_line
from lab.drawing import save_figure
from lab.files import ROOT, atomic_write, shown
from lab.original import BASELINE, HIGH, LOW
from lab.record import read_record, title_of
from lab.report.comparisons import COMPARISONS, listing, table
from lab.report.guide import guide
from lab.report.pages import page
from lab.report.pictures import MINUTES, draw_comparison, draw_minutes, draw_results, draw_silent_channels
from lab.report.runs import GROUPS, RUNS, Results, Task, collect
from lab.run import Run, command_line, device, path
from lab.settings import Settings, flags_for, option

TASKS = {
    "task1_simplecnn": Task(
        lambda settings: task1_simplecnn.SimpleCNN(settings.dropout), task1_simplecnn.TASK, task1_simplecnn.RECIPE
    ),
    "task2_resnet18": Task(lambda settings: task2_resnet18.ResNet18(), task2_resnet18.TASK, task2_resnet18.RECIPE),
    "two_blocks": Task(lambda settings: two_blocks.TwoBlocks(settings.dropout), two_blocks.TASK, two_blocks.RECIPE),
}


@console.safe_output()
def main(argv: list[str] | None = None) -> None:
    """Do what the flags say, of ``argv`` or the command line.

    Raises SystemExit: with code 2 for wrong flags, 130 for Ctrl-C, 143 for SIGTERM; 1 if a run failed, if a record
    cannot be used, or if a file cannot be written.
    """
    args = parse_arguments(argv)
    with told_in_one_line(lambda error: "To go on, give the same command again." * (args.run is not None)):
        if args.compare is not None:
            return compare(args.output_dir, args.compare)
        results = collect(args.output_dir, TASKS)
        problems = [f"Left out: {shown(path)}: {why}" for path, why in results.left_out.items()]
        commands = [] if args.train is None else missing_commands(args)
        if args.train is not None and not commands:
            there = shown(args.output_dir / "plots")
            told = f"Nothing to train: {there} has a record of each of these runs. Another --output-dir gets its own."
            print(told, file=sys.stderr)
        if args.list is None:
            write(args, results)
            problems += train_all(args, commands)
            results = collect(args.output_dir, TASKS) if commands else results
            if results.others:
                there = f"--compare{results.place} lists them"
                print(f"Not of the report's runs, and so not in it: {', '.join(results.others)} ({there})")
        else:
            for command in commands:
                print(command_line(command))
        if problems:
            raise SystemExit("\n".join(problems))


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = parser_for(__doc__)
    flag, mode = parser.add_argument, parser.add_mutually_exclusive_group()
    kind, groups = {it.name: it.metadata["kind"] for it in fields(Settings)}, ", ".join(GROUPS)
    for name, help in (("run", "train what is missing of these runs"), ("list", "print the commands that --run calls")):
        mode.add_argument(f"--{name}", nargs="*", metavar="NAME", help=f"{help}; by name or group ({groups})")
    mode.add_argument("--plot", action="store_true", help="draw the report's pictures of several runs; --run does, too")
    help = "compare these runs, by name or by their plots/RUN.json, in a table and a picture; without RUN, list all"
    mode.add_argument("--compare", nargs="*", metavar="RUN", help=help)
    flag("--seeds", type=kind["seed"].parse, nargs="+", metavar="N", help="for --run and --list: seeds (0)")
    for name in ("epochs", "limit"):
        help = "for --run and --list: passed on to the scripts, for quick looks, which the report leaves out"
        flag(f"--{name}", type=kind[name].parse, metavar="N", help=help)
    flag("--device", help="for --run and --list: passed on to the scripts")
    flag("--data-dir", type=path, metavar="DIR", help="for --run and --list: passed on to the scripts")
    flag("--output-dir", type=path, default=ROOT, metavar="DIR", help="has plots/, gets both pages (here)")
    args = parsed(parser, argv)
    args.train = args.list if args.run is None else args.run
    for name in ("seeds", "epochs", "limit", "device", "data_dir"):
        if args.train is None and getattr(args, name) is not None:
            parser.error(f"{option(name)} goes with --run or --list")
    for name in args.train or []:
        if name not in GROUPS and name not in RUNS:
            parser.error(
                f"there is no run or group {name}; groups: {groups}; a run has the name of its files in plots/"
            )
    if len(args.compare or []) > 10:
        parser.error("argument --compare: more than 10 runs cannot be told apart by their colours")
    if args.train is not None:
        named = os.environ.get("CIFAR10_DIR")
        try:
            args.data_dir = cifar10.find(args.data_dir or (path(named) if named else None)).absolute()
        except argparse.ArgumentTypeError as error:
            parser.error(f"CIFAR10_DIR: {error}")
    return args


def write(args: argparse.Namespace, results: Results) -> None:
    """Write the report, and draw its pictures of several runs if asked for; OSError if that cannot be done."""
    plots, pictures = args.output_dir / "plots", {"results": (draw_results, results)}
    plots.mkdir(parents=True, exist_ok=True)
    for name, (rows, _) in COMPARISONS.items():
        if not results.missing(*sum(rows, ())):
            titled = [[(run.label, results[run][0]) for run in row] for row in rows]
            pictures[f"compare_{name}"] = draw_comparison, titled
    silent = [record for run in (LOW, BASELINE, HIGH) for record in results[run][:1] if record.get("silent_channels")]
    if len(silent) == 3:
        pictures["silent_channels"] = draw_silent_channels, silent
    if any(results[run] for runs in MINUTES.values() for run in runs):
        pictures["minutes"] = draw_minutes, results
    drawn = [plots / f"{name}.png" for name in pictures if args.plot or args.run is not None]
    for picture in drawn:
        save_figure(picture, f"{picture.stem}.{os.getpid()}", *pictures[picture.stem])
    pages = {args.output_dir / "REPORT.md": page, args.output_dir / "GUIDE.md": guide}
    for file, text in pages.items():
        atomic_write(file, text(results, TASKS).encode(), f"{file.stem}.{os.getpid()}")
    console.print_written(*pages, *drawn)


def compare(output_dir: Path, names: list[str]) -> None:
    """Print the results of these runs, or of all, and draw the curves of these; SystemExit: a record cannot be used."""
    plots, records, problems = output_dir / "plots", [], []
    found = sorted(plots.glob("*.json"))
    for file in dict.fromkeys(Path(it) if it.endswith(".json") else plots / f"{it}.json" for it in names) or found:
        try:
            records.append(read_record(file, file.stem))
        except FileNotFoundError:
            there = sorted(it.stem for it in file.parent.glob("*.json"))
            near = difflib.get_close_matches(file.stem, there) or [it for it in there if it.startswith(file.stem)]
            meant = f"Did you mean {near[0]}? " if near else ""
            raise SystemExit(f"There is no {shown(file)}. {meant}Without a name, --compare lists all runs.") from None
        except ValueError as error:
            problems.append(f"{shown(file)} cannot be used: {error}.")
    if records:
        print(table(records) if names else listing(records))
    if problems or not records:
        raise SystemExit("\n".join(problems) or f"There is no run in {shown(plots)}.")
    if names:
        titled = [(title_of(record), record) for record in records]
        plots.mkdir(parents=True, exist_ok=True)
        save_figure(plots / "compare.png", f"compare.{os.getpid()}", draw_comparison, [titled])
        console.print_written(plots / "compare.png")


def missing_commands(args: argparse.Namespace) -> list[list[str]]:
    """What to call for each run and seed that has not finished: all runs with the first seed, then with the next.

    Each names all places in full, for a scheduler may start it in another folder. A run whose record cannot be used is
    left alone: what is there may be of use to somebody.
    """
    places = ["--data-dir", str(args.data_dir)] + ([] if args.device is None else ["--device", args.device])
    places += [] if args.output_dir == ROOT else ["--output-dir", str(args.output_dir.absolute())]
    chosen = [run for name in args.train or ["original"] for run in GROUPS.get(name) or [RUNS[name]]]
    commands = {}
    for seed in args.seeds or [0]:
        given = {"epochs": args.epochs, "seed": seed, "limit": args.limit}
        given = {name: value for name, value in given.items() if value is not None}
        for experiment in chosen:
            task, script = TASKS[experiment.task], ROOT / experiment.script
            base, settings = task.base(experiment.changes), replace(task.settings(experiment.changes), **given)
            run = Run(script=script, base=base, settings=settings, device=device("cpu"), output_dir=args.output_dir)
            if not run.files.finished:
                commands[run.name] = [sys.executable, str(script), *flags_for(run.changes), *places, "--resume"]
    return list(commands.values())


def train_all(args: argparse.Namespace, commands: list[list[str]]) -> list[str]:
    """Call these commands one after the other, and write the report after each; returns what failed."""
    problems = []
    if commands:
        cifar10.download(args.data_dir)
    for number, command in enumerate(commands, 1):
        print(f"\nRun {number} of {len(commands)}: {command_line(command)}")
        if code := train(command):
            problems.append(f"Failed with exit code {code}: {command_line(command)}")
        try:
            write(args, collect(args.output_dir, TASKS))
        except OSError as error:  # the next run may still be trained
            problems.append(f"The report was not written: {error.strerror}: {shown(Path(error.filename))}.")
    return problems


def train(command: list[str]) -> int:
    """Call one command, wait for its end, and return its exit code."""
    process = subprocess.Popen(command)
    try:
        return process.wait()
    finally:
        process.terminate()  # if a signal has ended the waiting: where Ctrl-C has reached both, this changes nothing
        process.wait()


if __name__ == "__main__":
    main()
