"""The rooms of the project: what imports what, and that its scripts leave the interpreter as they found it."""

import ast
import contextlib
import runpy
import signal
import subprocess
import sys

import pytest
import torch

from lab import flags

ROOT_MODULES = {path.stem for path in flags.ROOT.glob("*.py")}
LAB = sorted(path.stem for path in (flags.ROOT / "lab").glob("*.py"))


@pytest.mark.parametrize("module", LAB)
def test_nothing_in_lab_imports_from_the_root(module):
    tree = ast.parse((flags.ROOT / "lab" / f"{module}.py").read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = [name for node in imports for name in [getattr(node, "module", None), *(it.name for it in node.names)]]
    assert not ROOT_MODULES & {name.partition(".")[0] for name in names if name}
    assert not any(getattr(node, "level", 0) for node in imports)


def test_each_module_of_lab_stands_alone(tmp_path):
    """Each first of all, in a process that has the libraries, and finds ``lab`` but not the modules of the root."""
    (tmp_path / "lab").symlink_to(flags.ROOT / "lab")
    code = "\n".join(
        [
            "import importlib, sys, thop, torchsummary, torch.fx.passes.shape_prop",
            f"for name in {[name for name in LAB if name != '__init__']}:",
            "    importlib.import_module(f'lab.{name}')",
            f"    assert not {ROOT_MODULES} & set(sys.modules)",
            "    for loaded in [loaded for loaded in sys.modules if loaded.partition('.')[0] == 'lab']:",
            "        del sys.modules[loaded]",
        ]
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


def test_what_needs_no_torch_does_not_import_it():
    code = "import sys, lab.exits, lab.record; assert not {'torch', 'numpy', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=flags.ROOT, check=True)


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
        monkeypatch.setattr(torch.optim.Adam, "step", step)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(type(end), match=str(end)) if end else contextlib.nullcontext():
        runpy.run_path(str(flags.ROOT / script), run_name="__main__")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
