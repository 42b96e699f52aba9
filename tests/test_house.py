"""The rooms of the house: what imports what, what a third task needs, and how an interpreter is left."""

import ast
import contextlib
import json
import os
import re
import runpy
import shlex
import signal
import subprocess
import sys

import pytest
from test_runs import train

from experiments import two_blocks
from lab.files import ROOT

FLOORS = [  # of lab/, from the lowest
    *("settings", "schedule", "files", "curves", "diagnosis", "original", "record", "precision", "run"),
    *("learner", "checkpoint", "faster", "drawing", "console", "cifar10", "photos", "summary", "commandline", "report"),
]


def imports(path):
    """The names of all that a file imports, each in parts, such as ``["lab", "run", "Run"]``."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names += [f"{'.' * node.level}{node.module}.{it.name}" for it in node.names]
        elif isinstance(node, ast.Import):
            names += [it.name for it in node.names]
    return [name.split(".") for name in names]


def floor_of(path):
    return path.relative_to(ROOT / "lab").parts[0].removesuffix(".py")


def test_every_module_of_lab_imports_lower_ones_only():
    modules = [path for path in (ROOT / "lab").rglob("*.py") if floor_of(path) != "__init__"]
    assert {floor_of(path) for path in modules} == {*FLOORS}
    at_the_root = {path.stem for path in ROOT.glob("*.py")} | {path.parent.name for path in ROOT.glob("*/*.py")}
    for path in modules:
        lower = FLOORS[: FLOORS.index(floor_of(path))]
        inside = [floor_of(path)] * (path.parent.name == "report")  # its modules import each other
        for package, *name in imports(path):
            assert package not in ("", *(at_the_root - {"lab"})), path
            assert package != "lab" or name[0] in lower + inside, path


def test_what_trains_knows_nothing_of_what_judges():
    judges = {ROOT / "report.py", *(ROOT / "lab" / "report").glob("*.py")}
    what_trains = {*ROOT.glob("*.py"), *(ROOT / "experiments").glob("*.py"), *(ROOT / "lab").rglob("*.py")} - judges
    assert len(what_trains) > len(FLOORS)
    for path in what_trains:
        assert not [name for name in imports(path) if name[:2] == ["lab", "report"] or name[0] == "report"], path


def test_what_needs_no_torch_does_not_import_it():
    code = "import sys, lab.record, lab.diagnosis; assert not {'torch', 'numpy', 'matplotlib'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("how", [["-I"], ["-P"] if sys.version_info >= (3, 11) else ["-I"], []])
@pytest.mark.parametrize("name", ["task1_simplecnn.py", "task2_resnet18.py", "report.py", "experiments/two_blocks.py"])
def test_a_script_finds_its_modules_also_where_python_leaves_out_its_folder(tmp_path, name, how):
    command = [sys.executable, *how, ROOT / name, "--help"]
    assert "usage: " in subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout


@pytest.mark.parametrize("name", ["speed", "epoch", "same_results"])  # the other needs Lightning
def test_a_benchmark_finds_what_it_imports(name):
    command = [sys.executable, ROOT / "benchmarks" / f"{name}.py", "--help"]
    assert "usage: " in subprocess.run(command, capture_output=True, text=True, check=True).stdout


# ---------------------------------------------------------------- a third task


def test_the_network_with_two_blocks_trains(made_up, tmp_path):
    record, _ = train(tmp_path, "--epochs", "1", "--limit", "100", script=two_blocks)
    network = record["config"]["network"]
    assert (record["run"], network["class"]) == ("two_blocks_epochs1_limit100", "TwoBlocks")
    assert network["parameters"] == 896 + 64 + 18_496 + 128 + (64 * 8 * 8 * 10 + 10)  # as in the original's table
    assert 0 <= record["test_accuracy"] <= 1


CHANGES = {  # what makes task 1's script that of another network, which stands in another folder
    "\nfrom dataclasses": f"\nimport sys; sys.path.insert(0, {str(ROOT)!r})\nfrom dataclasses",
    "SimpleCNN": "SmallNet2",
    "conv_block(64, 128)": "conv_block(64, 16)",
    "nn.Linear(128 ": "nn.Linear(16 ",
    "batch_size=128": "batch_size=50",
}


def test_a_third_task_is_one_file(tmp_path, without_pictures):
    """It trains, is interrupted and goes on as those that are here, its commands name it, and its runs compare."""
    here, source = tmp_path / "my tasks", (ROOT / "task1_simplecnn.py").read_text()
    for old, new in CHANGES.items():
        assert old in source
        source = source.replace(old, new)
    here.mkdir()
    (here / "third_task.py").write_text(source)

    def call(command):
        done = subprocess.run(command, shell=isinstance(command, str), cwd=here, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    words = ["--sample", "--limit", "100", "--epochs", "20", "--device", "cpu", "--output-dir", "runs"]
    command, pipe = [sys.executable, "third_task.py", *words], subprocess.PIPE
    with subprocess.Popen(command, cwd=here, stdout=pipe, stderr=pipe, text=True) as process:
        next(line for line in process.stdout if line.startswith("Epoch  1/20 "))
        process.send_signal(signal.SIGINT)
        _, error = process.communicate()
    assert process.returncode == 130
    command = re.fullmatch(r"Interrupted\. .* To go on: (.*)\n", error)[1]
    assert shlex.split(command)[1] == "third_task.py"
    printed = call(command)
    assert "\nEpoch  1/20 " not in printed and "\nEpoch 20/20 " in printed

    name = "third_task_epochs20_limit100_sample"
    assert {path.name.partition(".")[0] for path in (here / "runs").rglob("*.*")} == {
        *(name, f"{name}_confusion", f"{name}_mistakes", "third_task_model")
    }
    record = json.loads((here / "runs" / "plots" / f"{name}.json").read_text())
    assert (record["run"], record["config"]["network"]["class"]) == (name, "SmallNet2")
    assert (record["config"]["batch_size"], len(record["history"])) == (50, 20)

    other, _ = train(tmp_path, "--sample", "--limit", "100", "--epochs", "1")
    other_record = tmp_path / "plots" / f"{other['run']}.json"
    compare = [sys.executable, ROOT / "report.py", "--output-dir", "runs", "--compare", name, other_record]
    picture = os.path.join("runs", "plots", "compare.png")
    assert call(compare).endswith(f"\nWritten: {picture}\n") and (here / picture).stat().st_size > 10_000


# ---------------------------------------------------------------- somebody else's interpreter


def broken(*how):
    return 1 / 0


def stopped(*how):
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(
    ("words", "step", "end"),
    [
        ("task1_simplecnn.py --dry-run", None, None),
        ("task1_simplecnn.py --epochs 0", None, SystemExit(2)),
        ("task1_simplecnn.py --test --output-dir nowhere", None, SystemExit("There is no nowhere")),
        ("task1_simplecnn.py --dry-run", broken, ZeroDivisionError("division by zero")),
        ("task1_simplecnn.py --dry-run", stopped, SystemExit(130)),
        ("report.py --seeds 1", None, SystemExit(2)),
        ("report.py --output-dir {tmp}", None, None),
        ("report.py --output-dir {tmp}/file/below", None, SystemExit(1)),
    ],
)
def test_signal_handlers_are_afterwards_what_they_were(tmp_path, monkeypatch, words, step, end):
    """As after ``%run`` in IPython, which runs a script in its own process."""
    (tmp_path / "file").touch()
    script, *flags_of = words.format(tmp=tmp_path).split()
    monkeypatch.setattr(sys, "argv", [script, *flags_of])
    if step:
        monkeypatch.setattr("common.train_epoch", step)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(type(end), match=str(end)) if end else contextlib.nullcontext():
        runpy.run_path(str(ROOT / script), run_name="__main__")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
