"""The reading of learning curves: on made curves, each with one thing wrong or none, and on the curves of real runs.

``tests/curves`` has the curves of 20 runs, to five digits. They are no records: the runs in ``plots`` may change.
"""

import copy
import json
import math
import random
import re
from dataclasses import asdict, fields
from itertools import chain
from pathlib import Path

import pytest

from lab.curves import levels_off_at
from lab.diagnosis import (
    CUT_SHORT,
    GOOD,
    NO_CONVERGENCE,
    NOTHING_LEARNED,
    OSCILLATION,
    OVERFITTING,
    PLATEAU,
    QUICK_LOOK,
    RULES,
    STILL_FALLING,
    TEST_BETTER,
    TOO_SHORT,
    UNDERFITTING,
    VALIDATION_BETTER,
    diagnose,
    print_reading,
)
from lab.schedule import images_of, rate_of, size_of, steps_of
from lab.settings import Settings, option


def history_of(settings, columns):
    """The history of a run with these metrics."""
    steps, rows = steps_of(images_of(settings)[0], settings.batch_size), zip(*columns.values(), strict=True)
    return [
        {"epoch": epoch, "learning_rate": rate_of(settings, steps * (epoch - 1), steps)}
        | dict(zip(columns, row, strict=True))
        for epoch, row in enumerate(rows, 1)
    ]


def real(run):
    """The record of a real run, as far as it is read here."""
    record = json.loads((Path(__file__).with_name("curves") / f"{run}.json").read_text())
    return record | {"history": history_of(Settings(**record["config"]), record["curves"])}


def curves(train, val=None, epochs=80, noise=0.01):
    """A history whose losses are functions of the epoch, with the noise of a real validation loss."""
    generator = random.Random(0)
    history = []
    for epoch in range(1, epochs + 1):
        train_loss = train(epoch)
        val_loss = (val or train)(epoch) * (1 + noise * generator.uniform(-1, 1))
        metrics = {"epoch": epoch, "learning_rate": 0.001, "train_loss": train_loss, "val_loss": val_loss}
        history.append(metrics | {"train_accuracy": math.exp(-train_loss), "val_accuracy": math.exp(-val_loss)})
    return history


def record_of(history, test_accuracy=0.0, **settings):
    """The record of a run with this history, whose settings are the usual ones but for these."""
    config = asdict(Settings(**{"epochs": len(history)} | settings))
    return {"history": history, "config": config, "test_accuracy": test_accuracy}


def read(history, **how):
    """What is found, by its rule."""
    return {finding.rule: finding for finding in diagnose(record_of(history, **how))}


def faults(history, **how):
    """The rules that are found, of those that say what is wrong."""
    return [rule for rule in read(history, **how) if rule.advice]


def falling(start, end, pace):
    """A loss that falls from ``start`` to ``end``, quickly at first."""
    return lambda epoch: end + (start - end) * math.exp(-epoch / pace)


def zigzag(epoch):
    return falling(2, 0.45, 12)(epoch) * (1.15 if epoch % 2 else 0.85)


