"""What a script says to its user is true, fits the terminal, and works when followed."""

import itertools
import os
import re
import shlex
import signal
import struct
import subprocess
import sys
import tempfile
import time
import weakref
from pathlib import Path

import pytest
from test_runs import parse, train, train_until

import common
import report
import task1_simplecnn
from lab import commandline, console
from lab import run as runs
from lab.console import Progress
from lab.files import ROOT, shown
from lab.original import FIGURES, original_accuracy
from lab.settings import Settings

posix = pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
RUN = "task1_simplecnn_epochs2_limit100"
WORDS = ["--epochs", "2", "--limit", "100"]


# ---------------------------------------------------------------- commands


@posix
def test_a_command_works_as_printed_where_the_user_stands(tmp_path):
    """In another folder than the script's, with results in a relative one, spaces and quotes, outside of any PATH."""
    here = tmp_path / "the user's folder"
    here.mkdir()
    script = os.path.relpath(ROOT / "task1_simplecnn.py", here)
    environment = {name: value for name, value in os.environ.items() if name != "CIFAR10_DIR"}
    environment["PATH"] = "/usr/bin:/bin"

    def run(command):
        done = subprocess.run(
            command, shell=isinstance(command, str), cwd=here, env=environment, capture_output=True, text=True
        )
        return done.returncode, done.stdout.splitlines(), done.stderr

    words = ["--sample", "--limit", "60", "--epochs", "1", "--device", "cpu", "--output-dir", "my runs"]
    code, _, error = run([sys.executable, script, "--predict", "x.png", *words])
    assert code == 1 and list(here.iterdir()) == []
    command = re.fullmatch(r"There is no my runs/checkpoints/.*\.pt\. To train it: (.*)\n", error)[1]
    _, called, *given = shlex.split(command)
    given = [word for word in given if word not in ("--device", "cpu")]  # which are named if they are no default
    assert (called, given) == (script, [*words[3:5], *words[1:3], words[0], *words[7:]])
    # Stopped in its only epoch, the run is unfinished; then the same command names the two ways on.
    name = "task1_simplecnn_epochs1_limit60_sample"
    planted = [sys.executable, ROOT / "tests/planted.py", "SIGINT", "half", f"{name}.last.pt", "2"]
    code, _, _ = run([*planted, *shlex.split(command)[1:]])
    assert code == 130
    code, lines, error = run(command)
    assert (code, lines) == (1, [])
    ways = rf"{name} is unfinished: 0 of 1 epochs are done\. To go on: (.*); to throw that away and begin again: (.*)\n"
    resume, restart = re.fullmatch(ways, error).groups()
    assert (resume, restart) == (f"{command} --resume", f"{command} --restart")
    code, lines, error = run(restart)
    assert (code, error) == (0, "") and lines[-1].startswith("Test loss: ") and (here / "my runs" / "plots").is_dir()


def test_how_a_script_is_called_from_elsewhere(tmp_path, monkeypatch):
    """In a notebook, or in a process of another script, argv names something else."""
    script = ROOT / "task1_simplecnn.py"
    for here, called in ((ROOT, "task1_simplecnn.py"), (ROOT.parent, f"{ROOT.name}/{script.name}")):
        monkeypatch.chdir(here)
        for argv in ("ipykernel_launcher.py", "", "-c", str(ROOT / "report.py")):
            monkeypatch.setattr(sys, "argv", [argv])
            assert Path(runs.called(script)) == Path(called)
        monkeypatch.setattr(sys, "argv", [str(script)])
        assert runs.called(script) == str(script)


