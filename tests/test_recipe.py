"""--recipe: the same networks, trained as one would today, against torch's own parts and by real runs."""

import copy
import json

import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as tv
from test_augmentation import one_after_the_other
from test_runs import assert_same_run, interrupt_in_epoch, train, train_until
from torch import nn

import common
import task1_simplecnn
import task2_resnet18
from benchmarks import ingredients
from lab import beyond, faster, files, flags, photos, record
from lab.checkpoint import START_ANEW, STATE_FORMAT, upgrade
from lab.diagnosis import diagnose
from lab.recipe import EVERY, schedule_for
from lab.rules import RULES

TASKS = pytest.mark.parametrize("task", [task1_simplecnn, task2_resnet18])


def parse(task, *words):
    return flags.parse("", task.DEFAULTS, ["--recipe", "--device", "cpu", *map(str, words)], task.RECIPE)


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
    run = parse(task, *words, "--data-dir", tmp_path, "--output-dir", tmp_path)
    train_set, val_set, _ = common.load_data(run)
    files.make_folders(run.files)
    torch.manual_seed(0)
    ours = Small().double()
    theirs = copy.deepcopy(ours)
    history = common.train(ours, train_set, val_set, run)

    def seen(part, epoch, purpose):
        order, draws = common.sample_epoch(part, run, epoch, purpose)
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
    decay = task.RECIPE["weight_decay"]
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
        assert metrics["learning_rate"] == optimizer.param_groups[0]["lr"]
        images, labels = seen(train_set, metrics["epoch"], common.TRAINING)
        for step, (inputs, targets) in enumerate(zip(images.split(10), labels.split(10), strict=True), 1):
            logits = theirs(inputs)
            optimizer.zero_grad()
            nn.CrossEntropyLoss(label_smoothing=0.1)(logits, targets).backward()
            optimizer.step()
            scheduler.step()
            losses += nn.CrossEntropyLoss(reduction="none")(logits, targets).tolist()
            if step % EVERY == 0 or step == 12:
                keep = min(0.999**EVERY, (1 + updates) / (10 + updates)) if updates else 0
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
    best = record.best_of(history)["epoch"]
    for name, tensor in ours.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, averages[best - 1][name], rtol=1e-4, atol=1e-7)


def test_images_grow_until_half_of_the_epochs_are_over():
    config = {"image_size": 64, "growth": 0.5, "epochs": 8}
    assert [record.size_of(config, epoch) for epoch in range(1, 9)] == [32, 48, 48, 64, 64, 64, 64, 64]
    assert record.epochs_left(config, 7) == 1
    assert record.epochs_left(config, 2) == pytest.approx(1 + 5 * (64 / 48) ** 2)
    assert record.size_of(config | {"epochs": 1}, 1) == 64
    assert record.size_of(config | {"growth": 0.0}, 1) == 64 and record.epochs_left(config | {"growth": 0.0}, 1) == 7
    assert record.size_of(task1_simplecnn.DEFAULTS, 1) == 32


def test_the_best_epoch_is_one_with_the_largest_images():
    sizes, accuracies = (32, 32, 48, 48, 48), (0.5, 0.8, 0.4, 0.7, 0.7)
    both = zip(sizes, accuracies, strict=True)
    history = [{"epoch": n, "image_size": size, "val_accuracy": it} for n, (size, it) in enumerate(both, 1)]
    assert record.best_of(history)["epoch"] == 4
    assert record.best_of(history[:2])["epoch"] == 2


def test_patience_waits_until_the_images_have_grown():
    config = {"image_size": 64, "growth": 0.5, "epochs": 8, "patience": 1}
    sizes = [record.size_of(config, epoch) for epoch in range(1, 9)]
    history = [{"epoch": n, "image_size": size, "val_accuracy": 1 / n} for n, size in enumerate(sizes, 1)]
    assert [record.out_of_patience(history[:n], config) for n in range(9)] == [False] * 5 + [True] * 4
    of_one_size = [it | {"image_size": 64} for it in history]
    assert record.out_of_patience(of_one_size[:2], config | {"growth": 0.0})
    assert not record.out_of_patience(history, config | {"patience": None})


