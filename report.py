"""The lab report, rebuilt from the records of its runs: reads plots/*.json and writes REPORT.md.

    python report.py                         write REPORT.md from the runs that have finished
    python report.py --plot                  draw its pictures, too: all results, and the runs that it compares
    python report.py --run                   train what is missing, one run after the other (many hours)
    python report.py --run --seeds 0 1 2     each with three seeds
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
from pathlib import Path

import task1_simplecnn
import task2_resnet18
from lab import cifar10, exits, flags, shell
from lab.beyond import RECIPES
from lab.claims import RUNS, Experiment
from lab.comparisons import COMPARISONS, Records, lacking
from lab.figures import draw_comparison, draw_results
from lab.files import Files, atomic_write, print_written, save_figure, shown
from lab.page import page
from lab.record import read_record

TASKS = {
    task1_simplecnn.DEFAULTS["task"]: (task1_simplecnn.SimpleCNN, task1_simplecnn.DEFAULTS, task1_simplecnn.RECIPE),
    task2_resnet18.DEFAULTS["task"]: (task2_resnet18.ResNet18, task2_resnet18.DEFAULTS, task2_resnet18.RECIPE),
}


def main(argv: list[str] | None = None) -> None:
    """Do what the flags say, of ``argv`` or the command line.

    Raises SystemExit: with code 2 for wrong flags, 130 for Ctrl-C, 143 for SIGTERM; 1 if a run failed, if a record
    cannot be used, or if a file cannot be written.
    """
    exits.make_output_safe()
    args = parse_arguments(argv)
    failures = []
    with exits.told_in_one_line(lambda error: "The same command goes on." * isinstance(error, KeyboardInterrupt)):
        if args.compare:
            return compare(args.output_dir, args.compare)
        try:
            records, skipped = collect(args.output_dir)
            failures += [
                f"Left out: {shown(args.output_dir / 'plots' / name)}: {reason}" for name, reason in skipped.items()
            ]
            commands = []
            if args.run or args.list:
                data_dir = cifar10.find(flags.ROOT, args.data_dir).absolute()  # a scheduler may start in another folder
                commands = missing_commands(args, data_dir)
            if args.list:
                for command in commands:
                    print(shell.line(command))
            else:
                write(args, records, skipped)
            if args.run and commands:
                cifar10.download(data_dir)
            for number, command in enumerate(commands if args.run else [], 1):
                print(f"\nRun {number} of {len(commands)}: {shell.line(command)}")
                if reason := train(command):
                    failures.append(f"Failed: {shell.line(command)}\n  {reason}")
                try:
                    write(args, *collect(args.output_dir))
                except OSError as error:  # the next run may still be trained
                    failures.append(f"The report was not written: {error.strerror}: {shown(Path(error.filename))}.")
        finally:
            for failure in failures:
                print(failure, file=sys.stderr)
    if failures:
        raise SystemExit(1)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = flags.parser_for(__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--run", action="store_true", help="train what is missing, go on with what is unfinished")
    mode.add_argument("--list", action="store_true", help="print the commands that --run would call")
    mode.add_argument(
        "--compare", nargs="+", metavar="RUN", help="draw the curves of these runs, by their plots/RUN.json"
    )
    flag = parser.add_argument
    flag("--plot", action="store_true", help="draw the report's pictures of several runs, too; --run does")
    flag("--seeds", type=flags.integer(0, 2**31 - 1), nargs="+", metavar="N", help="for --run and --list: seeds (0)")
    quick = "for --list: makes all of them quick looks, which the report leaves out (the scripts' --{})"
    for name in ("epochs", "limit"):
        flag(f"--{name}", type=flags.SETTINGS[name].type, metavar="N", help=quick.format(name))
    flag("--device", help="for --run and --list: passed on to the scripts")
    flag("--data-dir", type=flags.path, metavar="DIR", help="for --run and --list: passed on to the scripts")
    flag("--output-dir", type=flags.path, default=flags.ROOT, metavar="DIR", help="has plots/, gets REPORT.md (here)")
    args = flags.parsed(parser, argv)
    for name in ("seeds", "device", "data_dir", "epochs", "limit"):
        both = name not in ("epochs", "limit")
        if getattr(args, name) is not None and not (args.list or (args.run and both)):
            parser.error(f"{flags.option(name)} goes with {'--run or ' * both}--list")
    if len(args.compare or []) > 10:
        parser.error("argument --compare: more than 10 runs cannot be told apart by their colours")
    if args.plot and (args.list or args.compare):
        parser.error(f"--plot does not go with {'--list' if args.list else '--compare'}")
    return args


def write(args: argparse.Namespace, records: Records, skipped: dict[str, str]) -> None:
    """Write the report, and draw its pictures of several runs if asked for; OSError if that cannot be done."""
    plots = args.output_dir / "plots"
    plots.mkdir(parents=True, exist_ok=True)
    written = [args.output_dir / "REPORT.md"]
    if args.plot or args.run:
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
    print_written(*written)


def compare(output_dir: Path, names: list[str]) -> None:
    """Draw the curves of these runs, each on the same axes; SystemExit if the record of one cannot be used."""
    plots, records = output_dir / "plots", []
    plots.mkdir(parents=True, exist_ok=True)
    for path in dict.fromkeys(Path(it) if it.endswith(".json") else plots / f"{it}.json" for it in names):
        name = path.name.removesuffix(".json")
        usual = next((flags.all_settings(it, {}) for task, (_, it, _) in TASKS.items() if name.startswith(task)), {})
        try:
            records.append(read_record(path, name, {}, usual))
        except FileNotFoundError:
            finished = ", ".join(it.name.removesuffix(".json") for it in sorted(path.parent.glob("*.json")))
            raise SystemExit(f"There is no {shown(path)}. Runs there: {finished or 'none'}.") from None
        except ValueError as error:
            raise SystemExit(f"{shown(path)} cannot be used: {error}.") from None
    (plots / "compare.png").unlink(missing_ok=True)  # an earlier one, which must not stay if this one cannot be drawn
    save_figure(plots / "compare.png", f"compare.{os.getpid()}", draw_comparison, [records])
    print_written(plots / "compare.png")


# ---------------------------------------------------------------- the runs


def collect(output_dir: Path) -> tuple[Records, dict[str, str]]:
    """The records of the report's runs, with ascending seeds, and for each file that cannot be used the reason."""
    records, skipped = {run.name: [] for run in (*RUNS, *RECIPES)}, {}
    for run in (*RUNS, *RECIPES):
        for path in sorted((output_dir / "plots").glob(f"{run.name}*.json")):
            seed = path.stem.removeprefix(run.name).removeprefix("_seed")
            changes = run.changes | ({"seed": int(seed)} if seed.isdecimal() and seed != "0" else {})
            if flags.run_name(run.task, changes) != path.stem:
                continue  # a run of other settings is no run of the report
            try:
                usual = usual_of(run)
                record = read_record(path, path.stem, usual | changes, flags.older(usual))
                records[run.name].append(record)
            except ValueError as error:
                skipped[path.name] = f"{error}. To train this run again, remove the file."
            except OSError as error:
                skipped[path.name] = f"{error.strerror}."
        records[run.name].sort(key=lambda record: record["config"]["seed"])
    return records, skipped