@posix
def test_the_interpreter_is_called_by_its_name_only_where_that_finds_it(tmp_path, monkeypatch):
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text("")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    for here, path, called in (
        (tmp_path, python.parent, "python"),  # a virtual environment that is active
        (tmp_path, tmp_path, os.path.join("bin", "python")),
        (python.parent, tmp_path, os.path.join(".", "python")),
        (ROOT, tmp_path, None),
    ):
        monkeypatch.chdir(here)
        monkeypatch.setenv("PATH", str(path))
        assert runs.interpreter() == (called or shown(python))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["python", r"C:\runs\task1.py", "--lr", "0.01"], r"python C:\runs\task1.py --lr 0.01"),
        (["python", r"C:\my runs\it's.py"], r'python "C:\my runs\it' + "'" + r's.py"'),
        (["python", r"C:\R&D\x.py", ""], r'python "C:\R&D\x.py" ""'),
    ],
)
def test_on_windows_a_command_is_quoted_for_cmd(monkeypatch, words, line):
    """Which knows double quotes only, and outside of them takes & for the end of a command."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "name", "nt")
        assert runs.command_line(words) == line


def test_a_command_names_what_only_this_shell_knows(monkeypatch):
    """A variable that may not be there later."""
    monkeypatch.setenv("CIFAR10_DIR", "the data")
    run = parse(task1_simplecnn, "--output-dir", "x")
    words = shlex.split(run.command)[2:]
    assert words[-4:] == ["--data-dir", "the data", "--output-dir", "x"]
    assert parse(task1_simplecnn, *words) == run


# ---------------------------------------------------------------- a run that is there already


def test_a_finished_run_that_is_started_again_says_so_first(made_up, tmp_path, monkeypatch, capsys):
    said = f"{RUN} has finished before. Its files are replaced when this run has finished, not before."
    train(tmp_path, *WORDS)
    assert said not in capsys.readouterr().out
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    train_until(2, monkeypatch, tmp_path, *WORDS)
    assert capsys.readouterr().out.startswith(said)
    assert {path: path.read_bytes() for path in before} == before  # they were not replaced
    train(tmp_path, *WORDS, "--resume")
    assert capsys.readouterr().out.startswith(said)


def test_a_longer_run_says_that_it_is_another_one(made_up, tmp_path, monkeypatch, capsys):
    """But no shorter one, and not where it goes on."""
    whole = RUN.replace("_epochs2", "")
    longer = ["--epochs", "81", *WORDS[2:]]
    told = (
        f"{whole} has finished, but {RUN.replace('2', '81')} is another run, from epoch 1 on: more --epochs can only be"
    )
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / f"{whole}.json").write_text("")
    for words, number in ((WORDS, 2), (longer, 2), ([*longer, "--resume"], 3)):
        train_until(number, monkeypatch, tmp_path, *words)
        first, plan, *_ = capsys.readouterr().out.splitlines()
        assert (first == told) is (words is longer)
        assert plan.startswith("planned at the start of a run. (Plan many") is (words is longer)


def test_resuming_what_is_not_there_says_that_it_begins(made_up, tmp_path, capsys):
    train(tmp_path, *WORDS, "--resume")
    first, *others = capsys.readouterr().out.splitlines()
    assert first == f"There is nothing to resume of {RUN}: it begins at epoch 1."
    assert sum(line.startswith("Epoch ") for line in others) == 2


def test_the_table_of_layers_is_not_printed_again_on_resuming(made_up, tmp_path, monkeypatch, capsys):
    train_until(2, monkeypatch, tmp_path, *WORDS)
    assert "Conv2d-1 " in capsys.readouterr().out
    train(tmp_path, *WORDS, "--resume")
    printed = capsys.readouterr().out
    assert "Conv2d-1 " not in printed and "FLOPs" not in printed and "Run:     " in printed


# ---------------------------------------------------------------- signals


def test_a_second_signal_does_not_interrupt_the_tidying_up(tmp_path, monkeypatch, capsys, without_pictures):
    """One that comes while the folder of a dry run is removed, and one while the message is printed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    cleanup, what_next, epoch = tempfile.TemporaryDirectory.cleanup, console.what_next, common.train_epoch

    def again(number, real):
        def signalled(*how):
            signal.raise_signal(number)
            return real(*how)

        return signalled

    monkeypatch.setattr(common, "train_epoch", again(signal.SIGINT, epoch))
    monkeypatch.setattr(tempfile.TemporaryDirectory, "cleanup", again(signal.SIGTERM, cleanup))
    monkeypatch.setattr(console, "what_next", again(signal.SIGINT, what_next))
    with pytest.raises(SystemExit, match="130"):
        task1_simplecnn.main(["--dry-run", "--device", "cpu"])
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err == "Interrupted.\n"


def test_a_signal_that_something_has_swallowed_can_be_repeated(monkeypatch):
    with commandline.signals_as_exceptions():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)  # at once: the same
        monkeypatch.setattr(commandline, "AT_ONCE", 0)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_a_callback_whose_exceptions_python_drops_still_stops(number):
    hook = sys.unraisablehook
    with pytest.raises(KeyboardInterrupt) as caught, commandline.signals_as_exceptions():
        thing = {1}
        watched = weakref.ref(thing, lambda it: signal.raise_signal(number))
        del thing
        for _ in range(1000):
            time.sleep(0.01)
    assert caught.value.args == (number,) and watched() is None
    assert sys.unraisablehook is hook


# ---------------------------------------------------------------- lines


