"""--recipe: the same networks, trained as one would today, against torch's own parts and by real runs."""

import copy
from dataclasses import asdict, replace

import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as tv
from test_augmentation import one_after_the_other
from test_runs import assert_same_run, parse, train, train_until
from torch import nn

import common
import task1_simplecnn
import task2_resnet18
from lab import faster, files, photos
from lab.checkpoint import START_ANEW
from lab.learner import EVERY
from lab.record import CLASSES, title_of
from lab.schedule import best_of, epochs_left, out_of_patience, size_of
from lab.settings import Settings

TASKS = pytest.mark.parametrize("task", [task1_simplecnn, task2_resnet18])


class Small(nn.Module):
    """A network in float64, in which rounding noise is no gradient."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=4)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        maps = self.norm(self.conv(x.double())).relu()
        return self.fc(F.adaptive_avg_pool2d(maps, 4).flatten(1))


@TASKS
def test_training_is_a_plain_loop_of_torchs_own_parts(made_up, tmp_path, task):
    words = ["--batch-size", 10, "--epochs", 3, "--limit", 120, "--lr", 0.02, "--seed", 4, "--float32"]
    run = parse(task, "--recipe", *words, "--average", 0.8, "--output-dir", tmp_path)  # so small that it counts soon
    train_set, val_set, _ = common.load_data(run)
    files.make_folders(run.output_dir)
    torch.manual_seed(0)
    ours = Small().double()
    theirs = copy.deepcopy(ours)
    history = common.train(ours, train_set, val_set, run)["history"]

    def seen(part, epoch, purpose):
        order, draws = common.sample_epoch(part, run.settings, epoch, purpose)
        images = part.images[order]
        size = {1: 48, 2: 64, 3: 64}[epoch] if task is task2_resnet18 else 32
        if purpose == common.TRAINING:
            assert not draws[:, 3].any()  # no rotation
            images = torch.stack(list(map(one_after_the_other, images, draws)))
        else:
            assert draws is None
        pixels = (images.float() / 255 - part.mean) / part.std
        return tv.resize(pixels, [size] * 2), part.labels[order]

    kernels, others = (
        [theirs.conv.weight, theirs.fc.weight],
        [theirs.conv.bias, theirs.fc.bias, *theirs.norm.parameters()],
    )
    decay = task.RECIPE.weight_decay
    groups = [{"params": kernels, "weight_decay": decay}, {"params": others, "weight_decay": 0}]
    if task is task1_simplecnn:
        optimizer = torch.optim.AdamW(groups, 0.02)
    else:
        optimizer = torch.optim.SGD(groups, 0.02, momentum=0.9, nesterov=True)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.02, 36, pct_start=0.2, anneal_strategy="linear", cycle_momentum=False
    )
    average, updates, averages = copy.deepcopy(theirs), 0, []
    for metrics in history:
        losses = []
        theirs.train()
        assert metrics["learning_rate"] == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        images, labels = seen(train_set, metrics["epoch"], common.TRAINING)
        for step, (inputs, targets) in enumerate(zip(images.split(10), labels.split(10), strict=True), 1):
            logits = theirs(inputs)
            optimizer.zero_grad()
            nn.CrossEntropyLoss(label_smoothing=0.1)(logits, targets).backward()
            optimizer.step()
            scheduler.step()
            losses += nn.CrossEntropyLoss(reduction="none")(logits, targets).tolist()
            if step % EVERY == 0 or step == 12:
                keep = min(0.8**EVERY, (1 + updates) / (10 + updates)) if updates else 0
                updates += 1
                for name, tensor in average.state_dict().items():
                    if tensor.is_floating_point():
                        tensor.mul_(keep).add_(theirs.state_dict()[name], alpha=1 - keep)
        assert metrics["train_loss"] == pytest.approx(sum(losses) / 120, rel=1e-5)
        images, labels = seen(val_set, metrics["epoch"], common.VALIDATION)
        with torch.no_grad():
            logits = average.eval()(images)
        assert metrics["val_loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-4)
        averages.append(copy.deepcopy(average.state_dict()))
    best = best_of(history)["epoch"]
    for name, tensor in ours.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, averages[best - 1][name], rtol=1e-4, atol=1e-7)


# ---------------------------------------------------------------- images that grow

GROWING = Settings(image_size=64, growth=0.5, epochs=8)


def test_images_grow_until_half_of_the_epochs_are_over():
    assert [size_of(GROWING, epoch) for epoch in range(1, 9)] == [32, 48, 48, 64, 64, 64, 64, 64]
    assert epochs_left(GROWING, 7) == 1
    assert epochs_left(GROWING, 2) == pytest.approx(1 + 5 * (64 / 48) ** 2)
    assert size_of(replace(GROWING, epochs=1), 1) == 64
    assert size_of(replace(GROWING, growth=0.0), 1) == 64 and epochs_left(replace(GROWING, growth=0.0), 1) == 7
    assert size_of(task1_simplecnn.TASK, 1) == 32


def test_the_best_epoch_is_one_with_the_largest_images():
    sizes, accuracies = (32, 32, 48, 48, 48), (0.5, 0.8, 0.4, 0.7, 0.7)
    both = zip(sizes, accuracies, strict=True)
    history = [{"epoch": n, "image_size": size, "val_accuracy": it} for n, (size, it) in enumerate(both, 1)]
    assert best_of(history)["epoch"] == 4
    assert best_of(history[:2])["epoch"] == 2


def test_patience_waits_until_the_images_have_grown():
    patient = replace(GROWING, patience=1)
    sizes = [size_of(patient, epoch) for epoch in range(1, 9)]
    history = [{"epoch": n, "image_size": size, "val_accuracy": 1 / n} for n, size in enumerate(sizes, 1)]
    assert [out_of_patience(history[:n], patient) for n in range(9)] == [False] * 5 + [True] * 4
    of_one_size = [it | {"image_size": 64} for it in history]
    assert out_of_patience(of_one_size[:2], replace(patient, growth=0.0))
    assert not out_of_patience(history, replace(patient, patience=None))


@pytest.mark.parametrize("size", [32, 48])
def test_a_network_rebuilt_for_64_computes_the_same_on_smaller_images(size):
    torch.manual_seed(0)
    model = task2_resnet18.ResNet18().double()  # in which rounding noise is no gradient
    rebuilt = faster.rebuild(model, (3, 64, 64))
    images = torch.rand(4, 3, size, size, dtype=torch.float64)
    for network in (model, rebuilt):
        network.train()(images).logsumexp(1).sum().backward()
    with torch.no_grad():
        torch.testing.assert_close(rebuilt.eval()(images), model.eval()(images))
    theirs = model.layer4[1].conv2.weight.grad
    ours = rebuilt.layer4[1].conv2.weight.grad.permute(0, 3, 1, 2)
    torch.testing.assert_close(ours, theirs)


# ---------------------------------------------------------------- whole runs


@TASKS
def test_an_interrupted_run_comes_to_the_same_end(tmp_path, monkeypatch, without_pictures, task, capsys):
    words = ["--recipe", "--sample", "--limit", "100", "--epochs", "3", "--batch-size", "16"]
    whole = train(tmp_path / "whole", *words, script=task)
    for epoch in (1, 2, 3):
        train_until(epoch, monkeypatch, tmp_path / "parts", *words, *["--resume"] * (epoch > 1), script=task)
    assert_same_run(whole, train(tmp_path / "parts", *words, "--resume", script=task))
    name = f"{task.__name__}_recipe_batch16_epochs3_limit100_sample"
    assert whole[0]["run"] == name
    model = f"{task.__name__}{'_size64' * (task is task2_resnet18)}_model.png"
    assert {it.name for it in (tmp_path / "whole" / "plots").iterdir()} == {
        *(f"{name}{end}" for end in (".json", ".csv", ".png", "_confusion.png", "_mistakes.png")),
        model,
    }
    expected = replace(task.RECIPE, epochs=3, limit=100, batch_size=16, sample=True)
    assert whole[0]["config"].items() >= asdict(expected).items() and whole[0]["config"] == whole[1]["config"]

    capsys.readouterr()
    where = ["--device", "cpu", "--output-dir", str(tmp_path / "whole")]
    task.main([*words, "--resume", *where])  # the record is checked
    resumed = capsys.readouterr().out.splitlines()[-1]
    task.main([*words, "--test", *where])
    tested = capsys.readouterr().out.splitlines()[-1]
    assert resumed == tested
    assert tested.endswith(f"(with mirror images: {whole[0]['test_accuracy_mirrored']:.3f})")


@TASKS
def test_a_state_without_its_average_or_moments_is_refused(tmp_path, monkeypatch, without_pictures, task):
    words = ["--recipe", "--sample", "--limit", "20", "--epochs", "2"]
    train_until(2, monkeypatch, tmp_path, *words, script=task)
    (path,) = (tmp_path / "checkpoints").glob("*.last.pt")
    good = torch.load(path)
    for problem, state in {
        "it holds the weights of another network than": {it: part for it, part in good.items() if it != "average"},
        "its optimizer is that of another network": good | {"optimizer": {"state": {}}},
    }.items():
        torch.save(state, path)
        with pytest.raises(SystemExit, match=rf"cannot be used: {problem}.*\. {START_ANEW}"):
            train(tmp_path, *words, "--resume", script=task)


@pytest.mark.parametrize("changed", [{"weight_decay": 0.25}, {"epochs": 2}])
def test_what_a_changed_recipe_finds_of_an_older_one_is_told_as_such(tmp_path, monkeypatch, without_pictures, changed):
    """And not as damaged. No message names a way on that is none."""
    ((name, value),) = changed.items()
    words = ["--recipe", "--sample", "--limit", "20"]
    monkeypatch.setattr(task1_simplecnn, "RECIPE", replace(task1_simplecnn.RECIPE, epochs=3))
    train(tmp_path / "finished", *words)
    train_until(3, monkeypatch, tmp_path / "unfinished", *words)
    before = getattr(task1_simplecnn.RECIPE, name)
    other = rf"cannot be used: it is of a run with another {name}: {before}, not {value}\."
    monkeypatch.setattr(task1_simplecnn, "RECIPE", replace(task1_simplecnn.RECIPE, **changed))
    for folder, mode, what_to_do in (
        ("unfinished", [], START_ANEW),
        ("unfinished", ["--resume"], START_ANEW),
        ("finished", ["--test"], r"To train it: (?!.*--resume)"),
        ("finished", ["--resume"], r"To train it: "),
    ):
        with pytest.raises(SystemExit, match=rf"{other} {what_to_do}"):
            train(tmp_path / folder, *words, *mode)
    record, _ = train(tmp_path / "finished", *words)
    assert record["config"][name] == value


def test_a_photo_is_enlarged_as_the_images_were(tmp_path, capsys, without_pictures):
    words = ["--recipe", "--sample", "--limit", "20", "--epochs", "1"]
    record, checkpoint = train(tmp_path, *words, script=task2_resnet18)
    model = task2_resnet18.ResNet18().eval()
    model.load_state_dict(checkpoint["model"])
    cat = files.ROOT / "lab" / "examples" / "cat.png"
    capsys.readouterr()
    task2_resnet18.main([*words, "--device", "cpu", "--output-dir", str(tmp_path), "--predict", str(cat)])
    pixels = tv.normalize(photos.read_image(cat) / 255, record["config"]["mean"], record["config"]["std"])[None]

    def told(size):
        with torch.no_grad():
            likeliest = model(tv.resize(pixels, [size, size])).softmax(1)[0].topk(3)
        both = zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True)
        return f"{cat}: {', '.join(f'{CLASSES[number]} {probability:.1%}' for number, probability in both)}\n"

    assert capsys.readouterr().out == told(64) != told(32)


# ---------------------------------------------------------------- images and flags


def test_images_are_normalized_by_those_that_train():
    train_set, _, _ = common.load_data(parse(task1_simplecnn, "--recipe", "--sample", "--limit", 1500))
    pixels = train_set.images.numpy() / 255
    assert train_set.mean.flatten().tolist() == pytest.approx(pixels.mean((0, 2, 3)).tolist(), rel=1e-6)
    assert train_set.std.flatten().tolist() == pytest.approx(pixels.std((0, 2, 3)).tolist(), rel=1e-6)


def test_a_recipe_without_normalization_or_augmentation(made_up):
    run = parse(task1_simplecnn, "--recipe", "--no-norm", "--no-aug")
    train_set, _, _ = common.load_data(run)
    assert not train_set.mean.any() and (train_set.std == 1).all()
    assert common.sample_epoch(train_set, run.settings, 1, common.TRAINING)[1] is None


def test_the_name_tells_what_is_not_as_in_the_recipe():
    lr = task1_simplecnn.RECIPE.lr
    assert parse(task1_simplecnn, "--recipe", "--lr", lr, "--no-aug").name == "task1_simplecnn_recipe_no-aug"
    run = parse(task1_simplecnn, "--recipe", "--lr", 0.001, "--seed", 2)
    assert run.name == "task1_simplecnn_recipe_lr0.001_seed2"
    assert "task1_simplecnn.py --recipe --lr 0.001 --seed 2" in run.command
    record = {"run": "task2_resnet18_recipe_no-aug", "config": {"network": {"class": "ResNet18"}}}
    assert title_of(record) == "ResNet-18, recipe, no augmentation"