REAL = {
    # It falls steeply, then levels off from epoch 45 or so; both curves are smooth, and validation is even the better.
    # But they level off at a height: this network could learn more. The test star is above both curves.
    "task1_simplecnn": [GOOD, UNDERFITTING, PLATEAU, VALIDATION_BETTER, TEST_BETTER],
    # The same, but its accuracy never stands still for ten epochs, so that stopping early is no question.
    "task1_simplecnn_seed1": [GOOD, UNDERFITTING, VALIDATION_BETTER, TEST_BETTER],
    # As seed 0. It falls a little less evenly at first, but does not jump about.
    "task1_simplecnn_seed2": [GOOD, UNDERFITTING, PLATEAU, VALIDATION_BETTER, TEST_BETTER],
    # Smooth as well. But from epoch 25 or 30 on validation stands at 0.6, and training goes on to 0.3: it overfits,
    # mildly, for validation does not get worse. Its accuracy still gains a little, up to epoch 75. The test star is
    # a little above validation.
    "task2_resnet18": [GOOD, OVERFITTING, TEST_BETTER],
    # The other seeds, too; validation of the last is a little rougher at first.
    "task2_resnet18_seed1": [GOOD, OVERFITTING, TEST_BETTER],
    "task2_resnet18_seed2": [GOOD, OVERFITTING, TEST_BETTER],
    # For ten epochs validation jumps about. Then it is as smooth as the baseline's, and overfits as that does; to the
    # eye, its accuracy gains nothing after epoch 40.
    "task2_resnet18_no-norm": [OSCILLATION, OVERFITTING, PLATEAU, TEST_BETTER],
    # Overfits, as badly as one can: validation turns in epoch 7 or so and more than doubles, training goes to zero.
    # Accuracy creeps up all the same, to epoch 55, so that stopping early would be wrong. The star is on the curve.
    "task2_resnet18_no-aug": [OVERFITTING],
    # Falls smoothly, but for a kink in epoch 8, and a step down where the rate is halved first. From epoch 33 on
    # validation stands still; training goes on to 0.31. It overfits as the baseline does; accuracy creeps up a little.
    "task2_resnet18_lr0.01": [GOOD, OVERFITTING, TEST_BETTER],
    # A kink in epoch 8, else it falls as smoothly as the baseline, only more slowly. From epoch 50 on validation stands
    # still, and is a little restless; training goes on to 0.32. It overfits mildly, and nothing comes after epoch 52.
    "task2_resnet18_lr0.01_constant-lr": [GOOD, OVERFITTING, PLATEAU, TEST_BETTER],
    # Much as the constant rate of 0.01, and as restless. From epoch 38 on validation stands at 0.6, at the end a little
    # above; training goes on to 0.26. One lucky epoch, 50, is the best in loss and accuracy: nothing comes after it.
    "task2_resnet18_constant-lr": [GOOD, OVERFITTING, PLATEAU, TEST_BETTER],
    # Very smooth, with a step down at the first two halvings. From epoch 30 on nothing moves: validation stands at 0.8,
    # training at 0.55, which is twice as high as in the other runs. The rate is too low by then to get any further.
    "task2_resnet18_lr0.0001": [GOOD, UNDERFITTING, PLATEAU, TEST_BETTER],
    # Smooth, and training falls and falls, to 0.29. Validation is lowest around epoch 45, and then rises slowly, by a
    # seventh, while its accuracy stays. It overfits, more than at the higher rates.
    "task2_resnet18_lr0.0001_constant-lr": [OVERFITTING, PLATEAU, TEST_BETTER],
    # As the baseline, but a little higher: from epoch 21 on validation stands at 0.62; training goes on to 0.27. Its
    # accuracy gains next to nothing after epoch 50.
    "task2_resnet18_batch128": [GOOD, OVERFITTING, PLATEAU, TEST_BETTER],
    # Very smooth, with a shoulder from epoch 11 to 16, as the rate rises to its highest. Training falls until the end,
    # validation hardly any more in the last fifteen epochs; they meet in epoch 71. Validation never rises.
    "task1_simplecnn_recipe": [GOOD, VALIDATION_BETTER],
    # The other seeds look the same; the shoulder is flatter.
    "task1_simplecnn_recipe_seed1": [GOOD, VALIDATION_BETTER],
    "task1_simplecnn_recipe_seed2": [GOOD, VALIDATION_BETTER],
    # Smooth, and validation is below training until both meet in the last epoch.
    "task1_simplecnn_recipe_epochs10": [GOOD, VALIDATION_BETTER],
    # At 64x64, validation falls smoothly, and at the end hardly any more; training goes on, to two thirds of it. Before
    # that, with each new size, there is a jump.
    "task2_resnet18_recipe": [GOOD, VALIDATION_BETTER],
    # Six epochs at 64x64.
    "task2_resnet18_recipe_epochs10": [TOO_SHORT],
}
GOOD_LOSS = falling(2, 0.4, 9)
HEALTHY = curves(GOOD_LOSS, epochs=50)
CYCLE = {"warmup": 0.2, "epochs": 80}
MADE = {  # for each rule that says what is wrong: a history in which nothing else is, and the settings of its run
    TOO_SHORT: (curves(GOOD_LOSS, zigzag, epochs=9), {}),
    NOTHING_LEARNED: (curves(falling(2.35, 2.3, 2), epochs=30), {}),
    QUICK_LOOK: (HEALTHY, {"limit": 3000}),
    CUT_SHORT: (HEALTHY, CYCLE),
    OSCILLATION: (curves(GOOD_LOSS, zigzag, epochs=50), {}),
    STILL_FALLING: (curves(falling(2, 0.3, 40), epochs=40), {}),
    NO_CONVERGENCE: (curves(falling(2.2, 1.4, 4), epochs=32), {}),
    OVERFITTING: (curves(falling(2, 0.05, 12), lambda epoch: max(falling(2, 0.3, 12)(epoch), 0.7), epochs=32), {}),
    UNDERFITTING: (curves(falling(2, 0.6, 5), epochs=32), {}),
    PLATEAU: (curves(falling(2, 0.4, 5), epochs=80), {}),
}