def usual_of(run: Experiment) -> dict:
    """The settings of a run's script without flags, or with --recipe alone."""
    _, defaults, recipe = TASKS[run.task]
    return flags.usual_settings(defaults, recipe if "recipe" in run.changes else None)


def missing_commands(args: argparse.Namespace, data_dir: Path) -> list[list[str]]:
    """What to call for each run and seed that has not finished: all runs with the first seed, then with the next.

    Each names the directory of CIFAR-10, so that none goes on with the sample. A run with a record that cannot be used
    is left alone, too: what is there may be of use to somebody.
    """
    places = {
        "device": args.device,
        "data_dir": data_dir,
        "output_dir": None if args.output_dir == flags.ROOT else args.output_dir.absolute(),
    }
    places = {name: place for name, place in places.items() if place is not None}
    commands = []
    for seed in dict.fromkeys(args.seeds or [0]):
        given = {"epochs": args.epochs, "seed": seed, "limit": args.limit}
        for run in RUNS:
            changes = run.changes | {name: it for name, it in given.items() if it not in (None, usual_of(run)[name])}
            if not Files(args.output_dir, run.task, flags.run_name(run.task, changes)).finished:
                script = str(flags.ROOT / f"{run.task}.py")
                commands.append([sys.executable, script, *flags.words(changes | places), "--resume"])
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
