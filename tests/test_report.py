"""The lab report rebuilt: what it says for any set of records, and what --run and --list call."""

import functools
import json
import math
import os
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

import report
from lab import commandline, settings
from lab.checkpoint import fingerprint, logits_of_one_image
from lab.files import shown
from lab.original import (
    BASELINE,
    CONSTANT,
    FIGURES,
    HIGH,
    LOW,
    LOW_CONSTANT,
    NO_AUG,
    NO_NORM,
    SIMPLECNN,
)
from lab.report import claims, comparisons
from lab.report.chance import CLOSE, STUDENT, Difference, difference, is_reproduced
from lab.report.claims import CLAIMS, resnet18_is_steady
from lab.report.pages import only_true
from lab.report.pictures import draw_comparison, draw_results, draw_silent_channels
from lab.report.runs import (
    BATCH128,
    BEFORE,
    EVIDENCE,
    GROUPS,
    INGREDIENTS,
    RECIPES,
    RUNS,
    TWO_BLOCKS,
    UNSAID,
    Results,
    conditions,
)
from task1_simplecnn import SimpleCNN

NAMES = [  # in the order of the original's figures
    "task1_simplecnn",
    "task2_resnet18",
    "task2_resnet18_no-norm",
    "task2_resnet18_no-aug",
    "task2_resnet18_lr0.01",
    "task2_resnet18_lr0.0001",
    "task2_resnet18_lr0.01_constant-lr",
    "task2_resnet18_constant-lr",
    "task2_resnet18_lr0.0001_constant-lr",
]


@functools.cache
def network_of(task, dropout):
    return fingerprint(report.TASKS[task].network(settings.Settings(dropout=dropout))) | {"logits": None}