def made(rule, **settings):
    """What is found in the made curve of a rule, with more settings."""
    history, usual = MADE[rule]
    return read(history, **usual | settings)


# ---------------------------------------------------------------- the list


@pytest.mark.parametrize("rule", MADE, ids=lambda rule: rule.name)
def test_each_trouble_alone_is_found_and_nothing_else(rule):
    history, settings = MADE[rule]
    assert faults(history, **settings) == [rule]
    finding = made(rule)[rule]
    assert finding.evidence.endswith(".") and any(character.isdigit() for character in finding.evidence)
    assert finding.advice == rule.advice


@pytest.mark.parametrize(("run", "expected"), REAL.items())
def test_real_curves_are_read_as_their_picture_looks(run, expected):
    assert [finding.rule for finding in diagnose(real(run))] == expected


def test_every_rule_is_found_in_some_curve():
    assert MADE.keys() == {rule for rule in RULES if rule.advice}
    assert {*MADE, *chain(*REAL.values())} == {*RULES}


def test_a_rule_gives_way_only_to_rules_before_it():
    assert len({rule.name for rule in RULES}) == len(RULES)
    for number, rule in enumerate(RULES):
        assert {*rule.unless} <= {*RULES[:number]}, rule.name


def test_texts_name_only_flags_that_there_are():
    flags = {option(setting.name): setting.name for setting in fields(Settings)}
    for rule in RULES:
        assert rule.exceptions.keys() <= {*flags.values()}
        text = " ".join([rule.sign, rule.advice, *rule.exceptions.values()])
        assert {*re.findall(r"--[a-z\d-]+", text)} <= flags.keys(), rule.name
        assert all(sentence.endswith(".") for sentence in [rule.sign, *filter(None, [rule.advice])])


