"""What belongs to somebody else's program: settings of matplotlib, folders that cannot be written, Python's flags."""

import contextlib
import errno
import functools
import io
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import matplotlib
import matplotlib.style
import pytest
import torch
from PIL import Image
from test_checkpoints import good_checkpoint
from test_runs import assert_same_run, parse, train

import common
import task1_simplecnn
from lab import drawing, summary
from lab.files import ROOT
from task1_simplecnn import SimpleCNN

IMPORT = """
import os, random, signal, sys, numpy, torch

def state():
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    random_states = random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    numbers = torch.get_num_threads(), torch.get_default_dtype(), torch.get_float32_matmul_precision()
    denormal = (torch.tensor([1e-38]) * 0.01).item()
    cudnn = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    return handlers, random_states, numbers, denormal, cudnn, torch.is_grad_enabled(), {**os.environ}, sys.stdout

before = state()
import task1_simplecnn, task2_resnet18
assert state() == before and "matplotlib" not in sys.modules
"""


def test_an_import_changes_nothing(tmp_path):
    places = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", IMPORT]
    run = subprocess.run(command, cwd=tmp_path, env=os.environ | places, capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr, list(tmp_path.iterdir())) == (0, "", "", [])


@contextlib.contextmanager
def setting(change, theirs, usual):
    change(theirs)
    try:
        yield
    finally:
        change(usual)


THEIRS = {
    "no gradients": lambda: setting(torch.set_grad_enabled, False, True),
    "inference": torch.inference_mode,
    "float64": lambda: setting(torch.set_default_dtype, torch.float64, torch.float32),
    "meta": lambda: setting(torch.set_default_device, "meta", None),
    "a GPU that is not there": lambda: setting(torch.set_default_device, "cuda", None),
}


def state_of_torch():
    modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype()
    default = getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)
    random = torch.default_generator.get_state().tolist()
    return *modes, default and default.device, torch._C._len_torch_function_stack(), random


@pytest.mark.parametrize("ending", [None, SystemExit, ZeroDivisionError])
@pytest.mark.parametrize("theirs", THEIRS)
def test_a_run_has_what_it_needs_and_leaves_what_somebody_has_set(made_up, tmp_path, monkeypatch, theirs, ending):
    """Also a standard output that stops at what it cannot encode. It finishes, refuses a flag, or breaks."""
    words = ["--epochs", "1", "--limit", "60", *["--lr", "0"] * (ending is SystemExit)]
    alone = train(tmp_path / "alone", *words) if ending is None else None
    if ending is ZeroDivisionError:
        monkeypatch.setattr(common, "evaluate", lambda *what: 1 / 0)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    with THEIRS[theirs]():
        before, here = state_of_torch(), None
        with pytest.raises(ending) if ending else contextlib.nullcontext():
            here = train(tmp_path / "here", *words)
        assert state_of_torch() == before
    assert (sys.stdout.errors, sys.stdout.line_buffering) == ("strict", False)
    if ending is None:
        assert_same_run(alone, here)


@pytest.mark.parametrize("where", ["main", "another"])
def test_a_script_runs_in_a_notebook(monkeypatch, where):
    """Whose output is no file, and which may call it in another thread."""
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    start = functools.partial(task1_simplecnn.main, ["--dry-run", "--limit", "40", "--device", "cpu"])
    if where == "main":
        start()
    else:
        (thread := threading.Thread(target=start)).start()
        thread.join()
    assert err.getvalue() == "" and out.getvalue().splitlines()[-1].startswith("Test loss: ")


USETEX = "text.usetex: True\nfont.family: no such font\nlines.linewidth: 9\n"  # there is no LaTeX, or it takes long


def test_a_matplotlibrc_changes_no_picture_and_is_left_as_it_is(tmp_path):
    (tmp_path / "matplotlibrc").write_text(USETEX)
    with matplotlib.style.context("default"):
        drawing.save_figure(tmp_path / "plain.png", "plain", summary.draw_network, SimpleCNN())
    with matplotlib.rc_context(fname=tmp_path / "matplotlibrc"):
        before = dict(matplotlib.rcParams)
        drawing.save_figure(tmp_path / "theirs.png", "theirs", summary.draw_network, SimpleCNN())
        assert dict(matplotlib.rcParams) == before and before["text.usetex"]
    assert (tmp_path / "theirs.png").read_bytes() == (tmp_path / "plain.png").read_bytes()


