"""Networks of a student's own in the place of the given ones: each trains, or one line says why it cannot."""

import re
import runpy
from types import SimpleNamespace

import pytest
import torch
import torchsummary
from test_runs import assert_same_run, interrupt_in_epoch, parse, train
from torch import nn

import common
import task1_simplecnn
from lab import drawing, summary
from lab.files import ROOT, shown

WORDS = ["--epochs", "2", "--limit", "60", "--batch-size", "20"]
CONV = "self.conv = nn.Conv2d(3, 8, 3, stride=2)"


LOOK = "There is no table of SimpleCNN: .*\n.*model.png could not be drawn: "
SLOWER = "SimpleCNN is trained as it is, perhaps slower than it could be: "
NETWORKS = {  # what stands in __init__ and in forward, a line after a semicolon; what standard error says
    "view": (
        "self.a = nn.Conv2d(3, 6, 5); self.b = nn.Conv2d(6, 16, 5); self.fc = nn.Linear(16 * 5 * 5, 10)",
        "x = F.max_pool2d(F.relu(self.a(x)), 2); x = F.max_pool2d(F.relu(self.b(x)), 2); "
        "return self.fc(x.view(-1, 16 * 5 * 5))",
        "",
    ),
    "view of a small map": (
        "self.a = nn.Conv2d(3, 8, 4, 4, bias=False); self.b = nn.Conv2d(8, 16, 4, 4, bias=False); "
        "self.fc = nn.Linear(64, 10)",
        "return self.fc(self.b(self.a(x)).view(-1, 64))",
        f"{SLOWER}view size is not compatible",
    ),
    "transformer": (
        "self.embed = nn.Conv2d(3, 16, 8, stride=8); self.place = nn.Parameter(torch.zeros(1, 16, 16)); "
        "layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True); "
        "self.encoder = nn.TransformerEncoder(layer, 1); self.fc = nn.Linear(16, 10)",
        "x = self.embed(x).flatten(2).transpose(1, 2); return self.fc(self.encoder(x + self.place).mean(1))",
        LOOK,
    ),
    "LSTM over rows": (
        "self.lstm = nn.LSTM(96, 16, batch_first=True); self.fc = nn.Linear(16, 10)",
        "x, _ = self.lstm(x.permute(0, 2, 1, 3).flatten(2)); return self.fc(x[:, -1])",
        LOOK,
    ),
    "control flow": (
        f"{CONV}; self.fc = nn.Linear(8, 10)",
        "x = self.conv(x).mean((2, 3)); x = x.relu() if x.mean() > 0 else x; return self.fc(x)",
        "model.png could not be drawn: symbolically traced variables cannot be used as inputs to control flow",
    ),
    "keywords": (
        f"{CONV}; self.fc = nn.Linear(8, 10)",
        "return self.fc(input=self.conv(input=x).mean((2, 3)))",
        f"There is no table of SimpleCNN: .*\n{SLOWER}",
    ),
    "ReLU feeds two": (
        "self.conv = nn.Conv2d(3, 10, 3, 4); self.relu = nn.ReLU(); self.pool = nn.MaxPool2d(2)",
        "x = self.relu(self.conv(x)); return self.pool(x).mean((2, 3)) + x.mean((2, 3))",
        f"{SLOWER}lab/faster.py does not know how",
    ),
    "lazy": (
        "self.features = nn.Sequential(nn.LazyConv2d(8, 3, stride=4), nn.LazyBatchNorm2d()); "
        "self.fc = nn.LazyLinear(10)",
        "return self.fc(self.features(x).flatten(1))",
        "",
    ),
    "frozen and unused": (
        f"{CONV}.requires_grad_(False); self.unused = nn.Linear(8, 8); self.fc = nn.Linear(8, 10)",
        "return self.fc(self.conv(x).mean((2, 3)))",
        "",
    ),
    "dropout in every mode": (
        f"{CONV}; self.fc = nn.Linear(8, 10)",
        "return self.fc(F.dropout(self.conv(x).mean((2, 3))))",
        SLOWER,
    ),
}


@pytest.fixture
def script(tmp_path):
    """Write task 1's script with another network; returns its path, and what ``train`` takes for a script."""

    def write(init, forward):
        text = (ROOT / "task1_simplecnn.py").read_text()
        text = text.replace("from torch import nn", "from torch import nn\nimport torch.nn.functional as F")
        start = text.index("        self.block1 = "), text.index("        x = self.block1(x)")
        end = text.index("\n    def forward"), text.index("\n\ndef main")
        init, forward = (f"        {part}\n".replace("; ", "\n        ") for part in (init, forward))
        path = tmp_path / "task1_simplecnn.py"
        path.write_text(text[: start[0]] + init + text[end[0] : start[1]] + forward + text[end[1] :])
        return path, SimpleNamespace(main=runpy.run_path(str(path))["main"])

    return write