def test_findings_do_not_contradict_each_other():
    """On prefixes of real runs, and on made ones, whose losses may turn, level off or learn nothing at all."""
    prefixes = [real(run)["history"][:epochs] for run in REAL for epochs in range(10, 81, 3)]
    generator = random.Random(3)
    for _ in range(200):
        start, end, pace = generator.uniform(1, 2.4), generator.uniform(0, 1), generator.uniform(2, 40)
        floor, rise = generator.uniform(0, 2), generator.choice([0, 0, 0.01, 0.05])
        turn, train = generator.randrange(5, 40), falling(start, end, pace)
        val = lambda epoch: max(train(epoch), floor) + rise * max(0, epoch - turn)  # noqa: B023, E731
        epochs, noise = generator.randrange(10, 80), generator.choice([0.005, 0.02])
        prefixes.append(curves(train, val, epochs=epochs, noise=noise))
        rises = lambda epoch: train(epoch) + 0.02 * max(0, epoch - turn)  # noqa: B023, E731
        prefixes.append(curves(rises, val, epochs=epochs, noise=noise))
    seen = set()
    for history, settings in [*((it, {}) for it in prefixes), *((it, CYCLE) for it in prefixes[::5])]:
        found = read(history, **settings)
        seen |= found.keys()
        for one, others in (
            (STILL_FALLING, {NO_CONVERGENCE, OVERFITTING, UNDERFITTING, PLATEAU}),
            (NO_CONVERGENCE, {OVERFITTING, UNDERFITTING, PLATEAU, GOOD}),
            (OVERFITTING, {UNDERFITTING}),
            (CUT_SHORT, {GOOD}),
        ):
            assert not (one in found and others & found.keys()), found
        if GOOD in found:
            good = found[GOOD].evidence.lower()
            assert not ("steady" in good and OSCILLATION in found)
            assert not ("no overfitting" in good and OVERFITTING in found)
            assert not ("levelled off" in good and found.keys() & {OSCILLATION, OVERFITTING, STILL_FALLING})
        if "hardly moved: " in (overfitting := str(found.get(OVERFITTING))):
            then, lowest, end = map(float, re.findall(r"(?:moved: |then, |\), )(\d+\.\d+)", overfitting))
            assert lowest <= then and end <= 1.2 * lowest + 0.01, overfitting
    assert seen >= {STILL_FALLING, NO_CONVERGENCE, OVERFITTING, UNDERFITTING, PLATEAU, GOOD, CUT_SHORT}


def test_reading_changes_nothing_and_no_numbers_are_too_odd():
    generator = random.Random(1)
    for epochs in range(1, 60):
        scale = generator.choice([0, 1e-12, 1, 1e12])
        history = curves(lambda epoch: scale * generator.random(), epochs=epochs)  # noqa: B023
        if epochs % 3 == 0:
            for metrics in history:
                metrics |= {"val_loss": 0.0, "val_accuracy": 1.0}
        record = record_of(history)
        before = copy.deepcopy(record)
        assert diagnose(record)
        assert record == before


def test_what_is_printed_fits_eighty_columns(capsys):
    print_reading(real("task1_simplecnn"))
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    starts = ["Good", "Underfitting", "Plateau", "Validation better than training", "Test better than validation"]
    assert re.findall(r"^(\w[\w ]*): ", printed, re.MULTILINE) == starts
    assert printed.count("The network could learn more.") == 1
    print_reading(record_of(HEALTHY[:3]))
    assert capsys.readouterr().out.startswith("Too short to read: 3 of at least 10 epochs. Train for more --epochs")


# ---------------------------------------------------------------- one trouble


@pytest.mark.parametrize("epochs", [1, 2, 9])
def test_a_short_history_is_not_read(epochs):
    assert [*read(curves(GOOD_LOSS, zigzag, epochs=epochs))] == [TOO_SHORT]
    assert TOO_SHORT not in read(curves(GOOD_LOSS, epochs=10))


@pytest.mark.parametrize("few", [{"limit": 3000}, {"sample": True}, {"sample": True, "limit": 2000}])
def test_a_quick_look_is_not_praised(few):
    assert [*read(HEALTHY, **few)] == [QUICK_LOOK]
    assert faults(MADE[PLATEAU][0], **few) == [QUICK_LOOK]
    found = made(OVERFITTING, **few)
    assert [*found] == [QUICK_LOOK, OVERFITTING]
    assert found[OVERFITTING].advice == ""  # nothing else is to be changed yet, and more images are its cure:
    assert "Train on all images" in found[QUICK_LOOK].advice and "overfitting" in found[QUICK_LOOK].advice
    rough = lambda epoch: GOOD_LOSS(epoch) * (1.05 if epoch % 2 else 0.95)  # noqa: E731  # as chance on 300 images
    assert faults(curves(GOOD_LOSS, rough, epochs=50)) == [OSCILLATION]
    assert faults(curves(GOOD_LOSS, rough, epochs=50), **few) == [QUICK_LOOK]
    assert faults(HEALTHY, limit=30_000) == []
    assert made(STILL_FALLING, **few)[STILL_FALLING].advice == ""