def read(losses, sizes, epochs=None, train=None, patience=None):
    """What is found in the validation losses of a run by ResNet-18's recipe, with images of these sizes."""
    config = parse(task2_resnet18).settings | {"epochs": epochs or len(losses), "patience": patience}
    rows = zip(losses, train or losses, sizes, strict=True)
    history = [
        {
            "epoch": epoch,
            "learning_rate": record.rate_of(config, epoch),
            "image_size": size,
            "train_loss": train_loss,
            "val_loss": loss,
            "train_accuracy": 0.5,
            "val_accuracy": 0.5,
        }
        for epoch, (loss, train_loss, size) in enumerate(rows, 1)
    ]
    return {finding.name: finding for finding in diagnose({"history": history, "config": config})}


GROWN = [32] * 6 + [48] * 7 + [64] * 15


def test_curves_are_read_where_all_images_are_of_the_full_size():
    jumps = [(1.0 if epoch % 2 else 2.0) if epoch < 13 else 1.0 for epoch in range(1, 29)]
    assert "oscillation" not in read(jumps, GROWN)
    assert "Between epochs 1 and 10" in read(jumps, [64] * 28)["oscillation"].evidence
    short = "3 of at least 10 epochs with images of the full size."
    assert read(jumps, [32] * 25 + [64] * 3)["too short to read"].evidence == short
    risen = [0.3] * 13 + [1.0] * 15  # by images of another size
    falls = [1.0 * 0.95**epoch for epoch in range(28)]
    assert "overfitting" not in read(risen, GROWN, train=falls)
    assert "lowest in epoch 1:" in read(risen, [64] * 28, train=falls)["overfitting"].evidence
    turns = [0.3] * 13 + [0.9, 0.8, 0.7, 0.6] + [0.6 + 0.03 * epoch for epoch in range(11)]
    assert "lowest in epoch 17: 0.60" in read(turns, GROWN, train=falls)["overfitting"].evidence


def test_a_cycle_that_patience_cuts_short_is_not_praised():
    falls = [0.3 + 0.9**epoch for epoch in range(28)]
    assert [*read(falls, GROWN)] == ["good"]
    found = read(falls, GROWN, epochs=40)
    assert [*found] == ["a cycle cut short"]
    (cut,) = found.values()
    assert "after 28 of 40 epochs, the last of which began at a learning rate of 0.041;" in cut.evidence
    assert cut.advice == RULES["a cycle cut short"][1]
    turned = [0.6 + 0.03 * abs(epoch - 16) for epoch in range(28)]
    found = read(turned, GROWN, epochs=40, train=[0.95**epoch for epoch in range(28)])
    assert [name for name, finding in found.items() if finding.advice] == ["a cycle cut short"]
    assert "overfitting" in found
    (short,) = read(falls, [32] * 19 + [64] * 9, epochs=40, patience=9).values()
    assert short.name == "too short to read" and "more --patience, or none" in short.advice


def test_where_images_have_grown_epochs_keep_their_numbers():
    falls = [0.9**epoch for epoch in range(28)]
    levels = [0.5] * 6 + [0.9] * 7 + [0.6] * 15
    good = read(levels, GROWN, train=falls[:13] + [0.55] * 15)["good"].evidence
    assert good.startswith("From epoch 14 on, with images of the full size: steady (") and "no overfitting" in good
    assert "From epoch" not in read(falls, [64] * 28)["good"].evidence
    high = [2.2 - 0.01 * epoch for epoch in range(13)] + [1.4] * 15
    assert "hardly fallen since epoch 14," in read(high, GROWN)["no convergence"].evidence
    bend = [1.0] * 13 + [0.9, 0.8, 0.7] + [0.6] * 24
    grown = [32] * 6 + [48] * 7 + [64] * 27
    assert "has hardly moved since epoch 17" in read(bend, grown)["good"].evidence


