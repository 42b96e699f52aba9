"""Checkpoints, states and records: which are refused, and how; what is no damage."""

import contextlib
import io
import math
import pathlib
import random
import re
import runpy
import signal
from dataclasses import asdict

import pytest
import torch
import torchvision
from test_runs import assert_same_run, interrupt_in_epoch, train, without_seconds

import common
import task1_simplecnn
import task2_resnet18
from lab import precision
from lab.checkpoint import fingerprint, load, logits_of_one_image, save
from lab.files import ROOT, shown
from task1_simplecnn import SimpleCNN

CONFIG = asdict(task1_simplecnn.TASK) | {"mean": [0.5] * 3, "std": [0.2] * 3}


def good_checkpoint(**settings):
    model = SimpleCNN()
    network = fingerprint(model) | {"logits": logits_of_one_image(model, 32)}
    return {
        "model": model.state_dict(),
        "config": CONFIG | {"network": network} | settings,
        "epoch": 1,
        "val_accuracy": 0.5,
    }


class Code:
    """What a checkpoint must not hold: loading it would call a function."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


CONTENTS = [
    "missing",
    "text",
    "empty",
    "cut short",
    "one changed byte",
    "code",
    "network",
    "list",
    "tensor",
    "state_dict",
]


@pytest.mark.parametrize("content", CONTENTS)
def test_a_checkpoint_that_cannot_be_used_says_so(made_up, tmp_path, content, tried, monkeypatch):
    monkeypatch.delenv("CIFAR10_DIR", raising=False)  # a command would name it
    path = tmp_path / "checkpoints" / "task1_simplecnn.pt"
    path.parent.mkdir()
    good = good_checkpoint()
    things = {
        "cut short": good,
        "one changed byte": good,
        "code": good | {"epoch": Code(tmp_path / "called")},
        "network": good | {"model": torchvision.models.resnet18().state_dict()},
        "list": [1, 2, 3],
        "tensor": torch.zeros(3),
        "state_dict": SimpleCNN().state_dict(),
    }
    if content in things:
        torch.save(things[content], path)
    if content == "cut short":
        path.write_bytes(path.read_bytes()[:100_000])
    elif content == "one changed byte":
        change_byte(path, 100_000)  # in the weights
        torch.load(path)
    elif content in ("text", "empty"):
        path.write_text("no checkpoint" if content == "text" else "")
    problem = {"missing": "There is no", "network": "holds the weights of another network"}
    problem |= {"one changed byte": "(wrong checksum)", "code": "(UnpicklingError)"}
    command = f"task1_simplecnn.py --output-dir {tmp_path}"
    with pytest.raises(SystemExit) as failure:
        task1_simplecnn.main(["--test", "--output-dir", str(tmp_path)])
    message = failure.value.code
    assert problem.get(content, "no checkpoint of these scripts") in message and "\n" not in message
    assert "checkpoints/task1_simplecnn.pt" in message and message.endswith(command)
    assert not (tmp_path / "called").exists()
    tried(f"a checkpoint, {content}")


def change_byte(path, position, bits=1):
    content = bytearray(path.read_bytes())
    content[position] ^= bits
    path.write_bytes(content)


def test_any_changed_byte_is_recognised_or_changes_nothing(tmp_path, tried):
    path = tmp_path / "any.pt"
    good = {"model": SimpleCNN().state_dict(), "epoch": 7}
    save(path, good, "any")
    choose, content, recognised = random.Random(0), path.read_bytes(), 0
    anywhere = choose.choices(range(len(content)), k=1000)
    for position in [*range(1000), *range(len(content) - 1000, len(content)), *anywhere]:
        path.write_bytes(content)
        change_byte(path, position, choose.randrange(1, 256))
        try:
            loaded = load(path, {}, "")
        except SystemExit as error:
            assert "cannot be used" in error.code
            recognised += 1
        else:
            assert loaded["epoch"] == 7 and list(loaded["model"]) == list(good["model"])
            assert all(torch.equal(loaded["model"][name], tensor) for name, tensor in good["model"].items()), position
    assert 1500 < recognised < 3000  # dates, versions and padding may change
    tried("a checkpoint, any changed byte", times=3000)


def test_a_checkpoint_of_other_settings_is_not_tested(made_up, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    torch.save(good_checkpoint(no_norm=True), tmp_path / "checkpoints" / "task1_simplecnn.pt")
    told = r"it is of a run with another no_norm: True, not False\. To train it: \S.*task1_simplecnn\.py"
    with pytest.raises(SystemExit, match=told):
        task1_simplecnn.main(["--test", "--output-dir", str(tmp_path), "--data-dir", str(tmp_path)])


def test_a_damaged_resume_state_says_how_to_go_on(made_up, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "task1_simplecnn.last.pt").write_bytes(b"PK")
    for words in ([], ["--resume"]):
        with pytest.raises(SystemExit, match=r"last\.pt cannot be used: it is damaged, or no checkpoint .*--restart"):
            train(tmp_path, *words)


def test_what_another_version_of_torch_prints_is_no_other_network(monkeypatch):
    """PyTorch 2.14 prints a batch norm's ``bias=True``, and 2.6 does not."""
    before, extra_repr = fingerprint(SimpleCNN()), torch.nn.BatchNorm2d.extra_repr
    monkeypatch.setattr(torch.nn.BatchNorm2d, "extra_repr", lambda self: f"{extra_repr(self)}, more=True")
    assert "more=True" in repr(SimpleCNN()) and fingerprint(SimpleCNN()) == before
    assert fingerprint(SimpleCNN(dropout=0.1)) != before