def test_one_wild_epoch_is_no_oscillation_and_hides_nothing():
    history = copy.deepcopy(HEALTHY)
    history[30]["val_loss"] *= 1.3
    assert faults(history) == []
    history = copy.deepcopy(MADE[OVERFITTING][0])
    history[25]["val_loss"] *= 0.5
    assert faults(history) == [OVERFITTING]


def test_a_loss_that_has_turned_is_not_still_falling():
    """As after ten epochs of the run without augmentation: its lowest was in epoch 5, the tenth is 0.17 above it."""
    history = real("task2_resnet18_no-aug")["history"][:10]
    assert faults(history) == [OVERFITTING]
    assert "lowest in epoch 5: 0.80" in read(history)[OVERFITTING].evidence
    val = [2.0, 1.6, 1.2, 0.9, 0.7, 0.6, 0.55, 0.5, 0.62, 0.65]
    assert faults(curves(falling(2, 0.3, 5), lambda epoch: val[epoch - 1], epochs=10)) == [OVERFITTING]


def test_a_loss_that_rises_again_is_no_convergence():
    rises = lambda epoch: 0.7 + 0.03 * abs(epoch - 12)  # noqa: E731
    assert NO_CONVERGENCE in faults(curves(rises, epochs=30))
    assert faults(curves(rises, epochs=60)) == [NO_CONVERGENCE]  # what has failed is not told to stop early
    settles = lambda epoch: falling(2, 0.5, 3)(epoch) if epoch <= 12 else 0.9  # noqa: E731
    assert faults(curves(settles, epochs=40)) == [NO_CONVERGENCE]  # nor to begin with a higher rate


def test_what_stands_still_for_a_short_time_or_in_validation_alone_may_yet_converge():
    assert faults(MADE[NO_CONVERGENCE][0][:20]) == []
    stuck = curves(falling(2.3, 1.2, 15), lambda epoch: max(falling(2.3, 1, 4)(epoch), 1.7), epochs=40)
    assert faults(stuck) == [OVERFITTING, PLATEAU]


def test_a_training_loss_that_goes_on_falling_is_no_underfitting():
    assert faults(curves(lambda epoch: 0.99**epoch, lambda epoch: 0.9, epochs=14)) == []


def test_several_troubles_are_all_told():
    val = [
        0.8 - 0.02 * epoch if epoch <= 10 else 0.6 + 0.02 * (epoch - 10) * (1.6 if epoch % 2 else 1)
        for epoch in range(80)
    ]
    found = faults(curves(falling(2, 0.02, 10), val.__getitem__, epochs=79))
    assert found == [OSCILLATION, OVERFITTING, PLATEAU]


# ---------------------------------------------------------------- what is said


def test_the_evidence_is_that_of_the_curve():
    history = curves(falling(2, 0.02, 10), lambda epoch: 0.6 + abs(epoch - 20) * 0.03, epochs=30, noise=0)
    assert read(history)[OVERFITTING].evidence == (
        f"The validation loss was lowest in epoch 20: 0.60, with a training loss of {history[19]['train_loss']:.2f}. "
        f"At the end they are 0.90 and {history[-1]['train_loss']:.2f}."
    )
    stands = "The training loss stands still at 0.60, with a training accuracy of 0.548."
    assert made(UNDERFITTING)[UNDERFITTING].evidence == stands
    falls = curves(lambda epoch: 2 - 0.02 * epoch, epochs=40, noise=0)
    was = "The median validation loss was 1.34 in epochs 31 to 35, and is 1.24 in the last 5."
    assert read(falls)[STILL_FALLING].evidence == was
    stopped = "--patience 10 would have stopped after epoch 51, 29 epochs earlier, with "
    assert made(PLATEAU)[PLATEAU].evidence == f"{stopped}the same best epoch."
    late = copy.deepcopy(MADE[PLATEAU][0])
    instead = f"{max(epoch['val_accuracy'] for epoch in late):.4f} instead of 0.6745"
    late[70]["val_accuracy"] = 0.6745
    assert read(late)[PLATEAU].evidence == f"{stopped}a validation accuracy of {instead}."