def history_of(loss, accuracy, epochs, rate=0.001, seconds=24.0):
    metrics = {"learning_rate": rate, "train_loss": loss, "val_loss": loss, "seconds": seconds}
    metrics |= {"train_accuracy": accuracy, "val_accuracy": accuracy}
    return [{"epoch": epoch, **metrics} for epoch in range(1, epochs + 1)]


def test_the_line_of_an_epoch_fits_80_columns_and_tells_the_time_left(capsys):
    console.print_epoch(history_of(1.64537, 0.40261, 1), Settings(epochs=80))
    assert capsys.readouterr().out == "Epoch  1/80  lr 0.001     train 1.645 40.3%  val 1.645 40.3%  31:36 left *\n"
    console.print_epoch(history_of(0.5, 0.8, 80), Settings(epochs=80))
    assert capsys.readouterr().out == "Epoch 80/80  lr 0.001     train 0.500 80.0%  val 0.500 80.0%  00:00 left\n"
    for loss, accuracy, epochs, seconds in ((1.2345e7, 0.1, 80, 40), (12.3456, 0.1, 999, 30), (0.00001, 1, 80, 3600)):
        console.print_epoch(history_of(loss, accuracy, 1, 7.8125e-06, seconds), Settings(epochs=epochs))
        assert len(capsys.readouterr().out) <= 81  # with the end of the line


def progress_by(clock, monkeypatch, *what):
    """A bar whose steps take these times; returns it with the times left that it told after each."""
    now = itertools.accumulate(clock, initial=100.0)
    monkeypatch.setattr("lab.console.time.monotonic", lambda: next(now))
    progress, told = Progress(*what), []
    for _ in clock:
        progress.update(10)
        told.append(progress.left())
    return progress, told


def test_the_time_left_is_that_of_the_run(monkeypatch):
    assert Progress("Epoch 1/3", " images", 50).left() == "? left"
    progress, told = progress_by([60.0] * 5, monkeypatch, "Epoch 1/3", " images", 50, 2.0)
    assert told == [f"{minutes}:00 left" for minutes in (14, 13, 12, 11, 10)]
    progress.done, progress.to_follow = 60, 0  # a download may bring more than it said
    assert progress.left() == "00:00 left" and progress.pause == 0


def test_a_slow_step_is_soon_forgotten_and_a_pause_is_no_time_at_all(monkeypatch):
    steps = [5.0] + [0.1] * 199  # as where a GPU begins
    assert progress_by(steps, monkeypatch, "Epoch 1/2", " images", 2000, 1.0)[1][99] == "00:30 left"
    steps[100] = 3600.0
    progress, told = progress_by(steps, monkeypatch, "Epoch 1/2", " images", 2000, 1.0)
    assert (progress.pause, told[99:102]) == (pytest.approx(3600), ["00:30 left", "00:29 left", "00:29 left"])


def test_an_epochs_seconds_are_without_a_pause(made_up, tmp_path, monkeypatch):
    """With a clock by which a step takes two seconds, and a pause before the second one an hour."""
    step, seconds = common.train_step, itertools.accumulate([0, 2, 3602, 2])  # the first is that of a new network

    def slowly(*how):
        clock[0] = next(seconds)
        return step(*how)

    clock = [0]
    monkeypatch.setattr(common, "train_step", slowly)
    for name in ("monotonic", "perf_counter"):
        monkeypatch.setattr(common.time, name, lambda: clock[0])
    record, _ = train(tmp_path, "--limit", "100", "--batch-size", "40", "--epochs", "1")
    assert record["history"][0]["seconds"] == 4


def test_without_a_terminal_a_plain_line_tells_how_far_an_epoch_is(made_up, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("lab.console.PAUSE", -1)
    monkeypatch.setattr(Progress, "left", lambda self: f"{self.total * (1 + self.to_follow) - self.done:g} left")
    train(tmp_path, "--limit", "100", "--batch-size", "40", "--epochs", "2")
    lines = [line for line in capsys.readouterr().out.splitlines() if " images, " in line and "Epoch" in line]
    left = [(1, 40, 160), (1, 80, 120), (1, 100, 100), (2, 40, 60), (2, 80, 20), (2, 100, 0)]
    assert lines == [f"Epoch  {n}/2: {done} of 100 images, {rest} left" for n, done, rest in left]


def on_a_terminal(command, columns):
    """What a command prints on a terminal that claims to have so many columns, and its exit code."""
    fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))  # not on Windows
    main_end, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal, cwd=ROOT) as process:
        os.close(terminal)
        printed = b""
        while True:
            try:
                piece = os.read(main_end, 4096)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            printed += piece
    os.close(main_end)
    return printed, process.returncode