def record_of(run, seed=0, right=800, epochs=None, train=None, val=None, val_accuracy=None, plain=0.8):
    """A record that fits together, with losses and validation accuracy as functions of the epoch."""
    train = train or (lambda epoch: 0.5 + 1.5 * math.exp(-epoch / 12))
    val = val or train
    val_accuracy = val_accuracy or (lambda epoch: math.exp(-val(epoch)))
    config = asdict(replace(report.TASKS[run.task].settings(run.changes), seed=seed))
    config |= {"epochs": epochs or config["epochs"]}
    history = [
        {
            "epoch": epoch,
            "learning_rate": config["lr"] * (1 if config["constant_lr"] else 0.5 ** ((epoch - 1) // 10)),
            "train_loss": train(epoch),
            "train_accuracy": math.exp(-train(epoch)),
            "val_loss": val(epoch),
            "val_accuracy": val_accuracy(epoch),
            "seconds": 1.5,
        }
        for epoch in range(1, config["epochs"] + 1)
    ]
    confusion = [[right if row == column else 0 for column in range(10)] for row in range(10)]
    for true in range(10):
        confusion[true][(true + 1) % 10] += 1000 - right
    network = dict(network_of(run.task, config["dropout"]))
    environment = {"device": "cpu", "cpu": None, "precision": "float32", "threads": 2, "torch": "2.14.1"}
    return {
        "format": 3,
        "run": run.name + (f"_seed{seed}" if seed else ""),
        "config": config | {"mean": [0.5] * 3, "std": [0.2] * 3, "network": network},
        "environments": [{"from_epoch": 1, **environment, "platform": "Linux"}],
        "history": history,
        "best_epoch": max(history, key=lambda epoch: epoch["val_accuracy"])["epoch"],
        "test_loss": 0.6,
        "test_accuracy": right / 1000,
        "val_accuracy_plain": plain,
        "confusion_matrix": confusion,
        "mistakes": [{"index": index, "predicted": index % 10, "probability": 0.9} for index in range(25)],
    }


def results_of(*records):
    return Results(
        Path(), {name: [it for it in records if it["run"].partition("_seed")[0] == name] for name in RUNS}, {}
    )


def conclusion(name, *records):
    return comparisons.COMPARISONS[name][1](results_of(*records))


def save(out, *records):
    (out / "plots").mkdir(exist_ok=True)
    for record in records:
        (out / "plots" / f"{record['run']}.json").write_text(json.dumps(record))


def rebuild(out, *words):
    """Run report.py here; returns its exit code (or its last words) and the page, or None."""
    code, page = 0, out / "REPORT.md"
    try:
        report.main(["--output-dir", str(out), *words])
    except SystemExit as ended:
        code = ended.code
    return code, page.read_text(encoding="utf-8") if page.exists() else None


@pytest.fixture
def without_layers(monkeypatch):
    """Leave out the summaries of the networks, which take a second a page and are the same on each."""
    monkeypatch.setattr("lab.report.pages.summary", lambda *how: ("The totals.", "The layers."))


def test_the_same_records_give_the_same_page(tmp_path):
    save(tmp_path, *(record_of(BASELINE, seed) for seed in range(4)), record_of(NO_NORM), record_of(RECIPES[0]))
    words = [ROOT / "report.py", "--output-dir", tmp_path]
    pages = []
    for folder, options in ((tmp_path, []), ("/", ["-OO"])):  # from another folder, and without docstrings
        run = subprocess.run([sys.executable, *options, *words], capture_output=True, text=True, cwd=folder)
        assert run.stderr.count("\n") == 1  # the recipe's record, whose rates are those of StepLR
        pages.append((tmp_path / "REPORT.md").read_bytes() + (tmp_path / "GUIDE.md").read_bytes())
    assert pages[0] == pages[1] and b"\r" not in pages[0]


def test_the_runs_are_the_originals():
    assert [run.name for run in FIGURES] == NAMES
    assert [run.figure for run in FIGURES] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert [run.accuracy for run in FIGURES] == [0.817, 0.853, 0.845, 0.783, 0.715, 0.796, 0.521, 0.797, 0.820]
    assert (BATCH128.name, TWO_BLOCKS.name) == ("task2_resnet18_batch128", "two_blocks")


def test_without_any_run_every_row_is_missing_and_says_how_to_fill_it(tmp_path):
    code, page = rebuild(tmp_path)
    assert code == 0 and "accuracies, we have measured none, and reproduced none." in page
    for run in FIGURES:
        told = f"**Figure {run.figure}: {run.title}.** `{run.command()} --output-dir {tmp_path}`: not trained yet"
        assert f"{told} (the original: test accuracy {run.accuracy:.3f}" in page, run
        assert f"original: {run.accuracy:.3f} (figure {run.figure})<br>not trained yet |" in page or run is SIMPLECNN
    groups = f"original batches two-blocks unsaid --output-dir {tmp_path}"
    assert page.count(f"`python report.py --run {groups}`") == page.count("--run") == 1
    assert page.count("| open |") == len(CLAIMS)
    assert (
        f"*(`python report.py --plot --output-dir {tmp_path}` draws `plots/results.png`)*" in page
        and "<img" not in page
    )
    folders = {path.name for path in tmp_path.iterdir()}
    assert folders == {"REPORT.md", "GUIDE.md", "plots"} and not any((tmp_path / "plots").iterdir())
    assert rebuild(tmp_path / "new" / "folder", "--plot")[0] == 0


def test_seeds_are_averaged_and_compared_with_the_original(tmp_path):
    rights = {0: 850, 1: 846, 2: 857, 11: 841}
    save(tmp_path, *(record_of(BASELINE, seed, right) for seed, right in rights.items()), record_of(NO_NORM, 3, 849))
    code, page = rebuild(tmp_path, "--plot")
    accuracies = [right / 1000 for right in rights.values()]
    mean, deviation = statistics.fmean(accuracies), statistics.stdev(accuracies)
    ours = f"{mean:.4f} ± {deviation:.4f} (n = 4)"
    chance = 3.18 * deviation * math.sqrt(1 + 1 / 4)  # s is that of these four seeds, t that of 3 degrees of freedom
    difference = f"{mean - 0.853:+.4f}, within chance (±{chance:.3f})"
    cell = f"ours: **{ours}**<br>{difference}<br>validation loss up and down by 0.0 % (median of all epochs) |"
    assert code == 0 and cell in page
    there = "(the original: test accuracy 0.853, loss 0.464)"
    assert f" test accuracy 0.850, loss 0.600 {there}; best epoch " in page and f"This is seed 0, of 4: {ours}." in page
    s = f"{deviation:.4f}"
    assert f"- ResNet-18: s = {s}, with 3 degrees of freedom, pooled over the seeds of ResNet-18 ({s})\n" in page
    assert f"| 2, ResNet-18 baseline | 0.853 | **{ours}** | {difference} | yes |" in page
    assert f"`python task2_resnet18.py --no-norm --seed 3 --output-dir {tmp_path}`" in page
    assert "accuracies, we have measured two, and reproduced two." in page
    save(tmp_path, record_of(NO_AUG, 0, 830))
    page = rebuild(tmp_path)[1]
    assert re.search(r"^\| 4, .* \| 0\.783 \| \*\*0\.830\*\* \| \+0\.0470, more than .* \| no \|$", page, re.MULTILINE)
    assert "accuracies, we have measured three, and reproduced two." in page
    assert Image.open(tmp_path / "plots" / "results.png").size == (1259, 640)  # 16 cm at 200 dpi
    results = report.collect(tmp_path, report.TASKS)
    assert [record["config"]["seed"] for record in results[BASELINE]] == [0, 1, 2, 11]


def spoiled(change):
    record = record_of(BASELINE, 1, 100)
    change(record)
    return json.dumps(record)


BAD = {
    "": "it is cut short, or no JSON",
    "\udcff": "it is cut short, or no JSON",
    spoiled(lambda it: it.update(format=2)): "its format is not 3",
    spoiled(lambda it: it.update(run="task2_resnet18")): "it is of the run task2_resnet18",
    spoiled(lambda it: it["config"].update(weight_decay=0.5)): "it is of a run with another weight_decay: 0.5, not ",
    spoiled(lambda it: it["config"].update(patience=10)): "it is of a run with another patience: 10, not None",
    spoiled(
        lambda it: it["config"]["network"].update(parameters=11_181_643)
    ): "ResNet18 has been changed since: then it",
    spoiled(
        lambda it: it["config"]["network"].update(printed="0")
    ): "ResNet18 has been changed since: then it had other",
    spoiled(lambda it: it["history"].pop()): "its history has 79 of 80 epochs",
    spoiled(lambda it: it["history"][4].update(image_size=64)): "in its history, the image size of epoch 5 is not",
    spoiled(lambda it: it["environments"][0].update(from_epoch=81)): "its environments are not those of its epochs",
    spoiled(lambda it: it["environments"].extend(2 * it["environments"])): "its environments are not those of its",
    spoiled(lambda it: it.update(best_epoch=1)): "its best epoch is not the best of its history",
    spoiled(lambda it: it.update(test_accuracy=0.9)): "its test accuracy is not that of its confusion matrix",
    spoiled(lambda it: it["confusion_matrix"][3].pop()): "its test accuracy is not that of its confusion matrix",
    spoiled(lambda it: it.update(test_accuracy_mirrored="0.9")): "its test_accuracy_mirrored is missing or of another",
}


@pytest.mark.parametrize("content", BAD)
def test_a_record_that_cannot_be_used_is_named_and_not_averaged_in(tmp_path, without_layers, content):
    save(tmp_path, record_of(BASELINE, 0, 850))
    (tmp_path / "plots" / "task2_resnet18_seed1.json").write_bytes(content.encode(errors="surrogateescape"))
    told, page = rebuild(tmp_path)
    name, reason = told.removeprefix("Left out: ").split(": ", 1)
    assert name == shown(tmp_path / "plots/task2_resnet18_seed1.json") and reason.startswith(BAD[content])
    assert reason.endswith(". To train this run again, remove the file.") and "\n" not in told
    assert f"- `plots/task2_resnet18_seed1.json`: {reason}" in page and "ours: **0.850**<br>" in page


def test_every_command_of_a_page_names_its_folder(tmp_path):
    """But for those of the flags that it explains."""
    save(tmp_path, record_of(NO_NORM, 3))
    commands = re.findall(r"`(python \S+\.py.*?)`", rebuild(tmp_path)[1])
    assert len(commands) >= 3 and all(it.endswith(f" --output-dir {tmp_path}") for it in commands)
    assert {it.split()[1] for it in commands} == {"report.py", NO_NORM.script, SIMPLECNN.script}
    own = Results(ROOT / "my runs", {}, {})
    assert own.command(NO_NORM, "--resume") == "python task2_resnet18.py --no-norm --resume --output-dir 'my runs'"
    assert Results(ROOT, {}, {}).command(NO_NORM) == "python task2_resnet18.py --no-norm"


def test_a_paragraph_that_interprets_other_records_is_left_out():
    results = results_of(record_of(BASELINE), record_of(BASELINE, 1), record_of(NO_NORM))
    digest = results.digest(BASELINE.name, NO_NORM.name)
    template = f"A.\n\n<!-- on {digest}: {BASELINE.name} {NO_NORM.name} -->\nB.\n\nC.\n<!-- -->\n\nD.\n"
    assert only_true(template, results) == "A.\n\nB.\n\nC.\n\nD.\n"
    others = (
        [record_of(BASELINE), record_of(NO_NORM)],
        [record_of(BASELINE), record_of(BASELINE, 1, 801), record_of(NO_NORM)],
    )
    for records in others:
        assert only_true(template, results_of(*records)) == "A.\n\n\nD.\n"


def places_in(value, place=()):
    """The keys that lead to each value inside, of a list to its first."""
    items = value.items() if isinstance(value, dict) else [*enumerate(value)][:1] if isinstance(value, list) else []
    for key, inner in items:
        yield from ((*place, key), *places_in(inner, (*place, key)))


WRONG = None, "32", [1], {}, True, -1, math.nan, 10**400
OPTIONAL = {"cpu", "precision", "silent_channels", "test_accuracy_mirrored", "val_accuracy_plain"}
UNUSED = {("config", "network", "logits"), ("silent_channels", "bn1")}


def test_a_wrong_kind_of_value_anywhere_in_a_record_is_named(tmp_path, without_layers):
    """By the report, which leaves the record out, and by --compare, which takes a run of any settings."""
    good = record_of(BASELINE, 0, 850) | {"test_accuracy_mirrored": 0.8, "silent_channels": {"bn1": 0.1}}
    good["environments"][0]["cpu"], spoiled = "EPYC", []
    (tmp_path / "plots").mkdir()
    for *place, key in places_in(good):
        for wrong in WRONG:
            record = json.loads(json.dumps(good))
            record["run"] = name = f"task2_resnet18_seed{len(spoiled) + 1}"
            record["config"]["seed"] = len(spoiled) + 1
            inner = functools.reduce(lambda it, step: it[step], place, record)
            was, inner[key] = inner[key], wrong
            right = was is wrong or (wrong is None and key in OPTIONAL) or (*place, key) in UNUSED
            if not right and not (type(was) is type(wrong) and type(was) in (str, list, dict, bool)):
                (tmp_path / "plots" / f"{name}.json").write_text(json.dumps(record))
                spoiled.append(name)
    save(tmp_path, good)
    told, page = rebuild(tmp_path)
    assert {Path(line.split(": ")[1]).stem for line in told.splitlines()} == {*spoiled} and len(spoiled) > 300
    assert "ours: **0.850**<br>" in page
    for name in spoiled:
        with pytest.raises(SystemExit, match=rf"{name}\.json cannot be used: "):
            report.main(["--compare", name, "--output-dir", str(tmp_path)])


@pytest.mark.parametrize(
    ("name", "value"), [("batch_size", 0), ("batch_size", 1), ("optimizer", "Adamw"), ("growth", 2)]
)
def test_a_setting_out_of_its_range_is_named(tmp_path, name, value):
    record = record_of(BASELINE)
    record["config"][name] = value
    save(tmp_path, record)
    with pytest.raises(SystemExit, match=f"cannot be used: its {name} is of another kind, or out of range"):
        report.main(["--compare", record["run"], "--output-dir", str(tmp_path)])


def test_a_record_that_an_editor_of_windows_has_saved_is_read(tmp_path, without_layers):
    save(tmp_path, record_of(BASELINE, right=850))
    path = tmp_path / "plots" / "task2_resnet18.json"
    path.write_text(path.read_text(), encoding="utf-8-sig")
    code, page = rebuild(tmp_path)
    assert code == 0 and "ours: **0.850**<br>" in page


@pytest.mark.parametrize("weights", ["of another forward", "damaged", "of another run", "of this network"])
def test_a_record_whose_weights_compute_something_else_now_is_not_averaged_in(tmp_path, without_layers, weights):
    """Where only ``forward`` has changed, the printed form is the same; without weights, nobody can tell."""
    model, record = SimpleCNN(), record_of(SIMPLECNN, 1, 100)
    record["config"]["network"]["logits"] = logits_of_one_image(model, 32)
    model.fc.bias.data += weights in ("of another forward", "of another run")
    save(tmp_path, record_of(SIMPLECNN, 0, 850), record)
    (tmp_path / "checkpoints").mkdir()
    best = {"model": model.state_dict(), "config": record["config"]}
    torch.save(best, path := tmp_path / "checkpoints" / "task1_simplecnn_seed1.pt")
    if weights == "of another run":
        torch.save(best | {"config": {}}, path)
    if weights == "damaged":
        path.write_bytes(path.read_bytes()[:1000])
    told, page = rebuild(tmp_path)
    if weights == "of another forward":
        name = shown(tmp_path / "plots/task1_simplecnn_seed1.json")
        changed = "SimpleCNN has been changed since: with the same weights, it computed something else then."
        assert told == f"Left out: {name}: {changed} To train this run again, remove the file."
        assert "**0.850**" in page
    else:
        assert told == 0 and "**0.4750 ± " in page


def test_a_network_of_lazy_layers_is_known_again(tmp_path):
    def lazy(settings):
        return nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(10))

    network, record = lazy(None), record_of(SIMPLECNN)
    network(torch.zeros(1, 3, 32, 32))
    record["config"]["network"] = fingerprint(network)
    save(tmp_path, record)
    tasks = report.TASKS | {"task1_simplecnn": report.TASKS["task1_simplecnn"]._replace(network=lazy)}
    assert len(report.collect(tmp_path, tasks)[SIMPLECNN]) == 1


def test_runs_of_other_settings_are_no_runs_of_the_report(tmp_path, without_layers):
    (tmp_path / "plots").mkdir()
    for name in ("_epochs3", "_no-norm_no-aug", "_seed0", "_seed01", "_seed", "_seed1_limit100", "x"):
        (tmp_path / "plots" / f"task2_resnet18{name}.json").write_text("{")
    assert rebuild(tmp_path)[0] == 0


def test_the_picture_of_results_shows_the_records(tmp_path, without_layers):
    """Each accuracy at its place; and --plot draws what is on disk."""
    rights = {run.name: 700 + 10 * run.figure for run in FIGURES if run is not LOW}
    made = [record_of(run, right=rights[run.name]) for run in FIGURES if run is not LOW]
    draw_results(figure := Figure(), results_of(*made))
    (axes,) = figure.axes
    drawn = {line.get_marker(): line.get_xydata().tolist() for line in axes.lines}
    assert drawn["o"] == [[rights[run.name] / 1000, row + 0.16] for row, run in enumerate(FIGURES) if run is not LOW]
    assert drawn["D"] == [[run.accuracy, row - 0.16] for row, run in enumerate(FIGURES)]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [f"Figure {run.figure}: {run.title}" for run in FIGURES] and axes.yaxis_inverted()

    save(tmp_path, *made)
    pictures = []
    for change in (0, 90):
        save(tmp_path, record_of(BASELINE, right=800 + change))
        assert rebuild(tmp_path, "--plot")[0] == 0
        pictures.append((tmp_path / "plots" / "results.png").read_bytes())
    assert pictures[0] != pictures[1]


def test_the_bars_are_what_chance_may_do():
    seeds = [record_of(BASELINE, seed, right) for seed, right in ((0, 840), (1, 850), (2, 860))]
    draw_results(figure := Figure(), results_of(*seeds))
    (axes,) = figure.axes
    (bar,) = [lines for lines in axes.collections if isinstance(lines, LineCollection)]
    (left, row), (right, same_row) = bar.get_segments()[0]
    chance = 4.30 * 0.01 * math.sqrt(1 / 3 + 1)
    assert (left, right, row, same_row) == pytest.approx((0.85 - chance, 0.85 + chance, 1.16, 1.16))


def test_the_worst_pair_is_that_of_the_confusion_matrix(tmp_path, without_layers):
    record = record_of(SIMPLECNN)
    for true, guess, images in ((3, 5, 150), (5, 3, 100)):
        record["confusion_matrix"][true][guess] += images
        record["confusion_matrix"][true][true] -= images
    record["test_accuracy"] = 0.775
    save(tmp_path, record)
    sentence = (
        "It most often confuses cat and dog: 150 of 1,000 images of class cat are taken for class dog, and 100 of "
        "1,000 the other way round. That is 11 % of all 2,250 errors."
    )
    assert sentence in rebuild(tmp_path)[1]


# ---------------------------------------------------------------- comparisons


@pytest.mark.parametrize(
    ("right", "difference"),
    [
        (838, "+0.0120, more than chance (±0.011)"),
        (840, "+0.0100, within chance (±0.011)"),
        (862, "-0.0120, more than chance (±0.011)"),
    ],
)
def test_a_conclusion_is_drawn_from_the_numbers_with_the_seeds_as_yardstick(
    tmp_path, without_layers, right, difference
):
    """The ablation loses, ties, or wins: t s √(1 + 1/3), with s = 0.004 and t = 2.45 for six degrees, is 0.0113."""
    seeds = [record_of(run, seed, of) for run in (BASELINE, LOW, CONSTANT) for seed, of in enumerate((846, 850, 854))]
    save(tmp_path, *seeds, record_of(NO_NORM, right=right))
    page = rebuild(tmp_path)[1]
    means = f"0.8500 ± 0.0040 (n = 3) with it, {right / 1000:.3f} without"
    original = "In the original, by +0.0080, within chance (±0.014)."
    conclusion = f"**Conclusion.** Normalization changes the test accuracy by {difference}: {means}. {original} Early"
    assert f"{conclusion} training is not clearly steadier" in page


def test_one_seed_is_held_against_the_spread_that_others_report(tmp_path, without_layers):
    """Seeds of other kinds of runs say nothing of it."""
    save(tmp_path, record_of(BASELINE, right=850), record_of(NO_NORM, right=841))
    save(tmp_path, *(record_of(run, seed, 700 + seed) for seed in range(3) for run in (SIMPLECNN, HIGH)))
    page = rebuild(tmp_path)[1]
    kinds = "ResNet-18; SimpleCNN, recipe; ResNet-18, recipe"
    assert f"- {kinds}: s = 0.0035, with 49 degrees of freedom, that of [50 runs of a ResNet on CIFAR-10](" in page
    assert "Normalization changes the test accuracy by +0.0090, within chance (±0.010)" in page
    assert "In the original, by +0.0080, within chance (±0.010)" in page


def test_seeds_that_agree_by_luck_are_not_believed(tmp_path, without_layers):
    save(tmp_path, *(record_of(SIMPLECNN, seed) for seed in range(3)))
    told = "s = 0.0030, with 2 degrees of freedom, pooled over the seeds of SimpleCNN (0.0000), but taken to be no less"
    assert f"- SimpleCNN: {told} than 0.003\n" in rebuild(tmp_path)[1]


def test_between_two_kinds_of_runs_each_has_its_own_spread():
    high = [record_of(HIGH, seed, right) for seed, right in enumerate((700, 740))]
    baseline = [record_of(BASELINE, seed, right) for seed, right in enumerate((846, 850, 854))]
    variances = statistics.variance((0.7, 0.74)) / 2 + statistics.variance((0.846, 0.85, 0.854)) / 3
    found = difference(results_of(*high, *baseline), BASELINE, HIGH)
    assert found == pytest.approx((0.13, 12.71 * math.sqrt(variances)))  # t for one degree of freedom


def test_t_is_students():
    """Twice the area between 0 and t below the density is 0.95."""
    for free, t in enumerate(STUDENT, 1):
        scale = math.gamma((free + 1) / 2) / (math.sqrt(free * math.pi) * math.gamma(free / 2))
        step = t / 10_000
        middles = (step * (number + 0.5) for number in range(10_000))
        area = sum(scale * (1 + x * x / free) ** (-(free + 1) / 2) for x in middles) * step
        assert 2 * area == pytest.approx(0.95, abs=5e-4)


@pytest.mark.parametrize(
    ("gain", "chance", "same"),
    [(0.82 - 0.808, 0.001, True), (-0.013, 0.014, True), (0.013, 0.012, False), (0.02, 0.031, False)],
)
def test_what_is_near_the_original_or_within_a_narrow_chance_is_reproduced(gain, chance, same):
    assert is_reproduced(Difference(gain, chance)) is same


def test_no_difference_is_written_without_a_minus():
    assert str(Difference(-0.00004, 0.001)) == "+0.0000, within chance (±0.001)"


def test_a_difference_has_more_digits_than_the_limit_that_it_is_just_above():
    it = Difference(CLOSE + 0.0004, 0.011)
    assert not is_reproduced(it) and float(str(it).partition(",")[0]) > CLOSE


@pytest.mark.parametrize(
    ("with_", "without", "verdict"),
    [
        ((0.01, 0.012, 0.02), 0.04, "is steadier"),
        ((0.01, 0.012, 0.045), 0.04, "is not clearly steadier"),  # one of its seeds is rougher
        ((0.039, 0.039, 0.039), 0.04, "is not clearly steadier"),  # by too little
        ((0.04, 0.05, 0.06), 0.01, "is not clearly steadier"),
    ],
)
def test_what_is_said_of_steadiness_holds_for_all_seeds(with_, without, verdict):
    baseline = [record_of(BASELINE, seed, val=rough(to(0.5), swing)) for seed, swing in enumerate(with_)]
    text = conclusion("normalization", *baseline, record_of(NO_NORM, val=rough(to(0.5), without)))
    assert f" Early training {verdict} with it: in the first 20 epochs, " in text
    accuracy = {0.04: "9.0 %", 0.01: "2.3 %"}[without]
    assert re.search(rf" without; the validation accuracy by .* % and {accuracy}\. \(\*Clearly\* ", text)


def test_what_is_said_of_augmentation_follows_the_numbers():
    text = conclusion("augmentation", record_of(BASELINE), record_of(NO_AUG))
    assert "It does not keep the network from learning its images by heart" in text
    overfit = record_of(NO_AUG, train=to(0.02, 6), val=over(0.7, 8, 0.02)) | {"test_loss": 1.97}
    text = conclusion("augmentation", record_of(BASELINE), overfit)
    assert "It keeps the network from learning its images by heart" in text and " 0.02 and 1.97 without." in text
    for other in (record_of(NO_AUG) | {"test_loss": 1.97}, overfit | {"test_loss": 0.2}):  # one of the two alone
        assert "It does not keep the network from" in conclusion("augmentation", record_of(BASELINE), other)


def test_what_is_said_of_learning_rates_follows_the_numbers():
    others = [record_of(run, right=round(1000 * run.accuracy)) for run in FIGURES[:-1]]
    text = conclusion("learning_rate", *others, record_of(LOW_CONSTANT, right=820))
    assert text.startswith("The best is ResNet-18 baseline, with 0.853; within chance of it: none of the others.")
    assert " by +0.1940, more than chance (±0.010), at 0.01 (in the original, by +0.194)" in text
    assert "; by +0.0560, more than chance (±0.010), at 0.001 (in the original, by +0.056)" in text
    assert "; by -0.0240, more than chance (±0.010), at 0.0001 (in the original, by -0.024)." in text
    text = conclusion("learning_rate", *others, record_of(LOW_CONSTANT, right=860))
    assert text.startswith("The best is Constant LR 0.0001, with 0.860; within chance of it: ResNet-18 baseline. ")


def test_how_rough_a_curve_is_is_told_of_all_seeds(tmp_path, without_layers):
    save(tmp_path, *(record_of(HIGH, seed, val=rough(to(0.5), 0.09 + seed / 200)) for seed in range(2)))
    assert "<br>validation loss up and down by 18.0 to 19.0 % (median of all epochs) |" in rebuild(tmp_path)[1]


def test_the_third_block_is_held_against_chance():
    """Which is that of the runs with two blocks, too."""
    three = [record_of(SIMPLECNN, seed, 810 + seed) for seed in range(3)]

    def against(*rights):
        return conclusion("two_blocks", *three, *(record_of(TWO_BLOCKS, *it) for it in enumerate(rights)))

    text = against(750, 801, 780)
    assert text.startswith("The third block changes the test accuracy by +0.0340, within chance (±0.041): 0.8110 ± ")
    assert text.endswith(" 0.7770 ± 0.0256 (n = 3) without. Without it, 1 of 3 runs get above 80 %.")
    assert against(750, 760, 770).endswith("Without it, 0 of 3 runs get above 80 %.")


def test_what_two_settings_do_is_shown_in_all_combinations(tmp_path, without_layers):
    save(tmp_path, *(record_of(run, right=500 + number, epochs=20) for number, run in enumerate(EVIDENCE)))
    save(tmp_path, record_of(HIGH, right=700), *(record_of(BEFORE[4], seed, 830 + seed) for seed in range(2)))
    save(tmp_path, record_of(BASELINE, right=850), record_of(BEFORE[1], right=840))
    page = rebuild(tmp_path)[1]
    highest = f"({math.exp(-0.5 - 1.5 * math.exp(-20 / 12)):.3f})"
    for number, which in enumerate(UNSAID):
        low = f"0.{500 + number} {highest}" if number < 4 else "not run"
        assert f"| {which} | {low} | 0.{504 + number} {highest} |\n" in page
    two = "0.8305 ± 0.0007 (n = 2): +0.1155, more than chance (±0.009) | 0.700: -0.0150, more than chance (±0.010)"
    assert f"| 5, Step LR with initial value 0.01 | 0.715 | {two} |\n" in page
    chance = "{}, {} chance (±0.010)".format
    two = f"0.840: {chance('-0.0130', 'more than')} | 0.850: {chance('-0.0030', 'within')}"
    assert f"| 2, ResNet-18 baseline | 0.853 | {two} |\n" in page
    assert "| 9, Constant LR 0.0001 | 0.820 | not trained yet | not trained yet |\n" in page


def test_the_runs_of_before_are_the_originals_with_the_settings_of_before():
    for run, before in zip((*FIGURES, BATCH128), BEFORE, strict=True):
        task = report.TASKS[run.task]
        he = {} if run is SIMPLECNN else {"first_weights": "he"}
        assert task.settings(before.changes) == replace(task.settings(run.changes), weight_decay=0.0, **he)


def test_silent_channels_are_drawn_from_the_records(tmp_path, without_layers):
    silent = {"bn1": 0.25, "layer2.0.downsample.1": 0.5}
    runs = [record_of(run) | {"silent_channels": dict(silent)} for run in (HIGH, BASELINE, LOW)]
    runs[0]["silent_channels"]["bn1"] = 1.0
    draw_silent_channels(figure := Figure(), runs)
    (axes,) = figure.axes
    assert [line.get_ydata().tolist() for line in axes.lines] == [[1.0, 0.5], [0.25, 0.5], [0.25, 0.5]]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["bn1", "layer2.0.shortcut"]
    picture = tmp_path / "plots" / "silent_channels.png"
    save(tmp_path, record_of(HIGH), *runs[1:])  # one was trained before this was measured
    code, page = rebuild(tmp_path, "--plot")
    assert code == 0 and not picture.exists() and '<img src="plots/silent_channels.png"' not in page
    save(tmp_path, runs[0])
    assert '<img src="plots/silent_channels.png"' in rebuild(tmp_path, "--plot")[1] and picture.exists()


def test_each_run_is_told_with_its_conditions_and_those_of_its_epochs():
    first, second = record_of(BASELINE), record_of(NO_NORM, 1) | {"code": "0123456789-dirty"}
    first["environments"].append(first["environments"][0] | {"from_epoch": 31, "threads": 1, "cpu": "EPYC"})
    first["environments"].append(first["environments"][1] | {"from_epoch": 41, "threads": 2})
    second["environments"][0] |= {"precision": "bfloat16", "device": "cuda (H200)"}
    *rows, ingredient, before = conditions(
        results_of(record_of(BEFORE[1]), first, second, record_of(INGREDIENTS[1]))
    ).splitlines()
    assert rows == [
        "| `task2_resnet18` | 0.8000 | not recorded, EPYC (from epoch 31 on), torch 2.14.1 | float32 | "
        "2, 1 (from epoch 31 on), 2 (from epoch 41 on) | 2 | not recorded |",
        "| `task2_resnet18_no-norm_seed1` | 0.8000 | cuda (H200), torch 2.14.1 | bfloat16 | 2 | 2 | 0123456-dirty |",
    ]
    assert f"`{INGREDIENTS[1].name}`" in ingredient and f"`{BEFORE[1].name}`" in before


def test_the_tables_of_the_recipes_are_those_of_the_scripts_and_of_the_records():
    tasks = [report.TASKS[name] for name in ("task1_simplecnn", "task2_resnet18")]
    rows = {line.split("`")[1]: line.split(" | ")[2:] for line in comparisons.changed_settings(tasks).splitlines()}
    assert rows["--lr"] == ["0.001", "0.001", "0.01", "0.1 |"]
    changed = tasks[0].recipe.changes(tasks[0].task) | tasks[1].recipe.changes(tasks[1].task)
    assert rows.keys() == {settings.option(name) for name in changed} - {"--recipe"}
    recipe = [record_of(RECIPES[1], seed, 900 + seed) for seed in range(2)]
    for record, seconds, mirrored in zip(recipe, (150, 300), (0.91, 0.92), strict=True):
        record["test_accuracy_mirrored"] = mirrored
        record["history"] = [epoch | {"seconds": seconds} for epoch in record["history"]]
    cells = comparisons.row(results_of(*recipe), RECIPES[1])
    numbers = "**0.9005 ± 0.0007 (n = 2)** | 0.9150 ± 0.0071 (n = 2) | 28 | 70 to 140 |"
    assert cells == f"`python task2_resnet18.py --recipe` | {numbers}"


def test_the_pictures_of_comparisons_show_the_curves_of_their_runs(tmp_path, without_layers):
    records = [record_of(run, train=to(0.1 * run.figure), val=to(0.11 * run.figure)) for run in FIGURES]
    titled = [(f"run {run.figure}", record) for run, record in zip(FIGURES, records, strict=True)]
    rows = [titled[2:4], titled[4:7]]
    draw_comparison(figure := Figure(), rows)
    for row, part in zip(rows, figure.subfigs, strict=True):
        (legend,) = part.legends
        assert [text.get_text() for text in legend.get_texts()] == [f"{title} (0.800)" for title, _ in row]
        for axes, metric in zip(part.axes, ("loss", "accuracy"), strict=True):
            drawn = [list(line.get_ydata()) for line in axes.lines]
            assert drawn == [
                [it[f"{of}_{metric}"] for it in record["history"]] for _, record in row for of in ("train", "val")
            ]
            assert len({line.get_color() for line in axes.lines}) == len(row)
            assert axes.get_xlim() == (0, 81) and axes.get_ylim() == ((0, 2.5) if metric == "loss" else (0.1, 1))

    for loss, lowest in ((0.5, 0.3), (1.5, 0.2)):  # in training; the accuracies are 0.61 and 0.22
        record = record_of(BASELINE, train=lambda _, loss=loss: loss, val_accuracy=lambda epoch: 0.31 + epoch / 1000)
        draw_comparison(figure := Figure(), [[("run", record)]])
        assert figure.axes[1].get_ylim() == (lowest, 1)  # where nothing lies below
        assert figure.axes[1].get_ylabel() == f"accuracy, from {lowest} on"

    save(tmp_path, *records[:4])
    assert rebuild(tmp_path, "--plot")[0] == 0
    names = {path.name for path in (tmp_path / "plots").glob("*.png")}
    assert names == {"results.png", "minutes.png", "compare_normalization.png", "compare_augmentation.png"}
    pages = (page := rebuild(tmp_path)[1]) + (tmp_path / "GUIDE.md").read_text(encoding="utf-8")
    assert all(f'<img src="plots/{name}"' in pages for name in names)
    assert page.count("\n\n*(not trained yet)*\n\n") == 3  # learning rates, two blocks, batch size


def test_the_pictures_of_comparisons_name_the_figures_of_the_original(tmp_path, monkeypatch, without_layers):
    drawn = []
    monkeypatch.setattr(report, "draw_comparison", lambda figure, rows: drawn.extend(rows))
    save(tmp_path, *(record_of(run) for run in (BASELINE, NO_NORM, SIMPLECNN, TWO_BLOCKS)))
    assert rebuild(tmp_path, "--plot")[0] == 0
    assert [[(title, record["run"]) for title, record in row] for row in drawn] == [
        [
            ("Figure 2: ResNet-18 baseline", "task2_resnet18"),
            ("Figure 3: Without data normalization", "task2_resnet18_no-norm"),
        ],
        [("Figure 1: SimpleCNN", "task1_simplecnn"), ("SimpleCNN with two blocks", "two_blocks")],
    ]


def test_a_last_gain_is_told_by_the_medians_that_decide_it():
    """Around epoch 16, where 0.5 is lowest, the median of five is 0.53; of the ten from there on, it is 0.57."""
    measured, holds = claims.high_constant_stands_still(record_of(FIGURES[6], val=over(0.5, 16, 0.015)))
    assert holds and measured.startswith("last clear gain: epoch 16 (median loss 0.53); later 0.57 at its lowest, up ")


def test_compare_draws_any_runs(tmp_path, capsys, monkeypatch):
    """Those of --output-dir by their names, any others by the paths of their records."""
    save(tmp_path, record_of(NO_AUG, 3), record_of(SIMPLECNN, epochs=5) | {"run": "task1_simplecnn_epochs5"})
    (other := tmp_path / "other").mkdir()
    save(other, record_of(NO_AUG, 3, right=750))
    assert rebuild(tmp_path / "new", "--compare", str(other / "plots" / "task2_resnet18_no-aug_seed3.json"))[0] == 0
    assert [path.name for path in (tmp_path / "new" / "plots").iterdir()] == ["compare.png"]
    shutil.rmtree(tmp_path / "new")
    capsys.readouterr()
    drawn = []
    monkeypatch.setattr(report, "draw_comparison", lambda figure, rows: drawn.extend(rows))
    name, path = "task2_resnet18_no-aug_seed3", other / "plots" / "task2_resnet18_no-aug_seed3.json"
    assert rebuild(tmp_path, "--compare", name, "task1_simplecnn_epochs5", name, str(path))[0] == 0
    ((*records,),) = drawn
    assert [(title, record["run"], record["test_accuracy"]) for title, record in records] == [
        ("ResNet-18, no augmentation, seed 3", name, 0.8),
        ("SimpleCNN, 5 epochs", "task1_simplecnn_epochs5", 0.8),
        ("ResNet-18, no augmentation, seed 3", name, 0.75),
    ]
    head, *lines, written = capsys.readouterr().out.splitlines()
    assert written == f"Written: {shown(tmp_path / 'plots' / 'compare.png')}"
    resnet18, cnn = (network_of(of.task, rate)["printed"][:4] for of, rate in ((BASELINE, 0), (SIMPLECNN, 0.5)))
    resnet18 = f"80 of 80        2  ResNet18 (11,181,642 parameters, layers {resnet18})"
    resnet18 += " --no-aug --batch-size 64 --dropout 0 --epochs 80 --seed 3"
    simplecnn = f"5 of 5        0  SimpleCNN (114,186 parameters, layers {cnn})"
    simplecnn += " --batch-size 128 --dropout 0.5 --epochs 5 --seed 0"
    assert [head, *lines] == [
        "run                            val   test  best epoch  minutes  differs in",
        f"task2_resnet18_no-aug_seed3  0.605  0.800    {resnet18}",
        f"task1_simplecnn_epochs5      0.226  0.800      {simplecnn}",
        f"task2_resnet18_no-aug_seed3  0.605  0.750    {resnet18}",
    ]
    assert {path.name for path in tmp_path.iterdir()} == {"plots", "other"}  # no page
    (tmp_path / "plots" / "task2_resnet18.json").write_text("{")
    for name, error in {
        "task2_resnet18": r".*task2_resnet18\.json cannot be used: it is cut short, or no JSON\.",
        "task2_resnet_no-aug": r"There is no .*\.json\. Did you mean task2_resnet18_no-aug_seed3\? Without a .*",
        "x": r"There is no .*x\.json\. Without a name, --compare lists all runs\.",
    }.items():
        assert re.fullmatch(error, rebuild(tmp_path, "--compare", name)[0])


def test_compare_without_names_lists_the_runs_that_are_there(tmp_path, capsys):
    assert rebuild(tmp_path, "--compare")[0] == f"There is no run in {shown(tmp_path / 'plots')}."
    for run, best in ((BASELINE, 0.79), (NO_AUG, 0.8), (SIMPLECNN, 0.78)):
        save(tmp_path, record_of(run, val_accuracy=lambda epoch, best=best: best - 0.001 * (80 - epoch)))
    (tmp_path / "plots" / "x.json").write_text("[]")
    told, page = rebuild(tmp_path, "--compare")
    assert told.startswith(f"{shown(tmp_path / 'plots' / 'x.json')} cannot be used: ") and page is None
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["run", "val", "test", "best", "epoch", "minutes"]
    assert [line.split()[:2] for line in lines] == [
        [BASELINE.name, "0.790"],
        [SIMPLECNN.name, "0.780"],
        [NO_AUG.name, "0.800"],
    ]
    assert lines[-1].endswith("  validation images not augmented")
    assert not (tmp_path / "plots" / "compare.png").exists()
    looked = record_of(SIMPLECNN, val_accuracy=lambda epoch: 0.9)
    looked["config"]["limit"], looked["run"] = 1000, "task1_simplecnn_limit1000"
    save(tmp_path, looked)
    rebuild(tmp_path, "--compare")
    *_, last, _ = capsys.readouterr().out.splitlines()
    assert last.endswith("  a quick look")
    (tmp_path / "plots" / "x.json").unlink()
    rebuild(tmp_path)
    there = f"--compare --output-dir {tmp_path} lists them"
    told = f"Not of the report's runs, and so not in it: task1_simplecnn_limit1000 ({there})\n"
    assert capsys.readouterr().out.endswith(told)


# ---------------------------------------------------------------- the claims


def to(end, pace=12):
    return lambda epoch: end + (2 - end) * math.exp(-epoch / pace)


def rough(loss, swing):
    return lambda epoch: loss(epoch) * (1 + swing * (-1) ** epoch)


def over(low, turn, rise):
    """A validation loss that falls until ``turn`` and then rises by ``rise`` an epoch."""
    return lambda epoch: low + max(0.1 * (turn - epoch), rise * (epoch - turn))


GOOD, OVERFIT = to(0.5), {"train": to(0.02, 6), "val": over(0.7, 8, 0.02), "val_accuracy": lambda epoch: 0.77}
HOLDS = {
    "simplecnn_is_steady": [{}],
    "resnet18_is_steady": [{}],
    "validation_stays_behind": [{"train": to(0.1), "val": over(0.5, 20, 0.001)}],
    "test_is_easier": [{"right": 800, "val_accuracy": lambda epoch: 0.76}] * 2,
    "normalization_steadies": [{"val": rough(GOOD, 0.02)}, {"val": rough(GOOD, 0.06)}],
    "loss_stops_falling": [OVERFIT],
    "training_alone_gets_good": [OVERFIT],
    "higher_rate_is_rougher": [{"val": rough(GOOD, swing)} for swing in (0.06, 0.08, 0.03)],
    "low_rate_stops_early": [{"train": to(0.6)}, {"train": to(0.3)}],
    "high_constant_fails": [{"train": to(1.4, 4)}],
    "high_constant_stands_still": [{"train": to(0.1), "val": over(0.5, 16, 0.001)}],
    "constant_stands_still": [{"train": to(0.1), "val": over(0.5, 40, 0.001)}],
    "low_constant_is_slow": [
        {"val_accuracy": lambda epoch: 0.8 - 0.01 * max(0, 40 - epoch)},
        {"val_accuracy": lambda epoch: 0.82 - 0.01 * max(0, 20 - epoch)},
    ],
    "reaches_85": [{"right": 850}],
}
FAILS = {  # an example for each condition of a claim
    "simplecnn_is_steady": [[OVERFIT]],
    "resnet18_is_steady": [[{"val": rough(GOOD, 0.1)}]],
    "validation_stays_behind": [[{}]],
    "test_is_easier": [
        [{"val_accuracy": lambda epoch: 0.76, "plain": plain} for plain in (0.8, 0.77)],
        [{"val_accuracy": lambda epoch: 0.76, "right": right} for right in (800, 770)],
    ],
    "normalization_steadies": [
        [{"val": rough(GOOD, 0.05)}, {"val": rough(GOOD, 0.05)}],
        [{"val": rough(GOOD, 0.02)}, {"val": rough(GOOD, 0.06), "val_accuracy": lambda epoch: math.exp(-GOOD(epoch))}],
    ],
    "loss_stops_falling": [[{"val": over(0.7, 30, 0.02)}], [{"val": over(0.7, 8, 0.001)}]],
    "training_alone_gets_good": [
        [OVERFIT | {"val_accuracy": lambda epoch: 0.81}],
        [{"val_accuracy": lambda epoch: 0.77}],
    ],
    "higher_rate_is_rougher": [[{"val": rough(GOOD, swing)} for swing in (0.06, 0.03, 0.04)]],
    "low_rate_stops_early": [[{"train": to(0.3)}, {"train": to(0.3)}]],
    "high_constant_fails": [[{}]],
    "high_constant_stands_still": [[{"train": to(0.1), "val": over(0.5, 40, 0.001)}]],
    "constant_stands_still": [[{"train": to(0.1), "val": over(0.5, 10, 0.001)}]],
    "low_constant_is_slow": [HOLDS["low_constant_is_slow"][::-1]],
    "reaches_85": [[{"right": 849}]],
}


def test_a_run_is_as_steady_as_its_roughest_ten_epochs():
    early = record_of(BASELINE, val=lambda epoch: 0.5 * (1 + 0.05 * (-1) ** epoch * (epoch <= 12)))
    measured = "validation loss up and down: 10.0 % in its roughest 10 epochs (limit: 7.0 %)"
    assert resnet18_is_steady(early) == (measured, False)


@pytest.mark.parametrize(("claim", "runs", "check"), CLAIMS)
def test_a_claim_holds_or_not(tmp_path, without_layers, claim, runs, check):
    for made, holds in [(HOLDS[check.__name__], True), *((made, False) for made in FAILS[check.__name__])]:
        records = [record_of(run, **how) for run, how in zip(runs, made, strict=True)]
        measured, verdict = check(*records)
        assert verdict is holds, measured
        save(tmp_path, *records)
        figures = ", ".join(str(run.figure) for run in runs)
        verdict = "holds (one seed)" if holds else "not confirmed (one seed)"
        assert f"| {claim} | {figures} | {verdict} | {measured} |" in rebuild(tmp_path)[1]
        assert len(measured.split()) <= 20


def test_what_was_not_measured_confirms_nothing():
    records = [record_of(BASELINE, val_accuracy=lambda epoch: 0.76, plain=plain) for plain in (0.8, None)]
    measured, verdict = claims.test_is_easier(*records)
    assert measured.endswith("unaugmented: +0.040 and +nan") and verdict is False


def test_a_claim_is_checked_with_every_seed_that_all_its_runs_have(tmp_path, without_layers):
    save(tmp_path, *(record_of(BASELINE, seed, val=rough(GOOD, 0.02)) for seed in range(4)))
    swings = enumerate((0.06, 0.02, 0.06))
    save(tmp_path, *(record_of(NO_NORM, seed, val=rough(GOOD, swing)) for seed, swing in swings))
    row, folded = [line for line in rebuild(tmp_path)[1].splitlines() if "Normalization makes early" in line]
    assert "| holds with 2 of 3 seeds |" in row and re.findall(r"\*Seed (\d)", folded) == ["0", "1", "2"]
    save(tmp_path, *(record_of(NO_NORM, seed, val=rough(GOOD, 0.02)) for seed in range(3)))
    assert "Normalization makes early training steadier. | 2, 3 | not confirmed (3 seeds) |" in rebuild(tmp_path)[1]


# ---------------------------------------------------------------- --list and --run


def listed(out, capsys, *words):
    """The runs that the scripts understand when they get the commands that --list prints."""
    assert rebuild(out, "--list", *words) == (0, None)
    runs = []
    for line in capsys.readouterr().out.splitlines():
        python, script, *flags = shlex.split(line)
        assert os.path.samefile(python, sys.executable) and os.path.isfile(script)
        task = report.TASKS[Path(script).stem]
        runs.append(commandline.parse(script, "", task.task, task.recipe, flags))
    return runs


def test_list_prints_commands_that_the_scripts_understand(tmp_path, capsys):
    save(tmp_path, record_of(SIMPLECNN), record_of(BASELINE, 5))
    words = ["--seeds", "5", "0", "5", "--device", "cpu", "--data-dir", str(tmp_path / "the data")]
    runs = listed(tmp_path, capsys, *words)
    assert all(run.mode == "resume" and run.output_dir == tmp_path for run in runs)
    assert all(run.data_dir == tmp_path / "the data" and run.device.type == "cpu" for run in runs)
    assert [run.name for run in runs] == [f"{name}_seed5" for name in NAMES if name != "task2_resnet18"] + NAMES[1:]


@pytest.mark.parametrize("group", GROUPS)
def test_list_names_the_runs_of_a_group(tmp_path, capsys, group):
    """Each is what its title says: a run of the report, with its settings."""
    runs = listed(tmp_path, capsys, group)
    assert [run.name for run in runs] == [run.name for run in GROUPS[group]]
    for run in runs:
        assert run.settings == report.TASKS[run.task].settings(RUNS[run.name].changes)
    assert [run.script.parent.name for run in listed(tmp_path, capsys, "two-blocks")] == ["experiments"]


def test_list_takes_names_and_groups_and_lists_no_run_twice(tmp_path, capsys):
    names = [run.name for run in listed(tmp_path, capsys, NAMES[2], "two-blocks", "original")]
    assert names == [NAMES[2], "two_blocks", *NAMES[:2], *NAMES[3:]]


def test_a_run_without_an_ingredient_has_the_plain_setting_in_its_place():
    for run in GROUPS["ingredients"]:
        task = report.TASKS[run.task]
        lacks = {name for name in run.changes if name not in ("recipe", "epochs")}
        assert lacks == {"image_size", "growth"} or len(lacks) == 1
        for name in lacks:
            plain = getattr(task.task, name), getattr(settings.Settings(), name)
            assert run.changes[name] in plain and run.changes[name] != getattr(task.recipe, name)


def test_list_passes_on_what_cuts_runs_short(tmp_path, capsys):
    """The names are those that the scripts make of it; a value that is the default is no part of them."""
    words = ["--epochs", "3", "--limit", "100", "--seeds", "1"]
    names = [run.name for run in listed(tmp_path, capsys, *words)]
    assert names == [f"{name}_epochs3_seed1_limit100" for name in NAMES]
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / f"{names[0]}.json").touch()
    assert [run.name for run in listed(tmp_path, capsys, *words)] == names[1:]
    assert listed(tmp_path, capsys, "--epochs", "80", "--limit", "100")[0].name == "task1_simplecnn_limit100"
    assert listed(tmp_path, capsys, RECIPES[1].name, "--epochs", "28")[0].name == "task2_resnet18_recipe"
    (whole,) = listed(tmp_path, capsys, EVIDENCE[0].name, "--epochs", "80")
    save(tmp_path, record_of(RUNS[whole.name]))
    assert whole.settings.epochs == 80 and not listed(tmp_path, capsys, EVIDENCE[0].name, "--epochs", "80")