CHANGED = {  # a line of the script that trained, what stands there now, and what is said of the files
    "another layer": (
        "nn.MaxPool2d(2)",
        "nn.AvgPool2d(2)",
        "SimpleCNN has been changed since: then it had other layers",
    ),
    "a layer more": (
        "self.fc = ",
        "self.norm = nn.BatchNorm2d(128)\n        self.fc = ",
        "holds the weights of another network than SimpleCNN|SimpleCNN has been .*: then it had other layers",
    ),
    "another function": (
        "torch.relu(x)",
        "nn.functional.gelu(x)",
        "SimpleCNN has been changed since: with the same weights, it computed something else",
    ),
    "a function that fails": (
        "torch.relu(x)",
        "torch.log(-1 - x.relu())",
        "SimpleCNN has been changed since: with the same weights, it computed something else",
    ),
}


@pytest.mark.parametrize("changed", CHANGED)
def test_what_another_network_of_the_script_has_left_is_told_as_such(made_up, tmp_path, monkeypatch, changed):
    then, now, told = CHANGED[changed]
    script, source = tmp_path / "task1_simplecnn.py", (ROOT / "task1_simplecnn.py").read_text()
    source = source.replace("self.dropout(x)", "self.dropout(torch.relu(x))")
    words = ["--epochs", "1", "--limit", "100", "--device", "cpu", "--output-dir", str(tmp_path), "--data-dir", "x"]

    def call(*mode):
        runpy.run_path(str(script))["main"]([*words, *mode])

    script.write_text(source)
    call()
    call("--test")
    with monkeypatch.context() as patch:
        interrupt_in_epoch(patch, 2)
        with pytest.raises(SystemExit):
            call("--seed", "1", "--epochs", "2")
    assert then in source
    script.write_text(source.replace(then, now))
    for mode in (["--test"], ["--predict", "x.png"], ["--resume"]):
        with pytest.raises(SystemExit, match=rf"task1_simplecnn_.* ({told}).*\. To train .*: \S.*"):
            call(*mode)
    with pytest.raises(SystemExit, match=rf"last\.pt .*({told}).*\. With --restart this run begins anew\."):
        call("--seed", "1", "--epochs", "2", "--resume")
    for best in (tmp_path / "checkpoints").glob("*0.pt"):  # what is left tells the layers
        best.unlink()
    with pytest.raises(SystemExit, match=told) if "layer" in changed else contextlib.nullcontext():
        call("--resume")


