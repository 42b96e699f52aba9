"""Whole runs of the real scripts: what they leave, what they print, that they repeat and resume bit for bit."""

import contextlib
import copy
import csv
import datetime
import itertools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass, replace

import pytest
import torch
import torch.nn.functional as F
import torchvision
import torchvision.transforms.v2.functional as tv
from matplotlib.figure import Figure
from test_augmentation import one_after_the_other
from torch import nn

import common
import task1_simplecnn
import task2_resnet18
from lab import cifar10, commandline, console, drawing, files, schedule, settings
from lab.learner import learner_for
from lab.record import CLASSES, read_record
from lab.settings import Settings
from task1_simplecnn import SimpleCNN
from task2_resnet18 import ResNet18


def parse(task, *words):
    """The run that these flags of a task script describe, on the CPU."""
    return commandline.parse(task.__file__, "", task.TASK, task.RECIPE, ["--device", "cpu", *map(str, words)])


def train(out, *words, script=task1_simplecnn):
    """Run a script here, on the CPU; returns the record and the checkpoint of the run that it finished."""
    script.main(["--device", "cpu", "--output-dir", str(out), "--data-dir", str(out), *words])
    (path,) = (out / "plots").glob("*.json")
    record = json.loads(path.read_text())
    return record, torch.load(out / "checkpoints" / f"{record['run']}.pt", weights_only=True)


def without_seconds(record):
    """A record without what no second run has again: how long an epoch took, and when the run finished."""
    record = copy.deepcopy(record)
    del record["finished"]
    for metrics in record["history"]:
        del metrics["seconds"]
    return record


def assert_same_run(one, other):
    assert without_seconds(one[0]) == without_seconds(other[0])
    assert {**one[1], "model": 0} == {**other[1], "model": 0}
    for name, tensor in one[1]["model"].items():
        assert torch.equal(tensor, other[1]["model"][name]), name


def interrupt_in_epoch(monkeypatch, number):
    """Stop before the validation of this epoch, as Ctrl-C would; returns the epochs that are trained, as they come."""
    real, trained = common.train_epoch, []

    def interrupted(learner, dataset, run, epoch):
        result = real(learner, dataset, run, epoch)
        trained.append(epoch)
        if epoch == number:
            signal.raise_signal(signal.SIGINT)
        return result

    monkeypatch.setattr(common, "train_epoch", interrupted)
    return trained


def train_until(number, monkeypatch, out, *words, script=task1_simplecnn):
    """Run a script as :func:`train` does, until it is stopped before the validation of this epoch."""
    with monkeypatch.context() as patch:
        interrupt_in_epoch(patch, number)
        with pytest.raises(SystemExit):
            train(out, *words, script=script)


# ---------------------------------------------------------------- what a run leaves


def test_files_and_record_of_a_finished_run(made_up, tmp_path, capsys):
    words = ["--epochs", "3", "--seed", "2", "--limit", "200"]
    record, checkpoint = train(tmp_path, *words)
    run = "task1_simplecnn_epochs3_seed2_limit200"
    names = {f"plots/{run}{end}" for end in (".json", ".csv", ".png", "_confusion.png", "_mistakes.png")}
    names |= {"plots/task1_simplecnn_model.png", f"checkpoints/{run}.pt"}
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == names
    written = re.findall("^Written: (.*)$", capsys.readouterr().out, re.MULTILINE)
    assert sorted(written) == sorted(files.shown(tmp_path / name) for name in names)

    top = "format, run, finished, code, config, environments, history, best_epoch, val_accuracy_plain, "
    top += "silent_channels, test_loss, test_accuracy, test_accuracy_mirrored, confusion_matrix, mistakes"
    assert ", ".join(record) == top
    assert (record["format"], record["run"]) == (3, run)
    assert datetime.datetime.fromisoformat(record["finished"]).tzinfo is not None
    asked = ("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no")
    told = [subprocess.run(["git", "-C", files.ROOT, *words], capture_output=True, text=True).stdout for words in asked]
    assert (record["code"] or "") == told[0].strip() + "-dirty" * bool(told[1])
    network = record["config"].pop("network")
    statistics = {name: record["config"].pop(name) for name in ("mean", "std")}
    assert record["config"] == asdict(replace(task1_simplecnn.TASK, epochs=3, seed=2, limit=200))
    assert [len(values) for values in statistics.values()] == [3, 3]
    assert list(network) == ["class", "parameters", "printed", "logits"]
    assert (network["class"], network["parameters"], len(network["logits"])) == ("SimpleCNN", 114_186, 10)
    (environment,) = record["environments"]
    assert list(environment) == ["from_epoch", "torch", "device", "cpu", "precision", "threads", "platform"]
    assert (environment["from_epoch"], environment["device"]) == (1, "cpu")
    assert [metrics["epoch"] for metrics in record["history"]] == [1, 2, 3]
    metrics = ["epoch", "learning_rate", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "seconds"]
    assert all(list(epoch) == metrics for epoch in record["history"])
    accuracies = [epoch["val_accuracy"] for epoch in record["history"]]
    assert record["best_epoch"] == 1 + accuracies.index(max(accuracies))

    assert list(checkpoint) == ["model", "config", "epoch", "val_accuracy"]
    assert checkpoint["config"] == record["config"] | statistics | {"network": network}
    assert (checkpoint["epoch"], checkpoint["val_accuracy"]) == (record["best_epoch"], max(accuracies))


def test_the_table_has_a_row_for_each_epoch_with_the_records_numbers(made_up, tmp_path, monkeypatch):
    """Also while the run is under way, in a file of another name."""
    words = ["--recipe", "--epochs", "3", "--limit", "20"]
    name = "task2_resnet18_recipe_epochs3_limit20"
    train_until(3, monkeypatch, tmp_path, *words, script=task2_resnet18)
    state = torch.load(tmp_path / "checkpoints" / f"{name}.last.pt")
    live = table(tmp_path / "plots" / f"{name}.live.csv")
    assert len(live) == 2 and live == state["history"]
    record, _ = train(tmp_path, *words, "--resume", script=task2_resnet18)
    assert "image_size" in record["history"][0]
    assert table(tmp_path / "plots" / f"{name}.csv") == record["history"]


def table(path):
    with open(path, newline="") as file:
        return [{name: json.loads(value) for name, value in row.items()} for row in csv.DictReader(file)]