def test_pages_can_be_written_to_another_drive(tmp_path, without_layers, monkeypatch):
    """Of Windows, where no relative path leads there."""

    def relpath(path, start=os.curdir):
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr("lab.files.os.path.relpath", relpath)
    code, page = rebuild(tmp_path)
    assert code == 0 and f"]({ROOT.as_posix()}/benchmarks/README.md)" in page and str(tmp_path) in page


@pytest.mark.parametrize("words", ["", "--compare"])
def test_a_folder_of_data_that_cannot_be_is_no_matter_where_nothing_is_trained(
    tmp_path, without_layers, monkeypatch, words
):
    save(tmp_path, record_of(BASELINE))
    monkeypatch.setenv("CIFAR10_DIR", "~no such user/data")
    assert rebuild(tmp_path, *words.split())[0] == 0
    assert rebuild(tmp_path, "--list")[0] == 2  # in one line, where it matters


def test_list_names_a_run_that_was_stopped_inside_its_last_files(tmp_path, capsys):
    """It has a record then, and still its state. A record that cannot be used is left alone, and told."""
    for folder, file in (("plots", "task1_simplecnn.json"), ("checkpoints", "task1_simplecnn.last.pt")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).touch()
    told = f"Left out: {shown(tmp_path / 'plots' / 'task1_simplecnn.json')}: it is cut short, or no JSON."
    assert rebuild(tmp_path, "--list")[0].startswith(told)
    assert "task1_simplecnn.py" in capsys.readouterr().out
    (tmp_path / "checkpoints" / "task1_simplecnn.last.pt").unlink()
    assert rebuild(tmp_path, "--list")[0].startswith(told)
    assert "task1_simplecnn.py" not in capsys.readouterr().out