# ---------------------------------------------------------------- weights by their path


def result_of(capsys, *words):
    """The last line that a script prints, and the one before."""
    capsys.readouterr()
    task1_simplecnn.main([*words, "--device", "cpu"])
    return capsys.readouterr().out.splitlines()[-2:]


@pytest.mark.parametrize("kind", ["another run's", "a state's", "a state_dict", "a state_dict in another's checkpoint"])
def test_weights_are_tested_and_used_by_their_path(tmp_path, monkeypatch, capsys, without_pictures, kind):
    """Those of the recipe, with another dropout and other statistics: its record says so, a state_dict does not."""
    out, here, photo = tmp_path / "out", tmp_path / "here.pt", str(ROOT / "lab" / "examples" / "cat.png")
    words = ["--recipe", "--sample", "--limit", "100", "--epochs", "2"]
    record, checkpoint = train(out, *words)
    predicted = result_of(capsys, *words, "--output-dir", str(out), "--predict", photo)[-1]
    if kind == "a state's":
        with monkeypatch.context() as patch:
            patch.setattr(common, "finish", lambda *how: signal.raise_signal(signal.SIGINT))
            with pytest.raises(SystemExit):
                train(out, *words, "--restart")
        (out / "checkpoints" / f"{record['run']}.last.pt").rename(here)
    else:
        things = {"another run's": checkpoint, "a state_dict": checkpoint["model"]}
        torch.save(things.get(kind, {"model": checkpoint["model"], "acc": 0.5}), here)
    flags = [] if "state_dict" not in kind else ["--statistics", "all"]
    own = ["--sample", "--limit", "100", *flags, "--output-dir", str(tmp_path / "nowhere"), "--weights", str(here)]
    result = f"Test loss: {record['test_loss']:.3f}, Test accuracy: {record['test_accuracy']:.3f}"
    assert result_of(capsys, *own, "--test") == [f"Model loaded from {shown(here)} ({size_of(here)} MB)", result]
    assert result_of(capsys, *own, "--predict", photo)[-1] == predicted
    assert not (tmp_path / "nowhere").exists()


def size_of(path):
    return f"{path.stat().st_size / 1e6:.1f}"


def test_a_state_dict_is_used_without_cifar10(tmp_path, monkeypatch, capsys):
    """The statistics are those of an image that is in the sample, too; nothing but the answer is printed."""
    monkeypatch.setattr("lab.cifar10.load", None)
    here, photo = tmp_path / "here.pt", str(ROOT / "lab" / "examples" / "cat.png")
    torch.save(torch.load(ROOT / "checkpoints" / "task1_simplecnn.pt")["model"], here)
    (answer,) = result_of(capsys, "--predict", photo)
    assert result_of(capsys, "--weights", str(here), "--predict", photo) == [answer]
    assert result_of(capsys, "--weights", str(here), "--predict", photo, "--no-norm") != [answer]


def test_weights_bring_the_size_of_their_images(tmp_path, capsys, without_pictures):
    words = ["--sample", "--limit", "20", "--epochs", "1"]
    record, _ = train(tmp_path, *words, "--image-size", "48", script=task2_resnet18)
    weights = tmp_path / "checkpoints" / f"{record['run']}.pt"
    task2_resnet18.main([*words, "--test", "--weights", str(weights), "--device", "cpu"])
    assert capsys.readouterr().out.endswith(f"Test accuracy: {record['test_accuracy']:.3f}\n")


