"""What a run survives: the real scripts, on the sample cut small, are killed, interrupted and starved of disk.

Each test ends by resuming, and compares all files with those of a run that nothing happened to. Those marked ``long``
run only with ``-m ""``: they do one by one, and at more moments, what the others do to one run in turn. At the end,
conftest.py prints how often each fault was tried, and what was lost.
"""

import collections
import contextlib
import errno
import itertools
import json
import os
import pathlib
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time

import PIL.Image
import pytest
import torch
from test_runs import assert_same_run, train

import common
from lab import drawing, files
from lab.checkpoint import load
from lab.files import ROOT, shown

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
long = pytest.mark.long

TASK1, TASK2 = "task1_simplecnn", "task2_resnet18"
EPOCHS = {TASK1: 4, TASK2: 3}
LIMIT = {TASK1: 400, TASK2: 130}


class Lab:
    """An output directory and the processes of one run in it."""

    def __init__(self, directory, task=TASK1):
        self.directory, self.task, self.epochs = directory, task, EPOCHS[task]
        self.run = f"{task}_epochs{EPOCHS[task]}_limit{LIMIT[task]}_sample"
        self.last, self.model = (directory / "checkpoints" / f"{self.run}{end}" for end in (".last.pt", ".pt"))

    def start(self, *words, planted=None, under=(), **environment):
        """Start the script, with a fault if ``planted`` is (FAULT, MOMENT, end of the file's name, COUNT)."""
        command = [ROOT / f"{self.task}.py", "--epochs", self.epochs, "--limit", LIMIT[self.task]]
        command += ["--sample", "--device", "cpu", "--output-dir", self.directory, *words]
        if planted:
            fault, moment, end, count = planted
            command = [ROOT / "tests" / "planted.py", fault, moment, self.run + end, count, *command]
        return subprocess.Popen(
            [*under, sys.executable, *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )

    def done(self):
        """How many epochs are safe on the disk. What has its final name there must be whole."""
        for path in self.directory.glob(f"*/{self.task}*"):
            if path.suffix == ".pt":
                load(path, {}, "")
            elif path.suffix == ".png":
                PIL.Image.open(path).load()
            elif path.suffix == ".csv":
                assert path.read_text().endswith("\n")
            else:
                json.loads(path.read_text())
        if self.last.exists():
            return len(torch.load(self.last)["history"])
        return self.epochs if self.model.exists() else 0

    def files(self):
        """All that there is, by name; from record and table, the seconds and the date are left out."""
        files = {path.relative_to(self.directory): path for path in self.directory.rglob("*") if path.is_file()}
        times = re.compile(rb'"seconds": [\d.]+|"finished": "[^"]+"|,[\d.]+$', re.MULTILINE)
        return {str(name): times.sub(b"", path.read_bytes()) for name, path in files.items()}

    def resume(self, whole, *words, told=0):
        """Resume to the end, after ``told`` epochs were printed; returns how many of them had to be trained again."""
        done = self.done()
        out, err = finish(process := self.start(*words or ["--resume"]))
        assert (process.returncode, err) == (0, "")
        assert trained(out) == list(range(done + 1, self.epochs + 1))
        assert self.files() == whole.files()
        return max(0, told - done)


def finish(process):
    """The rest of standard output, and standard error."""
    timer = threading.Timer(300, process.kill)
    timer.start()
    out, err = process.stdout.read(), process.stderr.read()  # communicate() would miss what until() has read ahead
    process.wait()
    timer.cancel()
    return out, err


def trained(out):
    """The epochs that were told as finished."""
    return [int(number) for number in re.findall(r"^Epoch +(\d+)/\d+  lr", out, re.MULTILINE)]


def until(process, beginning):
    """Wait for a line that begins so; returns all that was printed until then."""
    out = ""
    for line in process.stdout:
        out += line
        if line.startswith(beginning) and " images, " not in line:  # one that tells of the time between
            return out
    pytest.fail(f"ended before {beginning!r}: {process.stderr.read()}")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """By task, the run that nothing happens to, with the seconds that its process took and those of its training."""

    def run(task):
        if task not in runs:
            runs[task] = lab = Lab(tmp_path_factory.mktemp(task), task)
            started = time.monotonic()
            until(process := lab.start(), "FLOPs")
            began = time.monotonic()
            _, err = finish(process)
            assert (process.returncode, err) == (0, "")
            lab.seconds, lab.training_seconds = time.monotonic() - started, time.monotonic() - began
        return runs[task]

    runs = {}
    return run


# ---------------------------------------------------------------- kill -9


@pytest.mark.parametrize(
    ("task", "number"),
    [
        (TASK1, 0),
        *(pytest.param(TASK1, number, marks=long) for number in range(1, 20)),
        *(pytest.param(TASK2, number, marks=long) for number in range(4)),
    ],
)
def test_killed_at_a_random_moment(whole, tmp_path, tried, task, number):
    lab = Lab(tmp_path, task)
    moment = random.Random(f"{task} {number}").random() * whole(task).training_seconds
    out = until(process := lab.start(), "FLOPs")
    time.sleep(moment)
    process.kill()
    out += finish(process)[0]
    lost = lab.resume(whole(task), told=len(trained(out)))
    tried("`kill -9` at a random moment", lost)
    assert lost == 0


IN_WRITING = [  # the moment, the end of the file's name, at which of its writings (or removed after how many)
    ("half", ".last.pt", 3),  # its first writing is before the first epoch, so its third after the second
    ("named", ".last.pt", 3),
    ("synced", ".pt", 1),
    ("half", ".last.pt", 2),
    ("half", ".last.pt", 1),
    ("named", ".last.pt", 1),
    ("opened", ".last.pt", 4),
    ("written", ".last.pt", 4),
    ("synced", ".last.pt", 4),
    ("opened", ".pt", 1),
    ("half", ".pt", 1),
    ("half", ".live.png", 1),
    ("half", ".live.csv", 2),
    ("half", ".png", 1),
    ("half", ".csv", 1),
    ("half", ".json", 1),
    ("named", ".json", 1),
    ("named", ".pt", 1),
    ("removing", ".live.png", 1),
    ("removing", ".last.pt", 5),
]


@long
@pytest.mark.parametrize(
    ("task", "moment"),
    [*((TASK1, moment) for moment in IN_WRITING), *((TASK2, moment) for moment in IN_WRITING[:4])],
)
def test_killed_in_the_writing_of_a_file(whole, tmp_path, tried, task, moment):
    lab = Lab(tmp_path, task)
    out, _ = finish(process := lab.start(planted=("SIGKILL", *moment)))
    assert process.returncode == -signal.SIGKILL
    lost = lab.resume(whole(task), told=len(trained(out)))
    tried(NAMES["SIGKILL"], lost)
    assert lost == 0


@long
def test_killed_again_and_again(whole, tmp_path, tried):
    """Each process gets one epoch further and dies in the writing of the next one's state."""
    lab = Lab(tmp_path)
    for epoch in range(1, lab.epochs):
        out, _ = finish(process := lab.start("--resume", planted=("SIGKILL", "half", ".last.pt", 3)))
        assert process.returncode == -signal.SIGKILL
        assert trained(out) == [epoch] and lab.done() == epoch
    lost = lab.resume(whole(TASK1), told=epoch)
    tried(NAMES["SIGKILL"], lost, times=lab.epochs - 1)
    assert lost == 0


# ---------------------------------------------------------------- Ctrl-C and SIGTERM


def stop(process, number):
    """Send a signal; returns standard output, standard error and the seconds until the end."""
    sent = time.monotonic()
    process.send_signal(number)
    return *finish(process), time.monotonic() - sent


def kept(lab):
    """What a message says of an unfinished run."""
    return f"{shown(lab.last)} has all that was saved. To go on: "


def command_in(err):
    """The flags of the command that a message of one line ends in."""
    (words,) = re.findall(r"\A[^\n]+: [^\n]*task\d_\w+\.py (.*)\n\Z", err)
    return shlex.split(words)


INT, TERM = signal.SIGINT, signal.SIGTERM


@pytest.mark.parametrize(
    ("task", "stops"),
    [
        (TASK1, [(TERM, "FLOPs"), (INT, "Epoch  1/"), (TERM, "Epoch ")]),  # any: fast machines are past the second
        *(pytest.param(TASK1, [stop], marks=long) for stop in ((TERM, "Epoch  2/"), (INT, "FLOPs"))),
        *(pytest.param(TASK2, [(number, "Epoch  1/")], marks=long) for number in (INT, TERM)),
    ],
)
def test_stopped_by_signals(whole, tmp_path, tried, task, stops):
    """Each process is started by the command that the one before has named."""
    lab, words, done = Lab(tmp_path, task), [], 0
    for number, beginning in stops:
        out = until(process := lab.start(*words), beginning)
        time.sleep(0.2)
        more, err, seconds = stop(process, number)
        assert process.returncode == 128 + number
        done += len(trained(out + more))
        words = command_in(err)
        if done:
            assert err.startswith(f"Interrupted. {kept(lab)}")
        tried(f"{signal.Signals(number).name}", max(0, done - lab.done()), seconds)
        assert lab.done() >= done
        done = lab.done()
    assert lab.resume(whole(task), *words) == 0


@long
@pytest.mark.parametrize("moment", [("half", ".last.pt", 4), *IN_WRITING])
def test_stopped_in_the_writing_of_a_file(whole, tmp_path, tried, moment):
    lab = Lab(tmp_path)
    out, err = finish(process := lab.start(planted=("SIGINT", *moment)))
    assert process.returncode == 130
    lost = lab.resume(whole(TASK1), *command_in(err), told=len(trained(out)))
    tried(NAMES["SIGINT"], lost)
    assert lost == 0


@pytest.mark.parametrize("number", [pytest.param(number, marks=long) for number in range(10)])
def test_stopped_at_a_random_moment_of_the_process(whole, tmp_path, tried, number):
    """Also in the imports, where Python itself ends the process: a shell calls that 130 and 143, too."""
    lab, kind = Lab(tmp_path), (INT, TERM)[number % 2]
    process = lab.start()
    time.sleep(0.1 + random.Random(number).random() * (whole(TASK1).seconds - 0.2))
    out, err, seconds = stop(process, kind)
    assert process.returncode in (128 + kind, -kind, 0)
    if process.returncode == 128 + kind:
        assert err.count("\n") == 1
    else:
        assert err == "" or (kind == INT and process.returncode in (-INT, 0) and "KeyboardInterrupt" in err)
    lost = lab.resume(whole(TASK1), told=len(trained(out)))
    tried(f"{kind.name}", lost, seconds)
    assert lost == 0


@pytest.mark.parametrize("number", [INT, TERM])
def test_stopped_during_the_imports(tmp_path, tried, number):
    """Ctrl-C may show Python's own traceback there."""
    (tmp_path / "thop.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    until(process := Lab(tmp_path / "out").start(PYTHONPATH=str(tmp_path)), "importing")
    out, err, seconds = stop(process, number)
    assert (process.returncode, out) == (-number, "")
    assert err.endswith("\nKeyboardInterrupt\n") if number == INT else err == ""
    assert not (tmp_path / "out").exists()
    tried(f"{number.name}", 0, seconds)


def test_ignored_where_the_shell_says_so(whole, tmp_path):
    """As after `&` in a shell script: Ctrl-C is for the script, and not for what it started in the background."""
    lab = Lab(tmp_path)
    process = lab.start(under=[sys.executable, "-c", IGNORE_CTRL_C])
    until(process, "Epoch  1/")
    out, err, _ = stop(process, INT)
    assert (process.returncode, err) == (0, "")
    assert trained(out) == [2, 3, 4]


IGNORE_CTRL_C = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
os.execv(sys.argv[1], sys.argv[1:])
"""


# ---------------------------------------------------------------- one after the other


def test_one_fault_after_the_other(whole, tmp_path, tried):
    """Each process goes on with what the one before has left."""
    lab, words, done = Lab(tmp_path), ["--resume"], 0
    for fault, *moment in (
        ("SIGKILL", "half", ".last.pt", 3),
        ("SIGINT", "half", ".last.pt", 2),
        ("ENOSPC", "half", ".last.pt", 1),
        ("SIGKILL", "named", ".last.pt", 3),
        ("SIGKILL", "synced", ".pt", 1),
    ):
        out, err = finish(process := lab.start(*words, planted=(fault, *moment)))
        assert process.returncode == {"SIGKILL": -signal.SIGKILL, "SIGINT": 130, "ENOSPC": 1}[fault]
        assert trained(out) == list(range(done + 1, done + 1 + len(trained(out))))
        done += len(trained(out))
        lost = max(0, done - lab.done())
        tried(NAMES[fault], lost)
        assert lost == 0
        if fault != "SIGKILL":
            words = command_in(err)
        if fault == "ENOSPC":
            assert err.startswith(f"No space left on device: {shown(lab.last)}. {kept(lab)}") and lab.done() == 1
        done = lab.done()
    assert done == lab.epochs and lab.resume(whole(TASK1)) == 0


NAMES = {
    "SIGKILL": "`kill -9` inside the writing of a file",
    "SIGINT": "SIGINT inside the writing of a file",
    "ENOSPC": "a system call that answers ENOSPC",
}


# ---------------------------------------------------------------- the disk


@pytest.fixture
def disk(tmp_path):
    """A file system of its own, of 6 MB."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mount = shutil.which("mount") and ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", directory]
    if not mount or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs; without it, the tests with planted errors have to do")
    yield directory
    subprocess.run(["umount", "--lazy", directory], check=True)


@contextlib.contextmanager
def read_only(directory):
    """Inside, nobody can write into a directory, not even the superuser, on whom modes are lost."""
    if os.geteuid():
        directory.chmod(0o555)
    else:
        subprocess.run(["mount", "--bind", directory, directory], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", directory], check=True)
    try:
        yield
    finally:
        if os.geteuid():
            directory.chmod(0o755)
        else:
            subprocess.run(["umount", "--lazy", directory], check=True)


def test_a_disk_that_fills_up_or_becomes_read_only(whole, disk, tried):
    """First it is full; then one of the two directories cannot be written, and then the other.

    Each time the run goes on to its last epoch, and says which epochs are not saved.
    """
    lab, words, done = Lab(disk), [], 0
    for fault in ("full", "checkpoints", "plots"):
        out = until(process := lab.start(*words), f"Epoch  {done + 1}/")
        if fault == "full":
            with open(disk / "filler", "wb", buffering=0) as filler, contextlib.suppress(OSError):
                while True:
                    filler.write(bytes(4096))
            more, err = finish(process)
            (disk / "filler").unlink()
            error = "No space left on device"
        else:
            with read_only(disk / fault):
                more, err = finish(process)
            error = "(Read-only file system|Permission denied)"
        assert process.returncode == 1
        *lines, last = err.splitlines(keepends=True)
        assert re.match(rf"{error}: \S+/{lab.run}\S+\. {re.escape(kept(lab))}", last), err
        unsaved = [
            re.fullmatch(rf"{error}: \S+\.last\.pt\. The next epoch tries again, if there is one\.\n", line)
            for line in lines
        ]
        assert done + len(trained(out + more)) == lab.epochs
        done = lab.epochs - sum(map(bool, unsaved))
        lost = max(0, done - lab.done())
        tried("a full disk" if fault == "full" else "a directory that becomes read-only", lost)
        assert lost == 0
        words, done = command_in(last), lab.done()
    assert lab.resume(whole(TASK1), *words) == 0


@long
@pytest.mark.parametrize("moment", IN_WRITING)
def test_a_write_that_fails(whole, tmp_path, tried, moment):
    lab = Lab(tmp_path)
    out, err = finish(process := lab.start(planted=("ENOSPC", *moment)))
    ends = moment[1] in (".pt", ".csv", ".json") or moment[1:] == (".last.pt", 1)
    assert process.returncode == ends and err.count("\n") == 1 and "No space left on device" in err
    left = rf"({re.escape(kept(lab))}|There is nothing to resume; to begin: )"
    assert not ends or re.match(rf"No space left on device(: \S+{moment[1]})?\. {left}", err), err
    if moment[0] == "removing" and "live" in moment[1]:  # "It can be removed by hand."
        (tmp_path / "plots" / f"{lab.run}.live.png").unlink()
    lost = lab.resume(whole(TASK1), *(command_in(err) if ends else ["--resume"]), told=len(trained(out)))
    tried(NAMES["ENOSPC"], lost)
    assert lost == 0


# ---------------------------------------------------------------- somebody else holds a file


def refuse(monkeypatch, is_refused):
    """Refuse to name and to remove files, as Windows does while somebody shows or copies them."""
    replace, unlink = os.replace, pathlib.Path.unlink

    def ask(what, path):
        if path.name.startswith(TASK1) and is_refused(what, path.name):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(files, "PAUSES", (0,) * 4)
    monkeypatch.setattr(os, "replace", lambda old, new: ask("name", new) or replace(old, new))
    monkeypatch.setattr(
        pathlib.Path, "unlink", lambda path, *how, **and_: ask("remove", path) or unlink(path, *how, **and_)
    )


SHORT = ["--epochs", "3", "--limit", "100"]


def test_what_is_refused_for_a_moment_is_done(made_up, tmp_path, monkeypatch, capsys, tried):
    whole, asked = train(tmp_path / "whole", *SHORT), collections.Counter()

    def three_times(*how):
        asked.update([how])
        return asked[how] % 4

    refuse(monkeypatch, three_times)
    assert_same_run(whole, train(tmp_path / "refused", *SHORT))
    assert capsys.readouterr().err == "" and len(asked) == 8 and not any(count % 4 for count in asked.values())
    tried("a file that is held for a moment", times=len(asked))


def test_what_stays_refused_costs_lines_and_not_the_run(made_up, tmp_path, monkeypatch, capsys):
    whole, states = train(tmp_path / "whole", *SHORT), itertools.count()
    monkeypatch.setattr(common, "save_figure", drawing.save_figure)
    name = "task1_simplecnn_epochs3_limit100"
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / f"{name}.png").write_text("the picture of an earlier run")

    def refused(what, name):
        if name.endswith(".last.pt"):
            return what == "name" and next(states) > 0
        return name.endswith(("_model.png", ".live.png", f"{SHORT[-1]}.png"))

    refuse(monkeypatch, refused)
    assert_same_run(whole, train(tmp_path, *SHORT))
    printed, plots = capsys.readouterr(), tmp_path / "plots"
    pictures = [shown(plots / f"{it}.png") for it in ("task1_simplecnn_model", f"{name}.live", name)]
    state = f"{shown(tmp_path / 'checkpoints' / name)}.last.pt"
    assert printed.err.count(f"Permission denied: {state}. The next epoch tries again, if there is one.\n") == 3
    for picture in pictures:
        assert printed.err.count(f"{picture} could not be drawn: Permission denied\n") == 1
        assert f"Written: {picture}\n" not in printed.out
    assert (plots / f"{name}.png").read_text() == "the picture of an earlier run"
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {f"{name}.pt"}


def test_a_first_state_that_is_refused_ends_the_run(made_up, tmp_path, monkeypatch, capsys):
    refuse(monkeypatch, lambda what, name: name.endswith(".last.pt"))
    with pytest.raises(SystemExit, match="1"):
        train(tmp_path, *SHORT)
    assert re.fullmatch(r"Permission denied: \S+\.last\.pt\. There is nothing to resume; .*\n", capsys.readouterr().err)


# ---------------------------------------------------------------- two processes


def test_a_second_process_is_refused(whole, tmp_path, tried):
    """While the first one stands still, so that it cannot have finished; then the second one's way is free."""
    lab = Lab(tmp_path)
    until(first := lab.start(), "Epoch  1/")
    first.send_signal(signal.SIGSTOP)
    before = lab.files()
    for second in [lab.start(*words) for words in ([], ["--resume"], ["--restart"])]:
        out, err = finish(second)
        assert (second.returncode, out) == (1, "")
        assert re.fullmatch(rf"Another process is training {lab.run};.*--output-dir\.\n", err)
        tried("a second process in the same run")
    assert lab.files() == before
    first.kill()
    finish(first)
    assert lab.resume(whole(TASK1)) == 0


@pytest.mark.parametrize("number", [pytest.param(number, marks=long) for number in range(5)])
def test_two_processes_started_at_once(whole, tmp_path, tried, number):
    lab = Lab(tmp_path)
    two = [lab.start() for _ in range(2)]
    errors = [finish(process)[1] for process in two]
    assert sorted(process.returncode for process in two) == [0, 1]
    assert sum(error.startswith(f"Another process is training {lab.run};") for error in errors) == 1
    assert lab.files() == whole(TASK1).files()
    tried("two processes started at once")