@pytest.mark.parametrize("changed", [{"weight_decay": 0.25}, {"average": 0.0}, {"epochs": 2}])
def test_what_a_changed_recipe_finds_of_an_older_one_is_not_called_damaged(
    tmp_path, monkeypatch, without_pictures, changed, capsys
):
    ((name, value),) = changed.items()
    words = ["--recipe", "--sample", "--limit", "20"]
    monkeypatch.setattr(task1_simplecnn, "RECIPE", task1_simplecnn.RECIPE | {"epochs": 3})
    train(tmp_path / "finished", *words)
    train_until(3, monkeypatch, tmp_path / "unfinished", *words)
    before = task1_simplecnn.RECIPE[name]
    wanted, of_record = f"{name}: {before}, not {value}", f"its {name} is {before}, not {value}"
    monkeypatch.setattr(task1_simplecnn, "RECIPE", task1_simplecnn.RECIPE | changed)

    def refused(folder, *mode):
        with pytest.raises(SystemExit) as refusal:
            train(tmp_path / folder, *words, *mode)
        return refusal.value.code

    for mode in ([], ["--resume"]):  # neither tells to go on with what cannot go on
        told = refused("unfinished", *mode)
        assert f"is of a run with another {wanted}. {START_ANEW}" in told and "--resume" not in told
    assert f"is of a run with another {wanted}. To train it: " in refused("finished", "--test")
    assert f"of other settings: {of_record}" in refused("finished", "--resume")
    capsys.readouterr()
    train(tmp_path / "finished", *words)
    assert f"but its record cannot be used: {of_record}" in capsys.readouterr().out


def test_a_record_that_is_older_than_a_part_of_the_recipe_is_not_of_this_recipe():
    usual = parse(task2_resnet18).usual
    older = flags.older(usual)
    assert older["growth"] == 0.0 and older["optimizer"] == "Adam" and older["epochs"] == usual["epochs"]
    run = parse(task2_resnet18, "--epochs", 3)
    found = {"format": 2, "run": run.name, "config": {k: v for k, v in run.settings.items() if k != "growth"}}
    state = {"format": STATE_FORMAT, "config": dict(found["config"])}
    upgrade(state, run)
    assert state["config"]["growth"] == 0.0
    record.upgrade(found, older)
    assert record.problem_of_record(found | {"history": []}, run.name, run.settings) == "its growth is 0.0, not 0.5"


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


@pytest.mark.parametrize(("limit", "epochs"), [(None, 80), (2250, 3), (10, 1), (10, 2), (10, 3), (10, 5), (130, 7)])
def test_the_rate_of_each_epoch_is_that_of_one_cycle(limit, epochs):
    """However few its steps are; OneCycleLR itself divides by zero where the first phase has none."""
    run = parse(task1_simplecnn, "--epochs", epochs, *(["--limit", limit] if limit else []))
    steps = record.steps_of(record.images_of(run.settings)[0], run.batch_size)
    optimizer = torch.optim.SGD([torch.zeros(1)], run.lr)
    scheduler, rates = schedule_for(optimizer, run, steps), []
    assert isinstance(scheduler, torch.optim.lr_scheduler.OneCycleLR)
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        for _ in range(steps):
            optimizer.step()
            scheduler.step()
    assert rates == pytest.approx([record.rate_of(run.settings, epoch) for epoch in range(1, epochs + 1)], rel=1e-9)