@pytest.mark.parametrize("content", [None, [1], {"model": 1}, torchvision.models.resnet18().state_dict(), "changed"])
def test_weights_of_something_else_are_refused_in_one_line(tmp_path, content):
    path = tmp_path / "x.pt"
    if content == "changed":
        content = good_checkpoint()
        content["config"]["network"]["logits"][0] += 1
    if content is not None:
        torch.save(content, path)
    with pytest.raises(SystemExit, match=r"x\.pt( cannot be used: .+)?\. --weights takes a RUN\.pt of this") as refusal:
        task1_simplecnn.main(["--predict", "x.png", "--weights", str(path), "--device", "cpu"])
    assert "\n" not in refusal.value.code


# ---------------------------------------------------------------- well-formed, with odd content


ODD = {
    "config a list": lambda it: it.update(config=[]),
    "config without a setting": lambda it: it["config"].pop("no_aug"),
    "no network": lambda it: it["config"].pop("network"),
    "mean of one": lambda it: it["config"].update(mean=[0.5]),
    "std infinite": lambda it: it["config"].update(std=[math.inf] * 3),
    "std zero": lambda it: it["config"].update(std=[0.0] * 3),
    "mean a dictionary": lambda it: it["config"].update(mean={0: 1.0, 1: 1.0, 2: 1.0}),
    "no epoch": lambda it: it.pop("epoch"),
    "accuracy of text": lambda it: it.update(val_accuracy="high"),
    "no model": lambda it: it.pop("model"),
    "model a list": lambda it: it.update(model=[1, 2]),
    "model with text": lambda it: it["model"].update({"fc.bias": "none"}),
    "weights not finite": lambda it: it["model"]["fc.weight"].fill_(math.nan),
    "running variance not finite": lambda it: it["model"]["block1.1.running_var"].fill_(math.inf),
}


