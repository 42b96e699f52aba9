"""The rooms of the project: what imports what, and that its scripts leave the interpreter as they found it."""

import ast
import os
import subprocess
import sys

import pytest

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
            "import importlib, sys, matplotlib.figure, thop, torchsummary, torchvision, torch.fx.passes.shape_prop",
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
    for module in ("exits", "record"):
        code = f"import sys, lab.{module}; assert 'torch' not in sys.modules"
        subprocess.run([sys.executable, "-c", code], cwd=flags.ROOT, check=True)


HANDLERS = "; ".join(
    [
        "import runpy, signal, sys, torch",
        "before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]",
        "sys.argv[:] = sys.argv[1:]",
    ]
)
CHECK = """
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except BaseException as error:
    print("ended with", type(error).__name__, getattr(error, "code", ""))
assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
"""
BROKEN = "torch.optim.Adam.step = lambda *how: 1 / 0"
STOPPED = "torch.optim.Adam.step = lambda *how: signal.raise_signal(signal.SIGINT)"


@pytest.mark.parametrize(
    ("words", "broken", "end"),
    [
        ("task1_simplecnn.py --dry-run", "", ""),
        ("task1_simplecnn.py --epochs 0", "", "ended with SystemExit 2"),
        ("task1_simplecnn.py --test --output-dir nowhere", "", "ended with SystemExit There is no "),
        ("task1_simplecnn.py --dry-run", BROKEN, "ended with ZeroDivisionError"),
        ("task1_simplecnn.py --dry-run", STOPPED, "ended with SystemExit 130"),
        ("report.py --seeds 1", "", "ended with SystemExit 2"),
        ("report.py --output-dir {tmp}", "", ""),
        ("report.py --output-dir {tmp}/file/below", "", "ended with SystemExit 1"),
    ],
)
def test_signal_handlers_are_afterwards_what_they_were(tmp_path, words, broken, end):
    """As after ``%run`` in IPython, or ``python -i``."""
    (tmp_path / "file").touch()
    script, *flags_of = words.format(tmp=tmp_path).split()
    command = [sys.executable, "-c", f"{HANDLERS}\n{broken}\n{CHECK}", flags.ROOT / script, *flags_of]
    environment = os.environ | {"PYTHONPATH": str(flags.ROOT)}
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    assert end in run.stdout and (end or "ended" not in run.stdout)