def test_test_result_is_that_of_the_best_weights_on_clean_images(made_up, tmp_path, capsys):
    record, checkpoint = train(tmp_path, "--epochs", "4")
    model = SimpleCNN().eval()
    model.load_state_dict(checkpoint["model"])
    mean, std = (torch.tensor(record["config"][name]).view(3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        logits = model((made_up[2] / 255 - mean) / std)
    predictions, labels = logits.argmax(1), made_up[3]
    assert record["test_loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert record["test_accuracy"] == (predictions == labels).sum().item() / 100
    for true, row in enumerate(record["confusion_matrix"]):
        assert row == [((labels == true) & (predictions == guess)).sum().item() for guess in range(10)]
    confidence = logits.softmax(1).amax(1)
    wrong = sorted((predictions != labels).nonzero().flatten().tolist(), key=lambda index: -confidence[index])
    assert 0 < len(record["mistakes"]) == min(25, len(wrong))
    for mistake, index in zip(record["mistakes"], wrong, strict=False):
        assert (mistake["index"], mistake["predicted"]) == (index, predictions[index])
        assert mistake["probability"] == pytest.approx(confidence[index].item(), abs=1e-5)
    last = [f"Test loss: {record['test_loss']:.3f}, Test accuracy: {record['test_accuracy']:.3f}"]
    last.insert(0, f"Model loaded from {files.shown(tmp_path / 'checkpoints' / record['run'])}.pt (0.5 MB)")
    assert capsys.readouterr().out.splitlines()[-2:] == last

    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    words = ["--test", "--epochs", "4", "--device", "cpu"]
    task1_simplecnn.main([*words, "--output-dir", str(tmp_path), "--data-dir", str(tmp_path)])
    assert capsys.readouterr().out.splitlines()[-2:] == last
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before

    _, val_set, _ = common.load_data(parse(task1_simplecnn))
    with torch.no_grad():
        right = model((val_set.images / 255 - mean) / std).argmax(1) == val_set.labels
    assert record["val_accuracy_plain"] == right.sum().item() / 40


def test_a_channel_without_a_scale_is_silent():
    model = ResNet18()
    assert set(common.silent_channels(model).values()) == {0.0}  # they begin at 1
    with torch.no_grad():
        model.layer1[0].bn2.weight[:16] = torch.tensor([9e-5, -9e-5]).repeat(8)
        model.layer1[0].bn2.weight[16:] = torch.tensor([2e-4, -2e-4]).repeat(24)
    silent = common.silent_channels(model)
    assert len(silent) == 20 and {name for name in silent if silent[name]} == {"layer1.0.bn2"}
    assert silent["layer1.0.bn2"] == 16 / 64


def test_the_mirrored_accuracy_is_that_of_mean_probabilities(sample):
    """Of a network that has learned nothing: there, mirroring changes many an answer."""
    _, _, test_set = common.load_data(run := parse(task1_simplecnn, "--sample"))
    result = common.evaluate(model := common.build(SimpleCNN, run), test_set)
    pixels = (sample[2] / 255 - test_set.mean) / test_set.std
    with torch.no_grad():
        mean = (model(pixels).softmax(1) + model(tv.horizontal_flip(pixels)).softmax(1)) / 2
    mirrored = (mean.argmax(1) == sample[3]).float().mean().item()
    assert result["test_accuracy_mirrored"] == pytest.approx(mirrored) != result["test_accuracy"]


def test_resnet18_checkpoint_loads_into_torchvisions(made_up, tmp_path):
    record, checkpoint = train(tmp_path, "--epochs", "1", "--limit", "100", script=task2_resnet18)
    model = torchvision.models.resnet18(num_classes=10)
    model.load_state_dict(checkpoint["model"])
    mean, std = (torch.tensor(record["config"][name]).view(3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        logits = model.eval()((made_up[2][:10] / 255 - mean) / std)
    assert record["test_loss"] == pytest.approx(F.cross_entropy(logits, made_up[3][:10]).item(), rel=1e-4)


# ---------------------------------------------------------------- the experiment


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (SimpleCNN, ""),
        (SimpleCNN, "--no-aug --no-norm --lr 0.01 --weight-decay 0"),
        (SimpleCNN, "--lr 0.01 --weight-decay 0.05"),
        (SimpleCNN, "--lr 0.01 --weight-decay 0.05 --decayed kernels"),
        (ResNet18, ""),
    ],
)
def test_training_is_a_plain_training_loop(made_up, tmp_path, network, words):
    """Against torchvision's transforms and torch's own parts put together the usual way: NCHW, unfused Adam.

    By default it has a penalty of 0.0005 on all weights. In float64, for Adam makes steps of full size out of the
    rounding noise in a gradient that should be zero.
    """

    class Double(network):
        def forward(self, x):
            return super().forward(x.double())

    words = ["--seed", 4, "--batch-size", 50, "--epochs", 3, "--limit", 120, *words.split()]
    script = {SimpleCNN: task1_simplecnn, ResNet18: task2_resnet18}[network]
    run = parse(script, *words, "--float32", "--output-dir", tmp_path)
    train_set, val_set, _ = common.load_data(run)
    files.make_folders(run.output_dir)
    torch.manual_seed(0)
    ours = Double().double().to(memory_format=torch.channels_last)
    for layer in ours.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0  # random numbers depend on the format
    theirs, first = copy.deepcopy(ours).to(memory_format=torch.contiguous_format), copy.deepcopy(ours).state_dict()
    history = common.train(ours, train_set, val_set, run)["history"]

    def seen(part, epoch, purpose):
        """Images as a network sees them, and their labels; validation needs no order."""
        order, draws = common.sample_epoch(part, run.settings, epoch, purpose)
        order = order if purpose == common.TRAINING else torch.arange(len(order))
        images = part.images[order]
        if draws is not None:
            images = torch.stack(list(map(one_after_the_other, images, draws)))
        return images.float() * (1 / (255 * part.std)) - part.mean / part.std, part.labels[order]

    decayed, others = list(theirs.parameters()), []
    if "kernels" in words:
        decayed = [layer.weight for layer in theirs.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
        others = [weight for weight in theirs.parameters() if all(weight is not it for it in decayed)]
    penalty = float(words[words.index("--weight-decay") + 1]) if "--weight-decay" in words else 5e-4
    groups = [{"params": decayed, "weight_decay": penalty}, {"params": others}]
    optimizer = torch.optim.Adam(groups, 0.01 if "0.01" in words else 0.001)
    weights = []
    for metrics in history:
        losses, hits = [], 0
        theirs.train()
        dataset = torch.utils.data.TensorDataset(*seen(train_set, metrics["epoch"], common.TRAINING))
        for inputs, labels in torch.utils.data.DataLoader(dataset, batch_size=50):
            logits = theirs(inputs)
            optimizer.zero_grad()
            nn.CrossEntropyLoss()(logits, labels).backward()
            optimizer.step()
            losses += nn.CrossEntropyLoss(reduction="none")(logits, labels).tolist()
            hits += (logits.argmax(1) == labels).sum().item()
        assert metrics["train_loss"] == pytest.approx(sum(losses) / 120, rel=1e-6)
        assert metrics["train_accuracy"] == hits / 120
        images, labels = seen(val_set, metrics["epoch"], common.VALIDATION)
        with torch.no_grad():
            logits = theirs.eval()(images)
        assert metrics["val_loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
        assert metrics["val_accuracy"] == (logits.argmax(1) == labels).sum().item() / 12
        weights.append(copy.deepcopy(theirs.state_dict()))
    best = max(history, key=lambda metrics: metrics["val_accuracy"])["epoch"]
    at_rest = 0
    for name, tensor in ours.state_dict().items():
        rests = tensor == first[name]  # the taps that only see padding, which a plain loop's penalty would make smaller
        at_rest += rests.sum().item() * (tensor.ndim == 4)
        torch.testing.assert_close(tensor[~rests], weights[best - 1][name][~rests], rtol=1e-6, atol=1e-7)
    assert at_rest == (6_946_816 if network is ResNet18 else 0)
    probe = torch.rand(10, 3, 32, 32)
    torch.testing.assert_close(ours.eval()(probe), final(theirs, weights[best - 1])(probe), rtol=1e-6, atol=1e-7)


def final(model, weights):
    model.load_state_dict(weights)
    return model.eval()


@pytest.mark.parametrize("task", [task1_simplecnn, task2_resnet18])
def test_the_first_weights_are_pytorchs_or_those_of_torchvisions_resnets(task):
    """With the numbers that torch draws from the run's seed."""
    theirs = {}
    network = {task1_simplecnn: SimpleCNN, task2_resnet18: ResNet18}[task]
    torch.manual_seed(common.seed_for(5, 0, common.WEIGHTS))
    theirs["pytorch"] = network().state_dict()
    torch.manual_seed(common.seed_for(5, 0, common.WEIGHTS))
    if task is task2_resnet18:
        theirs["he"] = torchvision.models.resnet18(num_classes=10).state_dict()
    else:  # of which torchvision has none
        theirs["he"] = (model := network()).state_dict()
        for layer in (model.block1[0], model.block2[0], model.block3[0]):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    for kind, weights in theirs.items():
        ours = common.build(network, parse(task, "--seed", 5, "--first-weights", kind)).state_dict()
        assert list(ours) == list(weights)
        for name, tensor in ours.items():
            assert torch.equal(tensor, weights[name]), name


def test_the_first_step_is_adams(made_up, tmp_path):
    """Adam's first step moves each weight by the learning rate, against its gradient (Kingma and Ba, section 2.1)."""
    _, checkpoint = train(tmp_path, "--epochs", "1", "--limit", "100", "--lr", "0.002")
    torch.manual_seed(common.seed_for(0, 0, common.WEIGHTS))
    moved = checkpoint["model"]["fc.weight"] - SimpleCNN().fc.weight.detach()
    assert moved.abs().max().item() == pytest.approx(0.002, rel=1e-3)
    assert moved.abs().median().item() == pytest.approx(0.002, rel=1e-2)


@pytest.mark.parametrize(("words", "gamma"), [("", 0.5), ("--constant-lr", 1.0), ("--lr 0.3", 0.5)])
def test_the_learning_rate_is_that_of_torchs_steplr(words, gamma):
    it, steps = parse(task1_simplecnn, *words.split()).settings, 3
    optimizer = torch.optim.SGD([torch.zeros(1)], it.lr)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=10, gamma=gamma)
    for epoch in range(it.epochs):
        for step in range(steps * epoch, steps * (epoch + 1)):
            assert schedule.rate_of(it, step, steps) == optimizer.param_groups[0]["lr"]
            optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("warmup", [0.2, 0.37, 0.9])
@pytest.mark.parametrize(("steps", "epochs"), [(352, 80), (18, 3), (1, 2), (1, 3), (1, 5), (2, 7)])
def test_the_learning_rate_of_a_cycle_is_that_of_torchs_onecyclelr(steps, epochs, warmup):
    """However few its steps are; where OneCycleLR's first phase would have none, it is given one."""
    it = parse(task1_simplecnn, "--recipe", "--epochs", epochs, "--warmup", warmup).settings
    optimizer = torch.optim.SGD([torch.zeros(1)], it.lr)
    how = {"anneal_strategy": "linear", "cycle_momentum": False}
    share = max(warmup, 2 / (steps * epochs))
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, it.lr, steps * epochs, pct_start=share, **how)
    for step in range(steps * epochs):
        assert schedule.rate_of(it, step, steps) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9, abs=0)
        optimizer.step()
        if step + 1 < steps * epochs:
            cycle.step()


def test_the_learning_rate_halves_every_ten_epochs_or_never(made_up, tmp_path):
    words = ["--epochs", "21", "--limit", "10", "--lr", "0.01"]
    stepped, _ = train(tmp_path / "stepped", *words)
    rates = [metrics["learning_rate"] for metrics in stepped["history"]]
    assert rates == [0.01] * 10 + [0.005] * 10 + [0.0025]
    constant, _ = train(tmp_path / "constant", *words, "--constant-lr")
    assert {metrics["learning_rate"] for metrics in constant["history"]} == {0.01}
    losses = [[metrics["train_loss"] for metrics in record["history"]] for record in (stepped, constant)]
    assert losses[0][:10] == losses[1][:10] and losses[0][10] == losses[1][10] and losses[0][11] != losses[1][11]


def test_validation_is_augmented_afresh_and_the_test_is_not(made_up, tmp_path, monkeypatch):
    """With weights that never change, only the augmentation can move the validation loss."""
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self, closure=None: None)
    monkeypatch.setattr(nn.BatchNorm2d, "forward", lambda self, x: x)
    losses, tests = {}, set()
    for words in ("", "--validation plain", "--no-aug"):
        record, _ = train(tmp_path / (words or "augmented"), "--epochs", "3", *words.split())
        losses[words] = {metrics["val_loss"] for metrics in record["history"]}
        tests.add(record["test_loss"])
    assert len(losses[""]) == 3 and len(losses["--no-aug"]) == 1
    assert losses["--validation plain"] == losses["--no-aug"]
    assert len(tests) == 1


def test_the_best_epoch_is_the_earliest_of_equals():
    history = [{"epoch": n, "val_accuracy": accuracy} for n, accuracy in enumerate((0.1, 0.3, 0.2, 0.3), 1)]
    assert schedule.best_of(history)["epoch"] == 2


def test_patience_stops_after_that_many_epochs_without_a_new_best(made_up, tmp_path, monkeypatch):
    accuracies = iter([0.2, 0.3, 0.3, 0.1, 0.2, 0.9])
    real = common.score
    monkeypatch.setattr(common, "score", lambda logits, labels: (real(logits, labels)[0], next(accuracies, 0.0)))
    record, checkpoint = train(tmp_path, "--limit", "20", "--patience", "3")
    assert record["run"] == "task1_simplecnn_patience3_limit20"
    assert [metrics["val_accuracy"] for metrics in record["history"]] == [0.2, 0.3, 0.3, 0.1, 0.2]
    assert record["best_epoch"] == checkpoint["epoch"] == 2


@pytest.mark.parametrize(("limit", "batch_size", "trained"), [(33, 32, 32), (34, 32, 34), (20, 100, 20)])
def test_a_last_batch_of_one_image_is_left_out(made_up, tmp_path, monkeypatch, limit, batch_size, trained):
    real, seen = common.batches, []

    def counted(part, size, order, draws):
        seen.append(len(order))
        return real(part, size, order, draws)

    monkeypatch.setattr(common, "batches", counted)
    train(tmp_path, "--epochs", "1", "--limit", str(limit), "--batch-size", str(batch_size), script=task2_resnet18)
    assert seen == [trained, *[limit // 10] * 4]  # validated twice, tested twice


def test_everything_random_depends_on_the_seed(monkeypatch):
    drawn, dropout, step = [], [], common.train_step
    for seed in (0, 0, 1):
        run = parse(task1_simplecnn, "--dry-run", "--seed", seed)
        monkeypatch.setattr(common, "train_step", step)
        model = common.build(SimpleCNN, run)
        monkeypatch.setattr(common, "train_step", lambda *how: dropout.append(torch.rand(3)))
        train_set, val_set, _ = common.load_data(run)
        passes = [(train_set, common.TRAINING), (val_set, common.VALIDATION)]
        drawn.append([model.fc.weight, train_set.images])
        drawn[-1] += [it for part, purpose in passes for it in common.sample_epoch(part, run.settings, 1, purpose)]
        for epoch in (1, 2):
            with contextlib.suppress(TypeError):  # a step that returns nothing ends the epoch
                common.train_epoch(learner_for(model, run.settings, steps=1), train_set, run, epoch)
    for first, same, other in zip(*drawn, strict=True):
        assert torch.equal(first, same) and not torch.equal(first, other)
    assert torch.equal(dropout[0], dropout[2]) and torch.equal(dropout[1], dropout[3])
    assert len({tuple(draw.tolist()) for draw in dropout}) == 4


def test_seeds_are_all_different():
    keys = [(seed, epoch, purpose) for seed in (0, 1, 2**31 - 1) for epoch in range(500) for purpose in range(5)]
    assert len({common.seed_for(*key) for key in keys}) == len(keys)


# ---------------------------------------------------------------- repeating and resuming


IN_SOMEBODYS_PROCESS = """
import sys, torch

def denormals():  # on all threads
    return (torch.full((1 << 20,), 1e-38) * 0.01).count_nonzero().item()

torch.manual_seed(7)
import common, task1_simplecnn
train_epoch = common.train_epoch
common.train_epoch = lambda *how: print("inside:", denormals()) or train_epoch(*how)
task1_simplecnn.main(sys.argv[1:])
print("after:", denormals())
"""


def test_the_same_command_gives_the_same_run_bit_for_bit_also_in_somebodys_process(script, tmp_path):
    """On the sample, where it learns. Numbers below 1e-38 are zero on every thread while it trains, and only then."""
    words = ["--sample", "--limit", "1000", "--batch-size", "50", "--epochs", "2", "--device", "cpu"]
    two = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"}
    started = script("task1_simplecnn.py", *words, **two)
    assert started.returncode == 0, started.stderr
    command = [sys.executable, "-c", IN_SOMEBODYS_PROCESS, *words, "--output-dir", tmp_path / "here"]
    here = subprocess.run(command, capture_output=True, text=True, cwd=files.ROOT, env=os.environ | two)
    assert here.returncode == 0, here.stderr
    counted = re.findall(r"^(\w+): (\d+)$", here.stdout, re.MULTILINE)
    assert counted == [("inside", "0"), ("inside", "0"), ("after", str(1 << 20))]

    runs = []
    for out in (tmp_path, tmp_path / "here"):
        record = json.loads((out / "plots" / "task1_simplecnn_batch50_epochs2_limit1000_sample.json").read_text())
        runs.append((record, torch.load(out / "checkpoints" / "task1_simplecnn_batch50_epochs2_limit1000_sample.pt")))
    assert_same_run(*runs)
    assert runs[0][0]["test_accuracy"] > 0.25  # 0.1 is chance
    assert runs[0][0]["environments"][0]["threads"] == 2


EVERY_FLAG = {  # by task, values that are no defaults; sizes are for ResNet-18 alone
    task1_simplecnn: [
        *("--first-weights he", "--optimizer SGD", "--weight-decay 0.5", "--weight-decay 0.5 --decayed kernels"),
        *("--warmup 0.4", "--label-smoothing 0.2", "--dropout 0.1", "--average 0.9", "--rotation 90"),
        *("--validation plain", "--statistics all"),
    ],
    task2_resnet18: ["--image-size 48", "--image-size 48 --growth 0.5"],
}
TOGETHER = {task: " ".join(it for it in EVERY_FLAG[task] if it != "--weight-decay 0.5").split() for task in EVERY_FLAG}


@pytest.mark.parametrize("task", EVERY_FLAG)
def test_each_flag_of_what_the_report_does_not_say_changes_what_is_computed(made_up, tmp_path, task):
    curves = {}
    for words in ("", *EVERY_FLAG[task]):
        few = ["--epochs", "3", "--limit", "60", "--batch-size", "20"]
        record, _ = train(tmp_path / words, *few, *words.split(), script=task)
        curves[words] = [(it["train_loss"], it["val_loss"]) for it in record["history"]]
    assert len(set(map(str, curves.values()))) == len(curves)


@pytest.mark.parametrize("task", EVERY_FLAG)
def test_a_run_with_every_flag_resumes_bit_for_bit(made_up, tmp_path, monkeypatch, task):
    words = ["--epochs", "3", "--limit", "60", "--batch-size", "20", *TOGETHER[task]]
    whole = train(tmp_path / "whole", *words, script=task)
    assert settings.settings_of(whole[0]["config"]) == parse(task, *words).settings
    for epoch in (2, 3):
        train_until(epoch, monkeypatch, tmp_path / "parts", *words, *["--resume"] * (epoch > 2), script=task)
    assert_same_run(whole, train(tmp_path / "parts", *words, "--resume", script=task))


GO_ON = r"To go on: .*task\S+\.py .*--limit 100 .*--resume"


@pytest.mark.parametrize("script", [task1_simplecnn, task2_resnet18])
def test_a_resumed_run_is_the_run_that_was_not_interrupted(made_up, tmp_path, monkeypatch, capsys, script):
    words = ["--epochs", "12" if script is task1_simplecnn else "3", "--limit", "100"]
    whole = train(tmp_path / "whole", *words, script=script)
    epochs = int(words[1])
    for number, first in ((1, 1), (2, 1), (epochs, 2)):  # no epoch saved yet; one; all but the last
        with monkeypatch.context() as patch:
            trained = interrupt_in_epoch(patch, number)
            with pytest.raises(SystemExit) as stop:
                train(tmp_path / "parts", *words, *(["--resume"] if number > 1 else []), script=script)
            error = capsys.readouterr().err
            assert stop.value.code == 130 and error.count("\n") == 1
            kept = rf"Interrupted\. \S+_limit100\.last\.pt has all that was saved\. {GO_ON}\n"
            assert re.fullmatch(kept, error)
            assert trained == list(range(first, number + 1))
        assert not list((tmp_path / "parts" / "plots").glob("*.json"))
    with monkeypatch.context() as patch:
        trained = interrupt_in_epoch(patch, 0)
        parts = train(tmp_path / "parts", *words, "--resume", script=script)
        assert trained == [epochs]
    assert_same_run(whole, parts)
    names = [sorted(path.name for path in (tmp_path / out).rglob("*.*")) for out in ("whole", "parts")]
    assert names[0] == names[1]


@pytest.mark.parametrize("words", [[], ["--recipe"]])
def test_a_run_goes_on_from_a_device_with_another_order_of_memory(tmp_path, monkeypatch, without_pictures, words):
    """As from MPS, where all tensors are contiguous; fused optimizers read moments in the order of the weights."""
    words = [*words, "--sample", "--epochs", "2", "--limit", "100"]
    whole = train(tmp_path / "whole", *words, script=task2_resnet18)
    train_until(2, monkeypatch, tmp_path / "parts", *words, script=task2_resnet18)
    (path,) = (tmp_path / "parts" / "checkpoints").glob("*.last.pt")
    state = torch.load(path)
    moved = 0
    for moments in state["optimizer"]["state"].values():
        for name, moment in moments.items():
            moments[name] = moment.contiguous()
            moved += moments[name].stride() != moment.stride()
    assert moved
    torch.save(state, path)
    assert_same_run(whole, train(tmp_path / "parts", *words, "--resume", script=task2_resnet18))


def test_an_unfinished_run_asks_what_to_do(made_up, tmp_path, monkeypatch, capsys):
    train_until(3, monkeypatch, tmp_path, "--epochs", "4", "--limit", "100")
    unfinished = sorted(path.name for path in tmp_path.rglob("*_limit100.*"))
    run = "task1_simplecnn_epochs4_limit100"
    assert unfinished == [f"{run}.last.pt", f"{run}.live.csv", f"{run}.live.png"]
    with pytest.raises(SystemExit, match=r"2 of 4 epochs are done.*--resume.*--restart"):
        train(tmp_path, "--epochs", "4", "--limit", "100")
    with pytest.raises(SystemExit, match=r"There is no .*\.pt\. To train it: .* --resume; its best .*last\.pt$"):
        train(tmp_path, "--epochs", "4", "--limit", "100", "--test")
    assert sorted(path.name for path in tmp_path.rglob("*_limit100.*")) == unfinished
    with monkeypatch.context() as patch:
        trained = interrupt_in_epoch(patch, 0)
        restarted = train(tmp_path, "--epochs", "4", "--limit", "100", "--restart")
        assert trained == [1, 2, 3, 4]
    assert_same_run(restarted, train(tmp_path / "fresh", "--epochs", "4", "--limit", "100"))

    capsys.readouterr()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*_limit100.*")}
    train(tmp_path, "--epochs", "4", "--limit", "100", "--resume")
    printed = capsys.readouterr().out
    assert "has finished" in printed and printed.splitlines()[-1].startswith("Test loss: ")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*_limit100.*")} == before


@pytest.mark.parametrize("moment", ["drawing the curves", "naming the checkpoint", "removing the state"])
def test_a_crash_while_the_final_files_are_written_loses_nothing(made_up, tmp_path, monkeypatch, moment):
    words = ["--epochs", "2", "--limit", "100"]
    whole = train(tmp_path / "whole", *words)
    last, model = (f"task1_simplecnn_epochs2_limit100{end}" for end in (".last.pt", ".pt"))
    draw, replace, unlink = common.draw_curves, os.replace, pathlib.Path.unlink

    def crash_if(now):
        if now:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        if moment == "drawing the curves":
            patch.setattr(common, "save_figure", drawing.save_figure)
            patch.setattr(common, "draw_curves", lambda on, record: crash_if("test_loss" in record) or draw(on, record))
        elif moment == "naming the checkpoint":
            patch.setattr(os, "replace", lambda old, new: crash_if(new.name == model) or replace(old, new))
        else:
            patch.setattr(
                pathlib.Path, "unlink", lambda path, **how: crash_if(path.name == last) or unlink(path, **how)
            )
        with pytest.raises(SystemExit):
            train(tmp_path / "crashed", *words)
    assert (tmp_path / "crashed" / "checkpoints" / last).exists()
    assert_same_run(whole, train(tmp_path / "crashed", *words, "--resume"))
    names = [sorted(path.name for path in (tmp_path / out).rglob("*.*")) for out in ("whole", "crashed")]
    assert names[0] == names[1]


# ---------------------------------------------------------------- what is drawn and told


def test_the_pictures_and_lines_show_the_record(made_up, tmp_path, capsys):
    record, _ = train(tmp_path, "--epochs", "4", "--limit", "200")
    history, best = record["history"], record["best_epoch"]
    common.draw_curves(figure := Figure(), record)
    for axes, metric in zip(figure.axes, ("loss", "accuracy"), strict=True):
        lines = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
        for part, name in (("train", "training"), ("val", "validation")):
            assert lines[name] == [[it["epoch"], it[f"{part}_{metric}"]] for it in history]
        assert lines["test"] == [[best, record[f"test_{metric}"]]]
        assert [x for x, _ in lines[f"best epoch ({best})"]] == [best, best] and axes.get_ylabel() == metric
    test = f"test loss {record['test_loss']:.3f}, test accuracy {record['test_accuracy']:.3f}"
    assert figure.get_suptitle() == f"SimpleCNN, 4 epochs, 200 images\n{test}"

    drawing.draw_confusion(figure := Figure(), record)
    matrix, bars, colours = figure.axes
    assert colours.get_ylabel().startswith("share of the true class")
    assert {tuple(map(int, text.get_position())): text.get_text() for text in matrix.texts} == {
        (guess, true): str(count)
        for true, row in enumerate(record["confusion_matrix"])
        for guess, count in enumerate(row)
    }
    assert (matrix.get_xlabel(), matrix.get_ylabel()) == ("predicted class", "true class")
    assert matrix.get_title() == "20 test images"
    for axis in (matrix.xaxis, matrix.yaxis):
        assert [label.get_text() for label in axis.get_ticklabels()] == list(CLASSES)
    shares = [[count / max(sum(row), 1) for count in row] for row in record["confusion_matrix"]]
    assert matrix.images[0].get_array().tolist() == [pytest.approx(row) for row in shares]
    assert [bar.get_width() for bar in bars.patches] == pytest.approx([shares[true][true] for true in range(10)])

    printed = capsys.readouterr().out
    assert re.search(r"^Data:    .*: 200 images to train, 20 to validate, 20 to test$", printed, re.MULTILINE)
    mean, std = (" ".join(f"{value:.4f}" for value in record["config"][name]) for name in ("mean", "std"))
    assert f"\nPixels:  normalized with mean {mean} and standard deviation {std}\n" in printed
    assert f"\nBest epoch: {best} of 4, validation accuracy {history[best - 1]['val_accuracy']:.4f}\n" in printed
    assert "\nToo short to read: 4 of at least 10 epochs. Train for more --epochs before you" in printed
    lines = [line for line in printed.splitlines() if line.startswith("Epoch ")]
    accuracies = [it["val_accuracy"] for it in history]
    for line, it in zip(lines, history, strict=True):
        train_part, val_part = (f"{it[f'{part}_loss']:.3f} {it[f'{part}_accuracy']:5.1%}" for part in ("train", "val"))
        assert f"  train {train_part}  val {val_part}  " in line and line.startswith(
            f"Epoch  {it['epoch']}/4  lr 0.001 "
        )
        assert line.endswith("*") == (it["val_accuracy"] > max([-1.0, *accuracies[: it["epoch"] - 1]]))


# ---------------------------------------------------------------- when something is wrong


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_best(made_up, tmp_path, monkeypatch, capsys):
    words = ["--epochs", "4", "--limit", "100", "--batch-size", "20"]
    with pytest.raises(SystemExit):
        too_high = "--optimizer AdamW --lr 999 --weight-decay 9"
        train(tmp_path / "first", "--limit", "100", "--batch-size", "5", *too_high.split())
    error = r"The loss is no longer finite \((nan|inf)\) in epoch 1, step \d+ of 20, at learning rate 999\."
    assert re.fullmatch(rf"{error} Try a smaller --lr\.\n", capsys.readouterr().err)

    real = common.batches
    for value, when, where in (
        (float("inf"), 2 * 6 + 3, "epoch 3, step 3 of 5"),
        (float("nan"), 3 * 6, "after epoch 3"),
    ):
        seen = []

        def spoiled(part, size, order, draws, value=value, when=when, seen=seen):
            for images, labels in real(part, size, order, draws):
                seen.append(len(labels))
                yield (images * value if len(seen) == when else images), labels

        with monkeypatch.context() as patch:
            patch.setattr(common, "batches", spoiled)
            with pytest.raises(SystemExit):
                train(tmp_path, *words, "--restart")
        assert len(seen) <= 3 * 6  # neither the validation after a bad epoch nor the next epoch
        printed = capsys.readouterr().err
        assert re.search(rf"finite \(\w+\) .*{where}.* rate 0\.001\. Try a smaller --lr\.\n$", printed)
        state = torch.load(tmp_path / "checkpoints" / "task1_simplecnn_batch20_epochs4_limit100.last.pt")
        assert len(state["history"]) == 2 and all(tensor.isfinite().all() for tensor in state["best"].values())
    assert_same_run(train(tmp_path / "whole", *words), train(tmp_path, *words, "--resume"))


def test_a_loss_that_is_not_finite_is_noticed_within_the_epoch(made_up, tmp_path, monkeypatch, capsys):
    """A second after it, whatever is left of the epoch; the clock of this test makes a step take 0.3 seconds."""
    real, seen, ticks = common.batches, [], itertools.count()

    def spoiled(*how):
        for images, labels in real(*how):
            seen.append(len(labels))
            yield (images * float("nan") if len(seen) == 7 else images), labels

    monkeypatch.setattr(common, "batches", spoiled)
    monkeypatch.setattr(common.time, "monotonic", lambda: 0.3 * next(ticks) / 2)  # asked twice a step
    with pytest.raises(SystemExit):
        train(tmp_path, "--limit", "300", "--batch-size", "10")
    assert "epoch 1, step 7 of 30" in capsys.readouterr().err
    assert 7 <= len(seen) <= 7 + 4


def test_the_curves_to_watch_are_drawn_at_most_every_15_seconds(made_up, tmp_path, monkeypatch):
    """With a clock by which each epoch takes six."""
    epochs, drawn = [], []
    train_epoch, save_figure = common.train_epoch, common.save_figure
    monkeypatch.setattr(common.time, "monotonic", lambda: 6.0 * len(epochs))
    monkeypatch.setattr(common, "train_epoch", lambda *how: epochs.append(how[-1]) or train_epoch(*how))

    def counted(path, *how):
        if path.name.endswith(".live.png"):
            drawn.append(len(epochs))
        save_figure(path, *how)

    monkeypatch.setattr(common, "save_figure", counted)
    train(tmp_path, "--epochs", "8", "--limit", "20")
    assert drawn == [1, 4, 7]


@pytest.mark.parametrize("script", [task1_simplecnn, task2_resnet18])
def test_the_best_weights_stay_what_they_were(made_up, tmp_path, monkeypatch, script):
    """Those of epoch 1, if that stays the best: also after later epochs, and after a resumption."""
    _, expected = train(tmp_path / "one", "--epochs", "1", "--limit", "100", script=script)
    words = ["--epochs", "3", "--limit", "100"]
    monkeypatch.setattr(common, "best_of", lambda history: history[0])
    whole = train(tmp_path / "whole", *words, script=script)
    train_until(3, monkeypatch, tmp_path / "parts", *words, script=script)
    parts = train(tmp_path / "parts", *words, "--resume", script=script)
    assert_same_run(whole, parts)
    assert whole[1]["epoch"] == 1
    for name, tensor in whole[1]["model"].items():
        assert torch.equal(tensor, expected["model"][name]), name


def test_restarting_without_data_keeps_the_unfinished_state(made_up, tmp_path, monkeypatch):
    train_until(2, monkeypatch, tmp_path, "--limit", "100")

    def no_data(directory, train):
        raise SystemExit("no data")

    monkeypatch.setattr("lab.cifar10.load", no_data)
    with pytest.raises(SystemExit, match="no data"):
        train(tmp_path, "--limit", "100", "--restart")
    assert (tmp_path / "checkpoints" / "task1_simplecnn_limit100.last.pt").exists()


def test_the_curves_of_all_runs_have_the_same_axes_whatever_they_show():
    """Also while they grow: the axis of epochs runs to the last one that is planned. Grey lines: rates halved."""
    history = [{"epoch": epoch, "learning_rate": 0.01 * 0.5 ** ((epoch - 1) // 10)} for epoch in range(1, 26)]
    for epoch in history:
        epoch |= {"train_loss": 0.1, "train_accuracy": 0.9, "val_loss": 40 / epoch["epoch"], "val_accuracy": 0.1}
    config = {"epochs": 60, "lr": 0.01, "constant_lr": True, "seed": 3, "network": {"class": "ResNet18"}}
    record = {"run": "task2_resnet18_lr0.01_constant-lr_seed3", "config": config, "history": history}
    common.draw_curves(figure := Figure(), record)
    assert figure.get_suptitle() == "ResNet-18, learning rate 0.01, constant rate, seed 3"
    loss, accuracy = figure.axes
    assert [line.get_label() for line in accuracy.lines if line.get_linestyle() == "--"] == ["training"]
    assert loss.get_xlim() == accuracy.get_xlim() == (0, 61)
    assert (loss.get_ylim(), accuracy.get_ylim()) == ((0, 2.5), (0, 1))
    common.draw_curves(with_test := Figure(), record | {"test_loss": 3.5, "test_accuracy": 0.1})
    stars = [line.get_xydata().tolist() for axes in with_test.axes for line in axes.lines if line.get_marker() == "*"]
    assert stars == [[[1, 2.5]], [[1, 0.1]]]  # on the edge, not above it
    above = [line.get_xydata().tolist() for line in loss.lines if line.get_marker() == "^"]
    assert above == [[[epoch, 2.5] for epoch in range(1, 16)]]
    for axes in figure.axes:
        (halvings,) = (lines for lines in axes.collections if lines.get_label() == "rate halved")
        assert [x for ((x, _), _) in halvings.get_segments()] == [10.5, 20.5]

    sizes = [{"image_size": 32 if epoch["epoch"] <= 4 else 48 if epoch["epoch"] <= 9 else 64} for epoch in history]
    grows = [epoch | size for epoch, size in zip(history, sizes, strict=True)]
    common.draw_curves(figure := Figure(), record | {"history": grows})
    for axes in figure.axes:
        (growths,) = (lines for lines in axes.collections if lines.get_label() == "images grow")
        assert [x for ((x, _), _) in growths.get_segments()] == [4.5, 9.5]


def test_the_gallery_shows_the_images_that_were_wrong_with_the_highest_confidence(made_up, tmp_path):
    record, checkpoint = train(tmp_path, "--epochs", "1")
    _, _, images, labels = made_up
    model = SimpleCNN().eval()
    model.load_state_dict(checkpoint["model"])
    mean, std = (torch.tensor(record["config"][name]).view(3, 1, 1) for name in ("mean", "std"))
    with torch.inference_mode():
        sure, guesses = model((images / 255 - mean) / std).softmax(1).max(1)
    wrong = sorted((guesses != labels).nonzero().flatten().tolist(), key=lambda index: -sure[index])[:25]
    drawing.draw_mistakes(figure := Figure(), record, images.permute(0, 2, 3, 1).numpy(), labels.tolist())
    shown = [axes for axes in figure.axes if axes.images]
    assert 0 < len(shown) == len(wrong) <= 25 == len(figure.axes)
    for axes, index in zip(shown, wrong, strict=True):
        (image,) = axes.images
        assert torch.equal(torch.tensor(image.get_array().data), images[index].permute(1, 2, 0))
        assert image.get_interpolation() == "nearest"  # a file of a sixth of the size, in which pixels can be seen
        true, guess = (CLASSES[number] for number in (labels[index], guesses[index]))
        assert re.fullmatch(rf"{true}\n→ {guess} \d+\.\d%", axes.get_title())
        assert float(axes.get_title().split()[-1][:-1]) == pytest.approx(100 * float(sure[index]), abs=0.1)


@pytest.mark.parametrize("content", ["", '{"format": 1', "[]", "{}", '{"best_epoch": 1, "test_loss": "x"}'])
def test_a_damaged_record_is_told_on_resuming(made_up, tmp_path, content):
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "task1_simplecnn.json").write_text(content)
    told = r"task1_simplecnn\.json cannot be used: .*\. To train it: .*task1_simplecnn\.py"
    with pytest.raises(SystemExit, match=told):
        task1_simplecnn.main(["--resume", "--output-dir", str(tmp_path)])


def test_a_record_that_is_older_than_a_setting_has_what_all_runs_did_before_it(made_up, tmp_path, monkeypatch):
    """Whatever the setting's default is; without that, the record is refused."""
    words = ["--epochs", "1", "--limit", "20"]
    record, _ = train(tmp_path, *words)
    path, older = tmp_path / "plots" / f"{record['run']}.json", asdict(parse(task1_simplecnn, *words).settings)

    def add_setting(**before):
        @dataclass(frozen=True, kw_only=True)
        class Later(Settings):
            new: float = settings.setting(0.5, "new{}", "new {}", "what nobody had thought of", **before)

        monkeypatch.setattr(settings, "Settings", Later)
        return Later

    later = add_setting(before=0.25)
    assert read_record(path, record["run"], later(**older, new=0.25)) == record
    with pytest.raises(ValueError, match=r"it is of a run with another new: 0\.25, not 0\.5"):
        read_record(path, record["run"], later(**older))
    later = add_setting()
    with pytest.raises(ValueError, match=r"^it has no new$"):
        read_record(path, record["run"], later(**older))


@pytest.mark.parametrize("data", [True, False])
def test_resuming_a_finished_run_draws_the_figures_that_are_missing(made_up, tmp_path, capsys, monkeypatch, data):
    """The gallery of mistakes only if the images are there."""
    monkeypatch.setattr(cifar10, "damaged", lambda directory: [] if data else ["data_batch_1"])
    words = ["--epochs", "2", "--limit", "100"]
    record, _ = train(tmp_path, *words)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    pictures = [tmp_path / "plots" / f"{record['run']}{end}.png" for end in ("", "_confusion", "_mistakes")]
    for picture in pictures:
        picture.unlink()
    last = capsys.readouterr().out.splitlines()
    train(tmp_path, "--resume", *words)
    if not data:
        del before[pictures.pop()]
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    first, *printed = capsys.readouterr().out.splitlines()
    cpu = record["environments"][-1]["cpu"] or "cpu"
    commit = f", commit {record['code'][:7]}{record['code'][40:]}" if record["code"] else ""
    assert first.startswith(f"{record['run']} has finished ({record['finished'][:10]}, {cpu}{commit}). All about it: ")
    gallery = files.shown(tmp_path / "plots" / f"{record['run']}_mistakes.png")
    missing = f"{gallery} is not drawn: it needs the images of CIFAR-10, which are not there."
    assert data or printed.pop(0) == missing
    assert [printed.pop(0) for _ in pictures] == [f"Written: {files.shown(picture)}" for picture in pictures]
    assert printed[-2:] == last[-2:] and printed == last[-len(printed) :]


# ---------------------------------------------------------------- as a user runs them


def test_dry_run_needs_no_data_and_leaves_nothing(script, tmp_path):
    """Among what may be of somebody else: a locale that cannot print the folder, settings of matplotlib."""
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nfont.family: no such font\n")
    tmp_path /= "圖 é"
    tmp_path.mkdir()
    places = {"CIFAR10_DIR": str(tmp_path / "nowhere"), "TMPDIR": str(tmp_path)}
    run = script("task2_resnet18.py", "--dry-run", **places, PYTHONIOENCODING="ascii", MPLBACKEND="no such backend")
    assert run.returncode == 0, run.stderr
    assert list(tmp_path.rglob("*")) == []
    assert run.stderr == "" and "\r" not in run.stdout and "\x1b" not in run.stdout
    lines = run.stdout.splitlines()
    number = r"\d+\.\d+"
    metrics = f"train {number} +{number}%  val {number} +{number}%"
    epoch = rf"Epoch  [12]/2  lr 0\.001 +{metrics}  \d\d:\d\d left( \*)?"
    assert sum(bool(re.fullmatch(epoch, line)) for line in lines) == 2
    assert re.fullmatch(r"Model loaded from .*\\u5716 \\xe9\S+\.pt \(44\.8 MB\)", lines[-2])
    assert re.fullmatch(r"Test loss: \d+\.\d{3}, Test accuracy: 0\.\d{3}", lines[-1])


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
def test_closed_streams_are_no_problem(tmp_path):
    command = [sys.executable, files.ROOT / "task1_simplecnn.py", "--dry-run"]
    run = subprocess.run(["sh", "-c", 'exec "$0" "$@" >&- 2>&-', *command], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no broken pipes of this kind")
def test_a_reader_that_leaves_ends_the_script_quietly(tmp_path):
    command = [sys.executable, files.ROOT / "task1_simplecnn.py", "--dry-run"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_told(tmp_path):
    command = [sys.executable, files.ROOT / "task1_simplecnn.py", "--output-dir", tmp_path, "--sample"]
    with open("/dev/full", "w") as full:
        run = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert run.returncode == 1
    assert re.fullmatch(r"No space left on device: standard output\. There is nothing to resume; .*\n", run.stderr)


def test_a_full_memory_is_told(made_up, tmp_path, monkeypatch, capsys):
    real = common.train_epoch
    for error in (torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory"), MemoryError()):

        def full(learner, dataset, run, epoch, error=error):
            if epoch == 2:
                raise error
            return real(learner, dataset, run, epoch)

        monkeypatch.setattr(common, "train_epoch", full)
        with pytest.raises(SystemExit, match="1"):
            train(tmp_path, "--limit", "100", "--restart")
        told = capsys.readouterr().err
        assert re.fullmatch(rf"The memory of cpu is full\. Try a --batch-size below 128\. .* saved\. {GO_ON}\n", told)


def test_another_error_that_speaks_of_memory_is_not_a_full_one(made_up, tmp_path, monkeypatch):
    def broken(*how):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(common, "train_epoch", broken)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        train(tmp_path, "--limit", "100")


def test_a_signal_after_the_last_file_does_not_advise_to_begin(made_up, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(console, "print_test", lambda result, run: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SystemExit) as stop:
        train(tmp_path, "--limit", "100", "--epochs", "1")
    assert stop.value.code == 143
    assert re.fullmatch(
        r"Interrupted\. There is nothing to resume; .*\.json is of a run that has finished\.\n", capsys.readouterr().err
    )


def test_all_ablations_together_on_the_sample(tmp_path, capsys, without_pictures):
    words = ["--no-norm", "--no-aug", "--lr", "0.01", "--constant-lr", "--limit", "300", "--epochs", "1", "--sample"]
    record, _ = train(tmp_path, *words, script=task2_resnet18)
    assert record["run"] == "task2_resnet18_no-norm_no-aug_lr0.01_constant-lr_epochs1_limit300_sample"
    configuration = capsys.readouterr().out.partition("Device: ")[0]
    assert "no augmentation" in configuration and not re.search("rotation|validation|statistics", configuration)
    assert record["config"]["mean"] == [0, 0, 0] and record["config"]["std"] == [1, 1, 1]
    assert sum(map(sum, record["confusion_matrix"])) == 30


def test_a_test_leaves_nothing(script, tmp_path, without_pictures):
    words = ["--sample", "--limit", "100", "--epochs", "1"]
    record, _ = train(tmp_path, *words)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    (elsewhere := tmp_path.with_name(f"{tmp_path.name}_tmp")).mkdir()
    run = script("task1_simplecnn.py", "--test", "--device", "cpu", *words, TMPDIR=str(elsewhere))
    assert (run.returncode, run.stderr, list(elsewhere.iterdir())) == (0, "", [])
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    result = f"Test loss: {record['test_loss']:.3f}, Test accuracy: {record['test_accuracy']:.3f}"
    assert run.stdout.splitlines()[-1] == result