def test_what_is_said_of_the_real_run_without_augmentation_is_true():
    record = real("task2_resnet18_no-aug")
    lowest = min(record["history"], key=lambda epoch: epoch["val_loss"])
    (finding,) = diagnose(record)
    assert f"lowest in epoch {lowest['epoch']}: {lowest['val_loss']:.2f}, with a" in finding.evidence
    assert "even risen" in finding.evidence and "wrong less often, but surer of its mistakes" in finding.evidence
    assert finding.advice.startswith("Leave out --no-aug")


def test_advice_fits_the_flags_of_the_run():
    """None that the run already follows, none that no flag can follow without saying so."""
    for rule in (OVERFITTING, UNDERFITTING):
        assert "a change in the code" in made(rule)[rule].advice
    assert "--no-aug" not in OVERFITTING.advice
    assert "--no-aug" in made(OVERFITTING, no_aug=True)[OVERFITTING].advice
    for rule in (OSCILLATION, NO_CONVERGENCE, UNDERFITTING):
        assert "eave out --constant-lr" not in made(rule)[rule].advice
        assert "eave out --constant-lr" in made(rule, constant_lr=True)[rule].advice
    assert "Leave out --no-norm" in made(OSCILLATION, no_norm=True)[OSCILLATION].advice
    assert "--epochs" in made(STILL_FALLING)[STILL_FALLING].advice
    assert "--patience" not in made(STILL_FALLING, patience=5)[STILL_FALLING].advice  # it stopped nothing
    for rule in (STILL_FALLING, TOO_SHORT):
        assert "--patience" in made(rule, patience=5, epochs=80)[rule].advice


def test_what_is_well_is_said_where_it_is():
    assert re.fullmatch(r"Steady \(.*\); no overfitting \(.*0\.41 and 0\.41\)\.", read(HEALTHY)[GOOD].evidence)
    said = {
        OSCILLATION: "No overfitting",
        STILL_FALLING: "Steady; no overfitting",
        OVERFITTING: "Steady",
        UNDERFITTING: "Steady; no overfitting",
        PLATEAU: "Steady; no overfitting; levelled off",  # only after two stages of StepLR without a gain
    }
    for rule, qualities in said.items():
        good = made(rule)[GOOD]
        assert re.sub(r" \([^)]*\)|\.$", "", good.evidence) == qualities and good.advice == ""
    rising = curves(falling(2, 0.02, 10), lambda epoch: 0.6 + abs(epoch - 20) * 0.03, epochs=40)
    for history in (MADE[NO_CONVERGENCE][0], MADE[NOTHING_LEARNED][0], rising):
        assert GOOD not in read(history)
    noisy = read(curves(falling(2, 0.3, 10), epochs=15, noise=0.06))  # which from epoch 9 on hides that it falls
    assert [*noisy] == [GOOD, STILL_FALLING] and "no overfitting" in noisy[GOOD].evidence
    apart = read(curves(falling(2, 0.3, 12), falling(2, 0.6, 25), epochs=40))
    assert [*apart] == [GOOD, STILL_FALLING] and "overfitting" not in apart[GOOD].evidence