def test_list_names_the_data_in_full_also_where_they_are_not(tmp_path, capsys, monkeypatch):
    """So that no machine that a scheduler chooses, in whatever folder, goes on with the sample."""
    monkeypatch.chdir(tmp_path)
    assert {run.data_dir for run in listed(tmp_path, capsys, "--data-dir", "x")} == {tmp_path / "x"}
    monkeypatch.setenv("CIFAR10_DIR", "y")
    assert {run.data_dir for run in listed(tmp_path, capsys)} == {tmp_path / "y"}
    monkeypatch.setattr(report.cifar10, "find", lambda given: tmp_path / "nowhere")
    assert {run.data_dir for run in listed(tmp_path, capsys)} == {tmp_path / "nowhere"}


def test_run_and_list_say_so_when_nothing_is_missing(tmp_path, monkeypatch, capsys, without_layers):
    monkeypatch.setattr(report, "train", lambda command: pytest.fail("trained"))
    monkeypatch.setattr(report.cifar10, "download", lambda directory: pytest.fail("looked for data"))
    save(tmp_path, *map(record_of, FIGURES))
    code, page = rebuild(tmp_path, "--run")
    assert code == 0 and "accuracies, we have measured nine" in page
    capsys.readouterr()
    assert rebuild(tmp_path, "--list")[0] == 0
    told = r"Nothing to train: .*plots has a record of each of these runs\. Another --output-dir gets its own\.\n"
    out, err = capsys.readouterr()
    assert re.fullmatch(told, err) and not out