@TASKS
def test_an_interrupted_run_comes_to_the_same_end(tmp_path, monkeypatch, without_pictures, task, capsys):
    words = ["--recipe", "--sample", "--limit", "100", "--epochs", "3", "--batch-size", "16"]
    whole = train(tmp_path / "whole", *words, script=task)
    for epoch in (1, 2, 3):
        train_until(epoch, monkeypatch, tmp_path / "parts", *words, *(["--resume"] if epoch > 1 else []), script=task)
    assert_same_run(whole, train(tmp_path / "parts", *words, "--resume", script=task))
    name = f"{task.DEFAULTS['task']}_recipe_batch16_epochs3_limit100_sample"
    assert whole[0]["run"] == name
    assert {it.name for it in (tmp_path / "whole" / "plots").iterdir()} == {
        f"{name}.json",
        f"{name}.png",
        f"{name}_confusion.png",
        f"{name}_mistakes.png",
        f"{task.DEFAULTS['task']}_recipe_model.png",
    }
    expected = task.RECIPE | {"recipe": True, "lr": task.RECIPE["lr"], "epochs": 3, "limit": 100, "batch_size": 16}
    assert whole[0]["config"].items() >= expected.items() and whole[0]["config"] == whole[1]["config"]

    assert record.problem_of_test(whole[0]) is None
    assert "mirror images" in record.problem_of_test(whole[0] | {"test_accuracy_mirrored": 7})

    capsys.readouterr()
    where = ["--device", "cpu", "--output-dir", str(tmp_path / "whole")]
    task.main([*words, "--resume", *where])  # the record is checked
    resumed = capsys.readouterr().out.splitlines()[-1]
    task.main([*words, "--test", *where])
    tested = capsys.readouterr().out.splitlines()[-1]
    assert resumed == tested
    assert tested.endswith(f"(with mirror images: {whole[0]['test_accuracy_mirrored']:.3f})")
    task.main([*words, "--predict", str(flags.ROOT / "lab" / "examples" / "cat.png"), *where])
    assert "cat.png: " in capsys.readouterr().out


@TASKS
def test_a_state_without_its_average_or_moments_is_refused(tmp_path, monkeypatch, without_pictures, task):
    words = ["--recipe", "--sample", "--limit", "20", "--epochs", "2"]
    train_until(2, monkeypatch, tmp_path, *words, script=task)
    (path,) = (tmp_path / "checkpoints").glob("*.last.pt")
    good = torch.load(path)
    moments = good["optimizer"]["state"]
    broken = {
        "average": {name: part for name, part in good.items() if name != "average"},
        next(iter(moments[0])): good | {"optimizer": good["optimizer"] | {"state": moments | {0: {}}}},
    }
    for missing, state in broken.items():
        torch.save(state, path)
        with pytest.raises(SystemExit) as refusal:
            train(tmp_path, *words, "--resume", script=task)
        assert f"(it has no {missing}). {START_ANEW}" in refusal.value.code


def test_a_photo_is_enlarged_as_the_images_were(tmp_path, capsys):
    run = parse(task2_resnet18, "--output-dir", tmp_path)
    torch.manual_seed(0)
    model, mean, std = task2_resnet18.ResNet18().eval(), [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]
    (tmp_path / "checkpoints").mkdir()
    config = run.settings | {"mean": mean, "std": std}
    torch.save({"model": model.state_dict(), "config": config, "epoch": 1, "val_accuracy": 0.5}, run.files.best)
    cat = flags.ROOT / "lab" / "examples" / "cat.png"
    task2_resnet18.main(["--recipe", "--device", "cpu", "--output-dir", str(tmp_path), "--predict", str(cat)])
    pixels = tv.normalize(photos.read_image(cat) / 255, mean, std)[None]

    def told(size):
        with torch.no_grad():
            likeliest = model(tv.resize(pixels, [size, size])).softmax(1)[0].topk(3)
        both = zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True)
        return f"{cat}: {', '.join(f'{common.CLASSES[number]} {probability:.1%}' for number, probability in both)}\n"

    assert capsys.readouterr().out == told(64) != told(32)


def test_images_are_normalized_by_those_that_train(official):
    run = parse(task1_simplecnn, "--data-dir", official)
    train_set, _, _ = common.load_data(run)
    pixels = train_set.images.numpy() / 255
    assert run.config["mean"] == pytest.approx(pixels.mean((0, 2, 3)).tolist(), rel=1e-6)
    assert run.config["std"] == pytest.approx(pixels.std((0, 2, 3)).tolist(), rel=1e-6)