def test_what_looks_odd_is_explained_where_it_is_seen():
    better = curves(GOOD_LOSS, lambda epoch: 0.95 * GOOD_LOSS(epoch), epochs=50)
    explained = (
        ("and with dropout; validation comes after the epoch, without dropout.", {"dropout": 0.5}),
        ("the weights still improve; validation comes after the epoch.", {}),
        ("the weights still improve; validation comes after the epoch.", {"validation": "plain", "no_aug": True}),
        ("after the epoch, on images that are not augmented.", {"validation": "plain"}),
        ("after the epoch, by the average of the weights.", {"average": 0.999}),
    )
    for end, settings in explained:
        assert read(better, **settings)[VALIDATION_BETTER].evidence.endswith(end)
    assert VALIDATION_BETTER not in read(HEALTHY)
    accuracy = max(epoch["val_accuracy"] for epoch in HEALTHY)
    assert TEST_BETTER in read(HEALTHY, test_accuracy=accuracy + 0.03)
    assert TEST_BETTER not in read(HEALTHY, test_accuracy=accuracy + 0.01)
    for plain in ({"no_aug": True}, {"validation": "plain"}):
        assert TEST_BETTER not in read(HEALTHY, test_accuracy=accuracy + 0.03, **plain)
    assert TEST_BETTER not in read(HEALTHY, test_accuracy=None)
    assert [*read(better[:3], test_accuracy=0.9)] == [TOO_SHORT]
    dead = read(curves(lambda epoch: 2.303, lambda epoch: 2.3, epochs=20), test_accuracy=0.9)
    assert [*dead] == [NOTHING_LEARNED]


@pytest.mark.parametrize("noise", [0.01, 0.03, 0.06])
def test_noise_does_not_hide_from_which_epoch_nothing_is_gained(noise):
    """Where the curve has a knee, in nine of ten curves to within five epochs."""
    found = []
    for seed in range(60):
        generator = random.Random(seed)
        found.append(levels_off_at([max(2 - 0.06 * epoch, 0.8) * generator.gauss(1, noise) for epoch in range(1, 81)]))
    assert sum(15 <= epoch <= 25 for epoch in found) >= 54, sorted(found)


# ---------------------------------------------------------------- one cycle, and images that grow

GROWN = [32] * 6 + [48] * 7 + [64] * 15


def grown(losses, sizes, train=None, **changes):
    """What is found in the losses of a run in one cycle, with images of these sizes."""
    recipe = {"lr": 0.1, "batch_size": 128, "warmup": 0.2, "image_size": 64, "growth": 0.5, "epochs": len(losses)}
    settings, accuracy = Settings(**recipe | changes), [0.5] * len(losses)
    columns = {"image_size": sizes, "train_loss": train or losses, "val_loss": losses}
    columns |= {"train_accuracy": accuracy, "val_accuracy": accuracy}
    return read(history_of(settings, columns), **asdict(settings))


def test_curves_are_read_where_all_images_are_of_the_full_size():
    assert [size_of(Settings(image_size=64, growth=0.5, epochs=28), epoch) for epoch in range(1, 29)] == GROWN
    jumps = [(1.0 if epoch % 2 else 2.0) if epoch < 13 else 1.0 for epoch in range(1, 29)]
    assert OSCILLATION not in grown(jumps, GROWN)
    assert "Between epochs 1 and 10" in grown(jumps, [64] * 28)[OSCILLATION].evidence
    assert "Between epochs 14 and 23" in grown([2.0, 1.0] * 14, GROWN)[OSCILLATION].evidence
    short = "3 of at least 10 epochs with images of the full size."
    assert grown(jumps, [32] * 25 + [64] * 3)[TOO_SHORT].evidence == short
    risen = [0.3] * 13 + [1.0] * 15  # by images of another size
    falls = [1.0 * 0.95**epoch for epoch in range(28)]
    assert OVERFITTING not in grown(risen, GROWN, train=falls)
    assert "lowest in epoch 1:" in grown(risen, [64] * 28, train=falls)[OVERFITTING].evidence
    turns = [0.3] * 13 + [0.9, 0.8, 0.7, 0.6] + [0.6 + 0.03 * epoch for epoch in range(11)]
    assert "lowest in epoch 17: 0.60" in grown(turns, GROWN, train=falls)[OVERFITTING].evidence


