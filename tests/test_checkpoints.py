"""Checkpoints and states: what is refused and how, what is brought to today's format, what is no damage."""

import io
import math
import pathlib
import random
import re
import signal

import pytest
import torch
import torchvision
from test_runs import assert_same_run, interrupt_in_epoch, train, without_seconds

import common
import task1_simplecnn
from lab import checkpoint
from lab.checkpoint import load, save
from task1_simplecnn import SimpleCNN

ANY = {"mean": [0.5] * 3, "std": [0.2] * 3}  # in a config


def good_checkpoint():
    return {"model": SimpleCNN().state_dict(), "config": dict(ANY), "epoch": 1, "val_accuracy": 0.5}


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
    assert problem.get(content, "is damaged, or no checkpoint of these scripts") in message and "\n" not in message
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
            loaded = load(path, lambda checkpoint: None, "")
        except SystemExit as error:
            assert "is damaged" in error.code
            recognised += 1
        else:
            assert loaded["epoch"] == 7 and list(loaded["model"]) == list(good["model"])
            assert all(torch.equal(loaded["model"][name], tensor) for name, tensor in good["model"].items()), position
    assert 1500 < recognised < 3000  # dates, versions and padding may change
    tried("a checkpoint, any changed byte", times=3000)


def test_a_checkpoint_of_other_settings_is_not_tested(made_up, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    good = good_checkpoint()
    good["config"]["no_norm"] = True
    torch.save(good, tmp_path / "checkpoints" / "task1_simplecnn.pt")
    told = (
        r"task1_simplecnn\.pt is of a run with another no_norm: True, not False\. To train it: \S.*task1_simplecnn\.py "
    )
    with pytest.raises(SystemExit, match=rf"{told}.+$"):
        task1_simplecnn.main(["--test", "--output-dir", str(tmp_path), "--data-dir", str(tmp_path)])


def test_a_damaged_resume_state_says_how_to_go_on(made_up, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "task1_simplecnn.last.pt").write_bytes(b"PK")
    for words in ([], ["--resume"]):
        with pytest.raises(SystemExit, match=r"last\.pt is damaged, or no checkpoint .*--restart"):
            train(tmp_path, *words)


# ---------------------------------------------------------------- well-formed, with odd content


ODD = {
    "config a list": lambda it: it.update(config=[]),
    "config empty": lambda it: it.update(config={}),
    "mean of one": lambda it: it.update(config=ANY | {"mean": [0.5]}),
    "std infinite": lambda it: it.update(config=ANY | {"std": [math.inf] * 3}),
    "mean a dictionary": lambda it: it.update(config=ANY | {"mean": {0: 1.0, 1: 1.0, 2: 1.0}}),
    "std of truth values": lambda it: it.update(config=ANY | {"std": [True] * 3}),
    "a rate that is a tensor": lambda it: it.update(config=ANY | {"lr": torch.zeros(2)}),
    "variance below zero": lambda it: it["model"]["block1.1.running_var"].fill_(-1),
    "std zero": lambda it: it.update(config=ANY | {"std": [0.0] * 3}),
    "no epoch": lambda it: it.pop("epoch"),
    "accuracy of text": lambda it: it.update(val_accuracy="high"),
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
    problems = (
        r"(is damaged, or no checkpoint of these scripts \(.+\)|holds the weights of another network .+)\. To train"
    )
    for words in (["--test"], ["--predict", "photo.png"]):
        with pytest.raises(SystemExit, match=problems) as refusal:
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


def epoch(number):
    metrics = dict.fromkeys(("train_loss", "train_accuracy", "val_loss", "val_accuracy", "seconds"), 0.1)
    return {"epoch": number, "learning_rate": 0.001, **metrics}


def moment(state, value):
    state["optimizer"]["state"][0]["exp_avg"] = value


BAD = {
    "a list": (lambda it: [1], "it is no dictionary"),
    "no format": (lambda it: it.pop("format"), None),
    "a later format": (lambda it: it.update(format=5), None),
    "config a list": (lambda it: it.update(config=[]), "a value is of another kind"),
    "no optimizer": (lambda it: it.pop("optimizer"), "it has no optimizer"),
    "an empty history": (lambda it: it.update(history=[]), "its history has 0 of 3 epochs"),
    "an epoch without accuracy": (lambda it: it["history"][1].pop("val_accuracy"), "it has no val_accuracy"),
    "a loss that is not finite": (
        lambda it: it["history"][0].update(val_loss=math.nan),
        "in its history, a value of .*",
    ),
    "an epoch missing": (lambda it: it["history"].pop(0), "in its history, epoch 1 is missing"),
    "environments empty": (lambda it: it.update(environments=[]), "a value is of another kind"),
    "weights not finite": (lambda it: it["model"]["fc.weight"].fill_(math.nan), r"its fc\.weight cannot be"),
    "best not finite": (lambda it: it["best"]["fc.weight"].fill_(math.inf), r"its fc\.weight cannot be"),
    "moments of other shapes": (lambda it: moment(it, torch.zeros(2)), "its optimizer is that of another network"),
    "moments not finite": (
        lambda it: it["optimizer"]["state"][0]["exp_avg"].fill_(math.nan),
        "its optimizer is .*",
    ),
    "moments missing": (lambda it: it["optimizer"]["state"].pop(0), "it has no step"),
    "optimizer a list": (lambda it: it.update(optimizer=[]), "a value is of another kind"),
    "a negative second moment": (
        lambda it: it["optimizer"]["state"][0]["exp_avg_sq"].fill_(-1),
        "its optimizer's moments cannot be",
    ),
    "more epochs than the run has": (
        lambda it: it["history"].extend(map(epoch, (3, 4))),
        "its history has 4 of 3 epochs",
    ),
    "a tensor in the history": (
        lambda it: it["history"][0].update(val_accuracy=torch.tensor(0.5)),
        "a value is of another kind",
    ),
    "a tensor in an environment": (
        lambda it: it["environments"][0].update(threads=torch.tensor(2)),
        "a value is of another kind",
    ),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_state_with_odd_content_is_refused_in_one_line(left, tmp_path, bad):
    change, problem = BAD[bad]
    before = left(change).read_bytes()
    told = r"was left by another version of these scripts, which can go on with it\. "
    if problem:
        told = rf"is damaged, or no checkpoint of these scripts \({problem}\)\. "
    with pytest.raises(SystemExit, match=rf"^\S+{re.escape(LAST)} {told}With --restart this run begins anew\.$"):
        train(tmp_path, *WORDS, "--resume")
    assert (tmp_path / "checkpoints" / LAST).read_bytes() == before


OLDER = {
    "of format 2": lambda it: it.update(
        format=2, environment=it.pop("environments")[0], adam=it.pop("optimizer"), scheduler={"step_size": 0}
    ),
    "of format 3": lambda it: it.update(format=3, adam=it.pop("optimizer")),
    "older than a flag": lambda it: it["config"].pop("no_aug"),
    "with a condition that is not known here": lambda it: it["environments"][0].update(phase_of_the_moon="full"),
    "with a condition less": lambda it: it["environments"][0].pop("precision"),
    "with another optimizer's settings": lambda it: it["optimizer"]["param_groups"][0].update(
        lr=1.0, betas=(0.5, 0.5), weight_decay=0.1, maximize=True
    ),
}


@pytest.mark.parametrize("older", OLDER)
def test_a_state_of_another_version_that_can_be_used_is(unfinished, left, tmp_path, capsys, older):
    left(OLDER[older])
    record, weights = train(tmp_path, *WORDS, "--resume")
    assert "other conditions" not in capsys.readouterr().out
    record["environments"] = unfinished[1][0]["environments"]
    assert_same_run(unfinished[1], (record, weights))


def test_the_conditions_of_every_epoch_are_kept(unfinished, left, tmp_path, monkeypatch, capsys):
    left(lambda state: None)
    (before,) = unfinished[1][0]["environments"]
    now = {name: value for name, value in before.items() if name != "from_epoch"} | {"threads": 77, "torch": "3.0"}
    monkeypatch.setattr(checkpoint, "environment", lambda run: now)
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
    real = checkpoint.environment
    monkeypatch.setattr(checkpoint, "environment", lambda run: real(run) | {"threads": 77})
    record, _ = train(tmp_path, *WORDS, "--resume")
    assert [it["from_epoch"] for it in record["environments"]] == [1] and record["environments"][0]["threads"] != 77


# ---------------------------------------------------------------- no damage


def test_no_memory_for_the_test_is_no_reason_for_another_batch_size(tmp_path, monkeypatch, capsys):
    """For that would be another run, which has no checkpoint."""

    def full(*how):
        raise MemoryError

    monkeypatch.setattr(common, "evaluate", full)
    (tmp_path / "checkpoints").mkdir()
    good = good_checkpoint()
    good["config"]["sample"] = True
    torch.save(good, tmp_path / "checkpoints" / "task1_simplecnn_sample.pt")
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
        assert not any(wrong in told for wrong in ("damaged", "--restart", "begin", "--batch-size"))
        assert ("--resume" in told) == (words in (["--resume"], []))
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "damage",
    ["older", "cut short", "changed", "other settings", "more settings", "other images", "another network's"],
)
def test_resuming_refuses_what_does_not_belong_together(unfinished, left, tmp_path, damage):
    changes, told = {}, "is damaged, or no checkpoint of these scripts"
    if damage == "other settings":
        changes = {"config": unfinished[0]["config"] | {"batch_size": 5}}
        told = "is of a run with another batch_size: 5, not "
    elif damage == "more settings":  # of a version to come
        changes = {"config": unfinished[0]["config"] | {"momentum": 0.9}}
        told = "is of a run with another set of settings"
    elif damage == "other images":
        changes = {"config": unfinished[0]["config"] | {"mean": [0.5, 0.5, 0.5]}}
        told = "is of a run with another set of images, by their mean"
    elif damage == "another network's":
        changes, told = {"model": torchvision.models.resnet18().state_dict()}, "holds the weights of another network"
    elif damage == "older":  # of the time when the best weights were in a second file
        changes, told = {"format": None, "best": None}, "was left by another version of these scripts"
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