def test_the_mirrored_accuracy_is_that_of_mean_probabilities(sample):
    run = parse(task1_simplecnn, "--sample")
    _, _, test_set = common.load_data(run)
    model = task1_simplecnn.SimpleCNN()
    model.load_state_dict(torch.load(flags.ROOT / "checkpoints" / "task1_simplecnn.pt")["model"])
    result = common.evaluate(model, test_set, run)
    pixels = (test_set.images / 255 - test_set.mean) / test_set.std
    with torch.no_grad():
        mean = (model.eval()(pixels).softmax(1) + model(tv.horizontal_flip(pixels)).softmax(1)) / 2
    mirrored = (mean.argmax(1) == test_set.labels).float().mean().item()
    assert result["test_accuracy_mirrored"] == pytest.approx(mirrored) != result["test_accuracy"]
    assert "test_accuracy_mirrored" not in common.evaluate(
        model, test_set, flags.parse("", task1_simplecnn.DEFAULTS, [])
    )


def test_the_name_tells_what_is_not_as_in_the_recipe():
    lr = task1_simplecnn.RECIPE["lr"]
    assert parse(task1_simplecnn, "--lr", lr, "--no-aug").name == "task1_simplecnn_recipe_no-aug"
    run = parse(task1_simplecnn, "--lr", 0.001, "--seed", 2)
    assert run.name == "task1_simplecnn_recipe_lr0.001_seed2"
    assert "task1_simplecnn.py --recipe --lr 0.001 --seed 2" in run.command
    assert flags.title("task2_resnet18_recipe_no-aug") == "ResNet-18, recipe, no augmentation"


def test_a_constant_rate_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        task2_resnet18.main(["--constant-lr", "--recipe", "--dry-run"])
    error = capsys.readouterr().err
    assert "--constant-lr: not allowed with argument --recipe" in error and error.count("\n") == 1


def test_a_recipe_without_normalization_or_augmentation(made_up):
    run = parse(task1_simplecnn, "--no-norm", "--no-aug")
    train_set, _, _ = common.load_data(run)
    assert run.config["mean"] == [0, 0, 0] and run.config["std"] == [1, 1, 1]
    assert common.sample_epoch(train_set, run, 1, common.TRAINING)[1] is None


def test_curves_of_one_cycle_are_not_read_as_those_of_steplr():
    """Its loss falls until the end, and its rate after every epoch."""
    run = parse(task1_simplecnn)
    rates = [record.rate_of(run.settings, epoch) for epoch in range(1, 81)]
    history = [
        {
            "epoch": epoch,
            "learning_rate": rate,
            "train_loss": 2.3 / (1 + epoch / 5),
            "train_accuracy": 0.5 + epoch / 200,
            "val_loss": 2.4 / (1 + epoch / 5),
            "val_accuracy": 0.5 + epoch / 200,
            "seconds": 1.0,
        }
        for epoch, rate in enumerate(rates, 1)
    ]
    without = {"history": history, "config": run.settings | {"warmup": 0.0}}
    assert "still falling" in {it.name for it in diagnose(without)}
    (good,) = diagnose({"history": history, "config": run.settings})
    assert good.name == "good" and "no overfitting" in good.evidence
    fallen = [*history[:-1], history[-1] | {"train_loss": 0.07}]
    (good,) = diagnose({"history": fallen, "config": run.settings})
    assert good.name == "good" and "no overfitting" not in good.evidence  # it ends at half of the validation loss

    # level from epoch 35 on, while the training loss falls from 0.29 to 0.14
    level = [it | {"val_loss": max(it["val_loss"], 0.3)} for it in history]
    assert "overfitting" in {it.name for it in diagnose(without | {"history": level})}
    assert "overfitting" not in {it.name for it in diagnose({"history": level, "config": run.settings})}
    risen = [it | {"val_loss": it["val_loss"] + 0.1 * (it["epoch"] > 70)} for it in level]
    assert "overfitting" in {it.name for it in diagnose({"history": risen, "config": run.settings})}