def test_run_writes_the_page_and_its_pictures_after_each_run(tmp_path, monkeypatch, without_layers):
    seen = []

    def train(command):
        seen.append(re.search(r"we have measured (\w+),", (tmp_path / "REPORT.md").read_text())[1])
        seen.append((tmp_path / "plots" / "results.png").exists())
        save(tmp_path, record_of((SIMPLECNN, BASELINE)[len(seen) // 2 - 1]))
        return 0

    monkeypatch.setattr(report, "train", train)
    monkeypatch.setattr(report.cifar10, "download", lambda directory: None)
    assert rebuild(tmp_path, "--run", SIMPLECNN.name, BASELINE.name)[0] == 0
    assert seen == ["none", True, "one", True] and "we have measured two," in (tmp_path / "REPORT.md").read_text()


def test_run_looks_for_the_data_first(tmp_path, monkeypatch, without_layers):
    def nothing(directory):
        raise SystemExit(f"no data in {directory}")

    monkeypatch.setattr(report.cifar10, "download", nothing)
    monkeypatch.setattr(report, "train", lambda command: pytest.fail("trained"))
    assert rebuild(tmp_path, "--run", "--data-dir", str(tmp_path))[0] == f"no data in {tmp_path}"


@pytest.mark.parametrize(
    "words",
    [
        "--seeds 1",
        "--device cpu",
        "--data-dir x",
        "--epochs 3",
        "--list --limit 1",
        "--run --list",
        "--list --plot",
        "--compare x --plot",
        "--compare x --run",
        "--compare 1 2 3 4 5 6 7 8 9 10 11",
        "--run --seeds x",
        "--run --seeds -1",
        "--list ingredient",
        "--run task1_simplecnn_epochs3",
        "x",
    ],
)
def test_wrong_flags_are_refused_in_one_line(tmp_path, capsys, words):
    assert rebuild(tmp_path, *words.split()) == (2, None)
    assert re.fullmatch(r".*: error: .*\n", capsys.readouterr().err)


def test_an_unknown_run_is_refused_with_the_groups_that_there_are(tmp_path, capsys):
    assert rebuild(tmp_path, "--list", "original", "ingredient")[0] == 2
    told = "there is no run or group ingredient; groups: original, batches, two-blocks, recipe, ingredients, unsaid; "
    assert told in capsys.readouterr().err


def test_a_page_that_cannot_be_written_is_told(tmp_path, capsys, without_layers):
    (tmp_path / "REPORT.md").mkdir()
    with pytest.raises(SystemExit) as ended:
        report.main(["--output-dir", str(tmp_path)])
    assert ended.value.code == 1
    assert re.fullmatch(r"Is a directory: .*REPORT\.md\.\n", capsys.readouterr().err)


@pytest.fixture
def project(tmp_path):
    """A copy of the project whose runs have two epochs on few made-up images, so that a whole one takes seconds."""
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copytree(ROOT / "lab", folder / "lab")
    shutil.copytree(ROOT / "experiments", folder / "experiments")
    for path in ROOT.glob("*.py"):
        shutil.copy(path, folder)
    replace_in(folder / "lab" / "settings.py", 'setting(80, "epochs{}"', 'setting(2, "epochs{}"')
    with open(folder / "lab" / "cifar10.py", "a") as file:
        file.write(
            "\n\ndef find(given=None):\n    return ROOT\n"
            "\n\ndef download(directory):\n    pass\n"
            "\n\ndef load(directory, train):\n"
            "    labels = torch.arange(200 if train else 100) % 10\n"
            "    ramp = torch.arange(1024).view(1, 1, 32, 32) % 60\n"
            "    return (20 * labels.view(-1, 1, 1, 1) + ramp).expand(-1, 3, 32, 32).to(torch.uint8), labels\n"
        )
    save(folder, *(record_of(run, epochs=2) for run in FIGURES if run not in (SIMPLECNN, NO_NORM, LOW)))
    (folder / "checkpoints").mkdir()
    return folder


def replace_in(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_run_trains_what_is_missing_goes_on_and_tells_what_failed(project):
    (project / "checkpoints" / "task2_resnet18_no-norm.last.pt").write_text("no checkpoint")
    planted = [sys.executable, ROOT / "tests" / "planted.py", "SIGKILL", "named", "task2_resnet18_lr0.0001.last.pt"]
    script = [project / "task2_resnet18.py", "--lr", "0.0001", "--device", "cpu"]
    subprocess.run([*planted, "2", *script], capture_output=True)  # the first is written before the first epoch
    assert (project / "checkpoints" / "task2_resnet18_lr0.0001.last.pt").exists()

    command = [sys.executable, project / "report.py", "--run", "--device", "cpu"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=project)
    reason, *_, failed = run.stderr.splitlines()
    assert run.returncode == 1
    command = r"\S+ \S+task2_resnet18\.py --no-norm --data-dir \S+ --device cpu --resume"
    assert re.fullmatch(f"Failed with exit code 1: {command}", failed)
    assert reason.startswith("checkpoints/task2_resnet18_no-norm.last.pt cannot be used: it is damaged")
    assert "Run 3 of 3" in run.stdout and run.stdout.count("Test accuracy") == 2
    assert re.findall(r"^Epoch +(\d)/2 ", run.stdout, re.MULTILINE) == ["1", "2", "2"]
    page = (project / "REPORT.md").read_text()
    assert "accuracies, we have measured eight" in page
    assert "figure 3)<br>not trained yet |" in page


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
@pytest.mark.parametrize(("number", "whole_group"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_a_signal_ends_the_run_and_its_script(project, number, whole_group):
    replace_in(project / "lab" / "settings.py", 'setting(2, "epochs{}"', 'setting(100000, "epochs{}"')
    command = [sys.executable, project / "report.py", "--run", "--device", "cpu"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        for line in process.stdout:
            if line.startswith("Epoch  2"):
                break
        (os.killpg if whole_group else os.kill)(process.pid, number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    *_, first, last = errors.splitlines()
    assert re.match(r"Interrupted\. \S+task1_simplecnn\.last\.pt has all that was saved\. To go on: ", first)
    assert last == "Interrupted. To go on, give the same command again."
    assert sorted(path.name for path in (project / "checkpoints").iterdir()) == ["task1_simplecnn.last.pt"]