def test_a_terminal_gets_a_progress_bar_with_the_loss_and_the_accuracy_until_then():
    """At its end they are those of the epoch."""
    code = "from lab import console; console.DRAWN = 0; import task1_simplecnn as task; task.main(MAIN)"
    code = code.replace(
        "MAIN", "['--dry-run', '--batch-size', '90']"
    )  # tqdm draws no steps that are smaller than others
    printed, code = on_a_terminal([sys.executable, "-c", code], columns=80)
    assert code == 0
    bars = [bar.decode() for bar in re.findall(rb"\r(Epoch  1/2: +\d+%\|[^\r]*)", printed)]
    loss, accuracy = re.search(r" images/s, loss (\S+) (\S+%), \d\d:\d\d left$", bars[-1]).groups()
    assert f"Epoch  1/2  lr 0.001     train {loss} {accuracy:>5}  val " in printed.decode()
    assert all(len(bar) <= 80 for bar in bars) and bars[0].endswith("? left")


@pytest.mark.parametrize(("columns", "disable"), [(80, ""), (80, "1"), (0, "")])
def test_a_terminal_gets_lines_where_no_bar_is_wanted_or_fits(columns, disable, monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", disable)
    code = (
        "from lab import console; console.PAUSE = -1; console.DRAWN = 0\n"
        "bar = console.Progress('Epoch 1/2', ' images', 2); bar.update(); bar.update()"
    )
    printed, _ = on_a_terminal([sys.executable, "-c", code], columns)
    lines = rb"Epoch 1/2: 1 of 2 images, \d\d:\d\d left\r\nEpoch 1/2: 2 of 2 images, 00:00 left\r\n"
    drawn = columns == 80 and not disable
    assert bool(re.fullmatch(lines, printed)) != drawn and (b"\rEpoch 1/2: 100%" in printed) == drawn


def test_the_originals_accuracy_stands_beside_that_of_its_runs(capsys):
    found = [original_accuracy(run.task, run.changes | {"seed": 2}) for run in FIGURES]
    assert found == [run.accuracy for run in FIGURES]
    result = {"test_loss": 0.5, "test_accuracy": 0.75, "confusion_matrix": [[10_000]]}
    its_runs = [(["--seed", "1"], " (original: 0.817)"), (["--float32"], " (original: 0.817)")]
    for words, beside in (*its_runs, (["--limit", "100"], ""), (["--no-aug"], "")):
        console.print_test(result, parse(task1_simplecnn, *words))
        assert capsys.readouterr().out == f"Test loss: 0.500, Test accuracy: 0.750{beside}\n"


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("--epoch 3", "--epochs"),
        ("--batch_size=64", "--batch-size"),
        ("--seeed=2147483647", "--seed"),
        ("--noaug", "--no-aug"),
        ("--constant_lr", "--constant-lr"),
        ("--resum", "--resume"),
        *((f"{peer} 0.1", "--lr") for peer in ("--learning-rate", "--learning_rate")),
        *((peer, "--batch-size") for peer in ("--batch 64", "--batch_size 64", "-b 64", "--Batch-Size=64")),
        *((f"--{peer} 4", "no flag (no worker loads images)") for peer in ("workers", "num-workers", "num_workers")),
        *((f"--{peer}", "--test") for peer in ("eval", "evaluate")),
        *((f"--{peer} x", "--weights") for peer in ("checkpoint", "pretrained")),
        ("--num-epochs 3", "--epochs"),
        ("--gpu 0", "--device cuda"),
        ("--no-cuda", "--device cpu"),
        ("--wd 0.1", "--weight-decay"),
        ("--momentum 0.9", "--optimizer SGD"),
        ("--resume-from x.pt", "--resume"),
        ("--evil", None),
        ("--rate 0.1", None),
        ("extra", None),
    ],
)
def test_a_flag_that_is_not_known_is_told_with_the_one_that_was_meant(words, meant, capsys):
    with pytest.raises(SystemExit, match="2"):
        task1_simplecnn.main(words.split())
    hint = f" Did you mean {meant}?" if meant else ""
    assert f"error: unrecognized arguments: {words}.{hint} (--help lists the flags)\n" in capsys.readouterr().err


def test_the_report_knows_what_was_meant_too(capsys):
    with pytest.raises(SystemExit, match="2"):
        report.main(["--seed", "1"])
    assert "Did you mean --seeds?" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        report.main(["--wd", "1"])
    assert "Did you mean" not in capsys.readouterr().err  # a flag that it has not itself