def test_where_images_have_grown_epochs_keep_their_numbers():
    falls = [0.9**epoch for epoch in range(28)]
    levels = [0.5] * 6 + [0.9] * 7 + [0.6] * 15
    good = grown(levels, GROWN, train=falls[:13] + [0.55] * 15)[GOOD].evidence
    assert good.startswith("From epoch 14 on, with images of the full size: steady (") and "no overfitting" in good
    assert "From epoch" not in grown(falls, [64] * 28)[GOOD].evidence
    high = [2.2 - 0.01 * epoch for epoch in range(13)] + [1.4] * 15
    assert "Since epoch 14, the validation loss has not clearly fallen" in grown(high, GROWN)[NO_CONVERGENCE].evidence
    bend = [1.0] * 13 + [0.9, 0.8, 0.7] + [0.6] * 24
    sizes = [32] * 6 + [48] * 7 + [64] * 27
    assert "has hardly moved since epoch 17" in grown(bend, sizes)[GOOD].evidence
    step_lr = grown([2 - 0.05 * epoch for epoch in range(28)], GROWN, warmup=0)
    assert "in epochs 19 to 23, and" in step_lr[STILL_FALLING].evidence
    step_lr = grown([0.4] * 40, sizes, warmup=0, growth=13 / 40)
    assert "would have stopped after epoch 24, 16 epochs earlier, with the same" in step_lr[PLATEAU].evidence


def test_a_cycle_that_patience_cuts_short_is_not_praised():
    falls = [0.3 + 0.9**epoch for epoch in range(28)]
    assert [*grown(falls, GROWN)] == [GOOD]
    (cut,) = grown(falls, GROWN, epochs=40).values()
    assert cut.rule is CUT_SHORT and cut.advice == CUT_SHORT.advice
    assert "after 28 of 40 epochs. The last of them began at a learning rate of 0.041," in cut.evidence
    turned = [0.6 + 0.03 * abs(epoch - 16) for epoch in range(28)]
    found = grown(turned, GROWN, epochs=40, train=[0.95**epoch for epoch in range(28)])
    assert OVERFITTING in found and [it.rule for it in found.values() if it.advice] == [CUT_SHORT]
    (short,) = grown(falls, [32] * 19 + [64] * 9, epochs=40, patience=9).values()
    assert short.rule is TOO_SHORT and "more --patience, or none" in short.advice


def test_curves_of_one_cycle_are_not_read_as_those_of_steplr():
    """Its loss falls until the end, that of training furthest."""
    history = curves(lambda epoch: 2.3 / (1 + epoch / 5), lambda epoch: 2.4 / (1 + epoch / 5), noise=0)
    assert STILL_FALLING in read(history)
    good = read(history, **CYCLE)
    assert [*good] == [GOOD] and "no overfitting" in good[GOOD].evidence
    fallen = read([*history[:-1], history[-1] | {"train_loss": 0.07}], **CYCLE)
    assert [*fallen] == [GOOD] and "no overfitting" not in fallen[GOOD].evidence  # it ends at half of the other

    for rule in (UNDERFITTING, PLATEAU):  # at the end of a cycle, everything stands still
        assert faults(MADE[rule][0], warmup=0.2) == []

    # level from epoch 35 on, while the training loss falls from 0.29 to 0.14
    level = [it | {"val_loss": max(it["val_loss"], 0.3)} for it in history]
    assert OVERFITTING in read(level) and OVERFITTING not in read(level, **CYCLE)
    risen = [it | {"val_loss": it["val_loss"] + 0.1 * (it["epoch"] > 70)} for it in level]
    assert OVERFITTING in read(risen, **CYCLE)
