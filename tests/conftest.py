import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lab import cifar10

if "PYTEST_XDIST_WORKER" in os.environ:  # one of several, each with its share of the cores, and what it starts, too
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parent.parent
COMPILER_CACHE = "TORCHINDUCTOR_CACHE_DIR"


@pytest.fixture(autouse=True, scope="session")
def ctrl_c():
    """Let SIGINT count, here and in the processes started here, also if pytest runs in the background, ignoring it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def official():
    """Where the official files of CIFAR-10 are; without them the test is skipped, for it downloads nothing."""
    named = os.environ.get("CIFAR10_DIR")
    directory = cifar10.find(Path(named) if named else None)
    if cifar10.damaged(directory):
        pytest.skip(f"is about the official files of CIFAR-10, which are not in {directory}")
    return directory


@pytest.fixture(scope="session")
def sample():
    """The images and labels to train and validate, and those to test."""
    return *cifar10.load_sample(train=True), *cifar10.load_sample(train=False)


@pytest.fixture
def without_pictures(monkeypatch):
    """Write the files of pictures, but draw nothing, which takes most of the time of a short run."""

    def empty(path, owner, draw, *what):
        path.write_bytes(b"")

    monkeypatch.setattr("common.save_figure", empty)


@pytest.fixture
def made_up(monkeypatch, without_pictures):
    """Let the scripts train on made-up images, whose brightness tells their label."""
    generator = torch.Generator().manual_seed(5)

    def images(n):
        labels = torch.arange(n) % 10
        noise = torch.randint(60, (n, 3, 32, 32), generator=generator)
        return (noise + 20 * labels.view(n, 1, 1, 1)).to(torch.uint8), labels

    to_train, to_test = images(400), images(100)
    monkeypatch.setattr(cifar10, "load", lambda directory, train: to_train if train else to_test)
    return *to_train, *to_test


@pytest.fixture
def script(tmp_path):
    """Run a task script as a user does, its results in ``tmp_path``; returns the finished process.

    It does not inherit what torch has set in this process.
    """

    def run(name, *words, **environment):
        return subprocess.run(
            [sys.executable, ROOT / name, "--output-dir", tmp_path, *map(str, words)],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if name != COMPILER_CACHE} | environment,
            cwd=tmp_path,
            timeout=300,
        )

    return run


@pytest.fixture
def tried(record_property):
    """Count a fault for the table at the end: what it was, finished epochs lost, seconds until the end."""
    return lambda fault, lost=0, seconds=0.0, times=1: record_property("fault", (fault, times, lost, seconds))


def pytest_terminal_summary(terminalreporter):
    """The table of what was survived, from the faults that the tests have recorded."""
    faults = {}
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, value in report.user_properties:
            if name == "fault" and report.when == "call":
                fault, times, lost, seconds = value
                row = faults.setdefault(fault, [0, 0, 0.0])
                faults[fault] = [row[0] + times, row[1] + lost, max(row[2], seconds)]
    if faults:
        terminalreporter.section("survived")
        for fault, (times, lost, seconds) in faults.items():
            slowest = f", ended in at most {seconds:.1f} s" * (seconds > 0)
            terminalreporter.line(f"{fault}: {times} times, {lost} finished epochs lost{slowest}")