# ---------------------------------------------------------------- the report


def run_of(run, seed, accuracy, val_accuracy=0.85):
    config = flags.all_settings(flags.PLAIN, run.changes) | {"seed": seed}
    history = [{"epoch": 1, "val_accuracy": val_accuracy, "seconds": 120.0}]
    tested = {"test_accuracy": accuracy} | ({"test_accuracy_mirrored": accuracy + 0.01} if config["recipe"] else {})
    environment = {"from_epoch": 1, "device": "cpu", "precision": "float32", "threads": 1, "torch": "2"}
    return {"run": run.name, "config": config, "history": history, "environments": [environment]} | tested


def test_the_report_tells_all_that_a_recipe_changes():
    tasks = [(task.DEFAULTS, task.RECIPE) for task in (task1_simplecnn, task2_resnet18)]
    _, _, *rows = beyond.settings(tasks).splitlines()
    assert {name for _, recipe in tasks for name in recipe} == set(beyond.WORDS)
    assert "| batch size | 128 or 64 | 128 | 128 |" in rows
    assert "| label smoothing | none | 0.1 | 0.1 |" in rows
    assert "| validation images augmented | yes | no | no |" in rows


def test_the_report_has_both_networks_beside_the_original():
    records = {run.name: [run_of(run, 0, 0.81)] for run in (beyond.SIMPLECNN, beyond.BASELINE)}
    recipes = {run.name: [] for run in beyond.RECIPES}
    recipes["task1_simplecnn_recipe"] = [run_of(beyond.SIMPLECNN_RECIPE, seed, 0.86 + seed / 100) for seed in (0, 1)]
    rows = beyond.networks(records, recipes).splitlines()
    assert rows[0] == "| SimpleCNN, the original | 0.817 | | | |"
    assert rows[1] == "| SimpleCNN, as the original, `python task1_simplecnn.py` | **0.810** |  | 1 | 2 |"
    both = "**0.8650 ± 0.0071 (n = 2)** | 0.8750 ± 0.0071 (n = 2) | 1 | 2 |"
    assert rows[2] == f"| SimpleCNN, `python task1_simplecnn.py --recipe` | {both}"
    assert rows[7] == "| ResNet-18, `python task2_resnet18.py --recipe --epochs 10` | not run yet | | | |"


def test_ingredients_are_judged_by_the_spread_of_the_whole_recipe(tmp_path, monkeypatch):
    monkeypatch.setattr(beyond, "INGREDIENTS", tmp_path / "ingredients.json")
    whole = [run_of(beyond.SIMPLECNN_RECIPE, seed, 0, val) for seed, val in enumerate((0.88, 0.86, 0.87))]
    recipes = {beyond.SIMPLECNN_RECIPE.name: whole}
    assert beyond.ingredients(recipes) == "*(not run yet)*"
    environments = whole[0]["environments"]
    runs = [{"without": "average", "val_accuracy": 0.855, "environments": environments}]
    runs.append({"without": "lr", "val_accuracy": 0.84, "environments": environments})
    of_recipe = {"recipe": {"warmup": whole[0]["config"]["warmup"]}, "runs": runs}
    (tmp_path / "ingredients.json").write_text(json.dumps(of_recipe))
    assert beyond.ingredients({beyond.SIMPLECNN_RECIPE.name: whole[:2]}) == "*(not run yet)*"  # no yardstick
    text = beyond.ingredients(recipes)
    _, _, nothing, lr, average, _, not_yet, _, chance = text.splitlines()
    assert nothing == "| nothing | | 0.880 | |"  # with the same seed, and so on the same images
    assert lr.endswith("| the original's rate | 0.840 | +4.00, more than chance |")
    assert average.endswith("| the last weights | 0.855 | +2.50, within chance |")
    assert not_yet.startswith("Not taken away yet: a rate that rises and falls in one cycle; weight decay; label")
    assert not_yet.endswith("; no rotation; normalization by all training images.")
    runs += [runs[0] | {"without": name} for name in beyond.TAKEN_AWAY.keys() - {"average", "lr"}]
    faster = whole[0]["environments"][0] | {"threads": 7, "from_epoch": 2}
    runs[1] |= {"environments": [*environments, faster]}
    (tmp_path / "ingredients.json").write_text(json.dumps(of_recipe))
    text = beyond.ingredients(recipes)
    assert "Not taken away yet" not in text
    assert ": the whole recipe; all but *the average of the weights*; all but " in text
    assert text.endswith(": all but *a highest rate above the original's* from epoch 2 on")
    assert chance.startswith("Chance may do 2.83 points")  # 2 * 0.01 * sqrt(2)
    assert "0.8700 ± 0.0100 (n = 3)" in chance
    (tmp_path / "ingredients.json").write_text(json.dumps(of_recipe | {"recipe": {"warmup": 0.7}}))
    assert beyond.ingredients(recipes) == "*(not run yet)*"  # with this recipe