@pytest.mark.parametrize("odd", ODD)
def test_a_checkpoint_with_odd_content_is_refused_in_one_line(tmp_path, odd):
    (tmp_path / "checkpoints").mkdir()
    content = good_checkpoint()
    ODD[odd](content)
    torch.save(content, tmp_path / "checkpoints" / "task1_simplecnn.pt")
    for words in (["--test"], ["--predict", "photo.png"]):
        with pytest.raises(SystemExit, match=r"cannot be used: .+\. To train") as refusal:
            task1_simplecnn.main([*words, "--output-dir", str(tmp_path)])
        assert "\n" not in refusal.value.code


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory):
    """The state of a run that was interrupted in its third and last epoch, and what that run comes to."""
    folder = tmp_path_factory.mktemp("unfinished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("common.save_figure", lambda path, *how: path.write_bytes(b""))
        whole = train(folder / "whole", *WORDS)
        interrupt_in_epoch(patch, 3)
        with pytest.raises(SystemExit):
            train(folder, *WORDS)
    return torch.load(folder / "checkpoints" / LAST), whole


WORDS = ["--epochs", "3", "--limit", "100", "--sample"]
LAST = "task1_simplecnn_epochs3_limit100_sample.last.pt"


@pytest.fixture
def left(unfinished, tmp_path, without_pictures):
    """Leave a changed copy of that state in ``tmp_path``; returns its path."""

    def leave(change):
        state = torch.load(save_to_memory(unfinished[0]))
        changed = change(state)
        (tmp_path / "checkpoints").mkdir()
        torch.save(changed if isinstance(changed, list) else state, tmp_path / "checkpoints" / LAST)
        return tmp_path / "checkpoints" / LAST

    return leave


def save_to_memory(content):
    torch.save(content, memory := io.BytesIO())
    memory.seek(0)
    return memory


def moment(state, value):
    state["optimizer"]["state"][0]["exp_avg"] = value


BAD = {
    "a list": (lambda it: [1], r"it is no checkpoint of these scripts \(.*\)"),
    "an older format": (lambda it: it.update(format=4), "another version of these scripts left it, .*"),
    "config a list": (lambda it: it.update(config=[]), "its mean, std or network is missing"),
    "config without a setting": (lambda it: it["config"].pop("no_aug"), "it has no no_aug"),
    "no optimizer": (lambda it: it.pop("optimizer"), "its optimizer is missing .*"),
    "an empty history": (lambda it: it.update(history=[]), "its environments are not those of its epochs"),
    "an epoch without accuracy": (lambda it: it["history"][1].pop("val_accuracy"), "its history is missing .*"),
    "a loss that is not finite": (lambda it: it["history"][0].update(val_loss=math.nan), "its history is missing .*"),
    "an epoch missing": (lambda it: it["history"].pop(0), "in its history, epoch 1 is missing"),
    "more epochs than the run has": (
        lambda it: it["history"].extend(it["history"] * 2),
        "its history has 6 of 3 epochs",
    ),
    "environments empty": (lambda it: it.update(environments=[]), "its environments are not those of its epochs"),
    "an environment without a platform": (lambda it: it["environments"][0].pop("platform"), "its environments .*"),
    "a moment that is a number": (lambda it: moment(it, 0.5), ".*"),
    "an environment without a part": (
        lambda it: it["environments"][0].pop("threads"),
        "its environments is missing .*",
    ),
    "weights not finite": (lambda it: it["model"]["fc.weight"].fill_(math.nan), r"its fc\.weight is not finite"),
    "best not finite": (lambda it: it["best"]["fc.weight"].fill_(math.inf), r"its fc\.weight is not finite"),
    "moments of other shapes": (lambda it: moment(it, torch.zeros(2)), "its optimizer is that of another network"),
    "moments missing": (lambda it: it["optimizer"]["state"].clear(), "its optimizer is that of another network"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_state_with_odd_content_is_refused_in_one_line(left, tmp_path, bad):
    change, problem = BAD[bad]
    before = left(change).read_bytes()
    told = rf"cannot be used: {problem}\. "
    with pytest.raises(SystemExit, match=rf"^\S+{re.escape(LAST)} {told}With --restart this run begins anew\.$"):
        train(tmp_path, *WORDS, "--resume")
    assert (tmp_path / "checkpoints" / LAST).read_bytes() == before


OTHER = {
    "with a condition that is not known here": lambda it: it["environments"][0].update(phase_of_the_moon="full"),
    "with another optimizer's settings": lambda it: it["optimizer"]["param_groups"][0].update(
        lr=1.0, betas=(0.5, 0.5), weight_decay=0.1, maximize=True
    ),
}


@pytest.mark.parametrize("other", OTHER)
def test_a_state_of_another_version_that_can_be_used_is(unfinished, left, tmp_path, capsys, other):
    left(OTHER[other])
    record, weights = train(tmp_path, *WORDS, "--resume")
    assert "other conditions" not in capsys.readouterr().out
    record["environments"] = unfinished[1][0]["environments"]
    assert_same_run(unfinished[1], (record, weights))


def test_the_conditions_of_every_epoch_are_kept(unfinished, left, tmp_path, monkeypatch, capsys):
    left(lambda state: None)
    (before,) = unfinished[1][0]["environments"]
    now = {name: value for name, value in before.items() if name != "from_epoch"} | {"threads": 77, "torch": "3.0"}
    monkeypatch.setattr(precision, "environment", lambda *where: now)
    record, _ = train(tmp_path, *WORDS, "--resume")
    assert record["environments"] == [before, {"from_epoch": 3} | now]
    told = f"may differ a little: torch {before['torch']} -> 3.0, threads {before['threads']} -> 77\n"
    assert told in capsys.readouterr().out
    assert without_seconds(record)["history"] == without_seconds(unfinished[1][0])["history"]


def test_conditions_under_which_nothing_was_trained_are_not_kept(tmp_path, monkeypatch, without_pictures):
    with monkeypatch.context() as patch:
        patch.setattr(common, "evaluate", lambda *how: signal.raise_signal(signal.SIGINT))
        with pytest.raises(SystemExit):
            train(tmp_path, *WORDS)
    real = precision.environment
    monkeypatch.setattr(precision, "environment", lambda *where: real(*where) | {"threads": 77})
    record, _ = train(tmp_path, *WORDS, "--resume")
    assert [it["from_epoch"] for it in record["environments"]] == [1] and record["environments"][0]["threads"] != 77


# ---------------------------------------------------------------- no damage


def test_no_memory_for_the_test_is_no_reason_for_another_batch_size(tmp_path, monkeypatch, capsys):
    """For that would be another run, which has no checkpoint."""

    def full(*how):
        raise MemoryError

    monkeypatch.setattr(common, "evaluate", full)
    (tmp_path / "checkpoints").mkdir()
    torch.save(good_checkpoint(sample=True), tmp_path / "checkpoints" / "task1_simplecnn_sample.pt")
    with pytest.raises(SystemExit):
        task1_simplecnn.main(["--test", "--sample", "--device", "cpu", "--output-dir", str(tmp_path)])
    assert capsys.readouterr().err == "The memory of cpu is full.\n"


FULL = {
    "MemoryError": MemoryError(),
    "GPU": torch.OutOfMemoryError("CUDA out of memory"),
    "CPU": RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    "Windows": RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    "mmap": RuntimeError("unable to mmap 8 bytes: Cannot allocate memory (12)"),
}


@pytest.mark.parametrize("kind", FULL)
def test_a_full_memory_is_no_damage(left, tmp_path, monkeypatch, capsys, kind):
    """Neither of a state nor of a finished run's weights: following the advice must not cost a good run."""

    def full(*how, **more):
        raise FULL[kind]

    path = left(lambda state: None)
    content, best = path.read_bytes(), tmp_path / "checkpoints" / LAST.replace(".last", "")
    torch.save(good_checkpoint(), best)
    monkeypatch.setattr(torch, "load", full)
    for words in (["--resume"], [], ["--test"], ["--predict", "x.png"]):
        with pytest.raises(SystemExit, match="1"):
            task1_simplecnn.main([*WORDS, *words, "--device", "cpu", "--output-dir", str(tmp_path)])
        told = capsys.readouterr().err
        assert told.startswith("The memory of cpu is full.") and told.count("\n") == 1
        assert not any(wrong in told for wrong in ("damaged", "--restart", "begin"))
        assert ("--resume" in told) == (words in (["--resume"], []))
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "damage",
    ["cut short", "changed", "other settings", "other images", "another network", "another network's weights"],
)
def test_resuming_refuses_what_does_not_belong_together(unfinished, left, tmp_path, damage):
    changes, told = {}, "cannot be used: it is damaged"
    if damage == "other settings":
        changes = {"config": unfinished[0]["config"] | {"batch_size": 5}}
        told = "is of a run with another batch_size: 5, not "
    elif damage == "other images":
        changes = {"config": unfinished[0]["config"] | {"mean": [0.5, 0.5, 0.5]}}
        told = "it is of a run with other images"
    elif damage == "another network":
        network = unfinished[0]["config"]["network"]
        changes = {"config": unfinished[0]["config"] | {"network": network | {"printed": "0123456789abcdef"}}}
        told = r"SimpleCNN has been changed since: then it had other layers\."
    elif damage == "another network's weights":
        changes, told = {"model": torchvision.models.resnet18().state_dict()}, "holds the weights of another network"
    last = left(lambda state: state.update(changes))
    if damage == "cut short":
        last.write_bytes(last.read_bytes()[:1000])
    elif damage == "changed":
        change_byte(last, 300_000)
    before = last.read_bytes()
    with pytest.raises(SystemExit, match=rf"{told}.*--restart this run begins anew\.$") as refusal:
        train(tmp_path, *WORDS, "--resume")
    assert "\n" not in refusal.value.code and last.read_bytes() == before
    assert_same_run(unfinished[1], train(tmp_path, *WORDS, "--restart"))