@pytest.mark.parametrize("name", NETWORKS)
def test_it_trains_resumes_and_can_be_used(made_up, tmp_path, monkeypatch, capsys, script, name):
    """Also with an average of its weights; the number of parameters is theirs."""
    init, forward, told = NETWORKS[name]
    _, own = script(init, forward)
    monkeypatch.setattr(drawing, "TOLD", set())
    with monkeypatch.context() as patch:
        patch.setattr(common, "draw_curves", lambda *how: None)
        patch.setattr(drawing, "draw_confusion", lambda *how: None)
        patch.setattr(drawing, "draw_mistakes", lambda *how: None)
        patch.setattr(common, "save_figure", drawing.save_figure)
        whole = train(tmp_path / "whole", *WORDS, "--average", "0.9", script=own)
    printed = capsys.readouterr()
    assert re.search(told, printed.err) and printed.err.count("\n") == told.count("\n") + bool(told)
    parameters = whole[0]["config"]["network"]["parameters"]
    assert f" Params: {parameters}.0\n" in printed.out or "no table" in told
    table = re.search(r"Total params: ([\d,]+)", printed.out)
    assert not table or table[1] == f"{parameters:,}" or f"\nIn all: {parameters:,}. " in printed.out

    with monkeypatch.context() as patch:
        interrupt_in_epoch(patch, 2)
        with pytest.raises(SystemExit):
            train(tmp_path / "parts", *WORDS, "--average", "0.9", script=own)
    assert_same_run(whole, train(tmp_path / "parts", *WORDS, "--average", "0.9", "--resume", script=own))
    capsys.readouterr()
    for mode in (["--test"], ["--resume"], ["--predict", str(ROOT / "lab" / "examples" / "cat.png")]):
        train(tmp_path / "parts", *WORDS, "--average", "0.9", *mode, script=own)
        last = capsys.readouterr().out.splitlines()[-1]
        assert ("cat.png: " if mode[0] == "--predict" else "Test loss: ") in last


CANNOT = {  # as above, and the part of it that is named
    "a tuple": (
        f"{CONV}; self.fc = nn.Linear(8, 10)",
        "x = self.conv(x).mean((2, 3)); return self.fc(x), x",
        None,
        r"of two images it makes tuple, not a tensor of shape \(2, 10\)",
    ),
    "no return": (f"{CONV}; self.fc = nn.Linear(8, 10)", "x = self.conv(x)", None, ".* it makes nothing, not"),
    "too few": ("self.fc = nn.Linear(3072, 1)", "return self.fc(x.flatten(1))", None, r".* a tensor of shape \(2, 1\)"),
    "only in training": (
        "self.fc = nn.Linear(3072, 10)",
        "x = self.fc(x.flatten(1)); return torch.cat([x, x], 1) if self.training else x",
        None,
        r".* a tensor of shape \(2, 20\)",
    ),
    "too many classes": (
        "self.fc = nn.Linear(3072, 100)",
        "return self.fc(x.flatten(1))",
        None,
        r"of two images it makes a tensor of shape \(2, 100\), not a tensor of shape \(2, 10\)",
    ),
    "nothing to train": ("pass", "return x.flatten(1)[:, :10]", None, "optimizer got an empty parameter list"),
    "all is frozen": (
        "self.fc = nn.Linear(3072, 10).requires_grad_(False)",
        "return self.fc(x.flatten(1))",
        None,
        "element 0 of tensors does not require grad",
    ),
    "shapes that do not fit": (
        "self.fc = nn.Linear(3000, 10)",
        "x = x.flatten(1); return self.fc(x)",
        "return self.fc(x)",
        r"mat1 and mat2 shapes cannot be multiplied \(2x3072 and 3000x10\)",
    ),
    "a wrong layer": ("self.conv = nn.Conv2d(3, 8)", "return self.conv(x)", "self.conv = ", ".*kernel_size"),
    "changed in place": (
        f"{CONV}; self.fc = nn.Linear(8, 10)",
        "x = torch.sigmoid(self.conv(x)); x += 1; return self.fc(x.mean((2, 3)))",
        None,
        ".*modified by an inplace operation",
    ),
}


@pytest.mark.parametrize("name", CANNOT)
def test_what_cannot_be_used_is_told_in_one_line(made_up, tmp_path, script, name):
    init, forward, named, reason = CANNOT[name]
    path, own = script(init, forward)
    where = re.escape(shown(path))
    if named:
        where += f", line {1 + path.read_text().partition(named)[0].count(chr(10))}"
    with pytest.raises(SystemExit, match=rf"\A{where}: this network cannot be used: {reason}[^\n]*\Z"):
        train(tmp_path, *WORDS, script=own)
    assert not list((tmp_path / "checkpoints").iterdir())


def test_a_full_memory_is_not_the_networks_fault(made_up, tmp_path, monkeypatch, capsys):
    def full(*how):
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes.")

    monkeypatch.setattr(common, "try_out", full)
    with pytest.raises(SystemExit, match="1"):
        train(tmp_path, *WORDS)
    assert capsys.readouterr().err.startswith("The memory of cpu is full. Try a --batch-size below 20. ")


def test_trying_leaves_the_given_networks_as_they_are():
    """In the order of memory that is fast, with their first weights, without hooks."""
    run = parse(task1_simplecnn)
    model = common.build(task1_simplecnn.SimpleCNN, run)
    torch.manual_seed(common.seed_for(0, 0, common.WEIGHTS))
    theirs = task1_simplecnn.SimpleCNN().state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in model.state_dict().items())
    assert model.block2[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert model.training and not model._forward_pre_hooks and all(it.grad is None for it in model.parameters())


def test_another_torchsummary_costs_one_line(monkeypatch, capsys):
    """As torch-summary 1.0, which installs a package of the same name."""

    def other(model, *inputs, **how):
        print("half a table")
        raise TypeError("forward() got an unexpected keyword argument 'device'")

    monkeypatch.setattr(torchsummary, "summary", other)
    monkeypatch.setattr(drawing, "TOLD", set())
    summary.print_summary(nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)))
    told = "There is no table of Sequential: forward() got an unexpected keyword argument 'device'\n"
    assert capsys.readouterr().err == told