def test_the_report_tells_which_ingredients_are_not_taken_away():
    assert task1_simplecnn.RECIPE.keys() - beyond.TAKEN_AWAY == {"epochs", "optimizer", "augmented_validation"}
    assert "Not taken away are the number of epochs; AdamW, " in (flags.ROOT / "lab" / "page.md").read_text()


def test_each_ingredient_is_taken_away_and_nothing_else(made_up, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ingredients, "RUNS", tmp_path)
    monkeypatch.setattr(ingredients, "INGREDIENTS", tmp_path / "ingredients.json")
    monkeypatch.setattr(ingredients, "RECIPE", task1_simplecnn.RECIPE | {"epochs": 2})  # two averages
    ingredients.main(["--device", "cpu"])
    results = json.loads((tmp_path / "ingredients.json").read_text())["runs"]
    assert [run["without"] for run in results] == list(beyond.TAKEN_AWAY)
    whole, _ = train(tmp_path / "whole", "--recipe", "--epochs", "2")
    losses = [whole["history"][-1]["val_loss"]]
    for run in results:
        (path,) = (tmp_path / run["without"] / "plots").glob("*.json")
        found = json.loads(path.read_text())
        losses.append(found["history"][-1]["val_loss"])
        config = found["config"]
        other = {name for name, value in task1_simplecnn.RECIPE.items() if config[name] != value}
        assert other == {"epochs", run["without"]}
        plain = task1_simplecnn.DEFAULTS | flags.PLAIN
        assert config[run["without"]] == plain[run["without"]]
    assert len(set(losses)) == len(losses)  # each changes what is computed, too

    ingredients.main(["--device", "cpu"])  # trains nothing
    assert json.loads((tmp_path / "ingredients.json").read_text())["runs"] == results
    changed = task1_simplecnn.RECIPE | {"epochs": 2, "lr": 0.02}
    monkeypatch.setattr(ingredients, "RECIPE", changed)
    monkeypatch.setattr(ingredients, "TAKEN_AWAY", ["warmup"])
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        interrupt_in_epoch(patch, 2)
        ingredients.main(["--device", "cpu", "--restart"])
    assert "ingredients.py --device cpu --resume" in capsys.readouterr().err  # and not --restart as well
    with pytest.raises(SystemExit, match=r"ingredients\.py --device cpu --restart"):
        ingredients.main(["--device", "cpu"])
    steps = interrupt_in_epoch(monkeypatch, None)
    ingredients.main(["--device", "cpu", "--restart"])
    assert steps == [1, 2]
    (path,) = (tmp_path / "warmup" / "plots").glob("*.json")
    assert json.loads(path.read_text())["config"]["lr"] == 0.02
    assert json.loads((tmp_path / "ingredients.json").read_text())["recipe"] == changed