@pytest.mark.parametrize("backend", ["svg", "no such backend"])
def test_the_backend_of_a_notebook_is_left_as_it_is(tmp_path, backend):
    """Also where it is not installed, as in a process that was started from a notebook."""
    code = (
        "import os, sys, pathlib; from lab import drawing\n"
        "drawing.save_figure(pathlib.Path(sys.argv[1]), 'x', lambda figure: figure.text(0, 0, 'x'))\n"
        "import matplotlib; print(os.environ['MPLBACKEND'], matplotlib.get_backend())"
    )
    command = [sys.executable, "-c", code, tmp_path / "x.png"]
    run = subprocess.run(command, cwd=ROOT, env=os.environ | {"MPLBACKEND": backend}, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith(backend) and (backend == "svg") == run.stdout.endswith(" svg\n")
    assert Image.open(tmp_path / "x.png").size == (1259, 629)  # 16 cm at 200 dpi, half as high


def test_a_picture_that_cannot_be_drawn_is_told_and_stops_nothing(made_up, tmp_path, monkeypatch, capsys):
    def broken(figure, *what):
        raise RuntimeError("Failed to process string\nwith tex")

    monkeypatch.setattr(common, "save_figure", drawing.save_figure)
    monkeypatch.setattr(common, "draw_curves", broken)
    monkeypatch.setattr(summary, "draw_network", broken)
    name = "task1_simplecnn_epochs2_limit100"
    (tmp_path / "plots").mkdir()
    for picture in (name, "task1_simplecnn_model"):
        (tmp_path / "plots" / f"{picture}.png").write_text("the picture of an earlier run")
    words = ["--epochs", "2", "--limit", "100", "--device", "cpu", "--output-dir", str(tmp_path), "--data-dir", "x"]
    task1_simplecnn.main(words)
    printed = capsys.readouterr()
    assert [line.rpartition(": ")[2] for line in printed.err.splitlines()] == ["Failed to process string with tex"] * 3
    assert "live.png could not be drawn" in printed.err and f"{name}.png could not be drawn" in printed.err
    left = {f"{name}.json", f"{name}.csv", f"{name}_confusion.png", f"{name}_mistakes.png"}
    assert {path.name for path in (tmp_path / "plots").iterdir()} == left
    assert f"{name}.png" not in printed.out and "model.png" not in printed.out
    assert f"{name}_confusion.png" in printed.out
    task1_simplecnn.main([*words, "--resume"])
    assert "has finished" in capsys.readouterr().out


READ_ONLY = """
for where in $(awk '{print $5}' /proc/self/mountinfo | sort -r); do mount -o remount,bind,ro "$where" 2>/dev/null; done
touch "$0" 2>/dev/null && exit 99
"$1" "$2" --help && "$1" "$2" --output-dir "$3" --predict "$3/blue.png"
"""


def test_where_nothing_can_be_written_what_writes_nothing_works(tmp_path):
    """Neither the home directory, nor one for temporary files."""
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if not shutil.which("unshare") or subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("needs Linux, and the right to a namespace of its own")
    Image.new("RGB", (50, 40), "blue").save(tmp_path / "blue.png")
    (tmp_path / "checkpoints").mkdir()
    torch.save(good_checkpoint(), tmp_path / "checkpoints" / "task1_simplecnn.pt")
    words = [sys.executable, ROOT / "task1_simplecnn.py", tmp_path]
    run = subprocess.run([*unshare, READ_ONLY, tmp_path / "new", *words], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    assert "--output-dir DIR" in run.stdout and "blue.png: " in run.stdout.splitlines()[-1]


@pytest.mark.skipif(sys.platform == "win32", reason="its locks are others")
def test_where_the_file_system_has_no_locks_that_is_told(made_up, tmp_path, monkeypatch, capsys):
    """And nothing is left in the place of a lock: on a machine that dies, it would keep the run from all others."""
    import fcntl

    def refuse(*_):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(fcntl, "flock", refuse)
    task1_simplecnn.main(["--epochs", "1", "--output-dir", str(tmp_path), "--data-dir", str(tmp_path)])
    assert f"This file system has no locks ([Errno {errno.EOPNOTSUPP}]" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["task1_simplecnn_epochs1.pt"]


@pytest.mark.skipif(sys.platform == "win32", reason="its locks are others")
def test_a_lock_of_somebody_else_is_not_taken_away(made_up, tmp_path, monkeypatch, capsys):
    """As where the lock file belongs to another user, whose process trains this run."""
    opened = os.open

    def refuse(path, *how):
        if str(path).endswith(".lock"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path, *how)

    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / ".task1_simplecnn_epochs1.lock").touch()
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(SystemExit, match="1"):
        task1_simplecnn.main(["--epochs", "1", "--output-dir", str(tmp_path), "--data-dir", str(tmp_path)])
    assert capsys.readouterr().err.startswith("Permission denied: ")
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [".task1_simplecnn_epochs1.lock"]


def test_a_tilde_is_the_home_directory(tmp_path, monkeypatch, capsys):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    run = parse(task1_simplecnn, "--output-dir=~/runs", "--data-dir=~/x")
    assert (run.output_dir, run.data_dir) == (tmp_path / "runs", tmp_path / "x")
    assert f"--data-dir {tmp_path / 'x'} --output-dir {tmp_path / 'runs'}" in run.command
    run = parse(task1_simplecnn, "--predict", "~/cat.png", "--output-dir", "./~")
    assert (run.images, run.output_dir) == ((tmp_path / "cat.png",), Path("~"))
    with pytest.raises(SystemExit, match="2"):
        parse(task1_simplecnn, "--output-dir", "")  # as of a variable that is not set
    with pytest.raises(SystemExit, match="2"):
        parse(task1_simplecnn, "--output-dir=~nobody-is-called-so/runs")
    assert "there is no home directory ~nobody-is-called-so (./~ is a folder)" in capsys.readouterr().err
