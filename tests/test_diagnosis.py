"""The reading of learning curves: on made curves, each with one thing wrong or none, and on the curves of real runs."""

import copy
import json
import math
import random
import re

import pytest

from lab import flags
from lab.curves import last_gain
from lab.diagnosis import diagnose
from lab.rules import INSTEAD, RULES


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


def record_of(history, test_accuracy=0.0, **changes):
    """The record of a run with this history, whose settings are as usual but for these changes."""
    usual = {"task": "task", "epochs": len(history), "batch_size": 64, "lr": history[0]["learning_rate"]}
    return {"history": history, "config": flags.all_settings(usual, changes), "test_accuracy": test_accuracy}


def read(history, **how):
    """What is found, by name."""
    return {finding.name: finding for finding in diagnose(record_of(history, **how))}


def names(history, **how):
    """The faults that are found."""
    return [name for name in read(history, **how) if name in RULES]


def falling(start, end, pace):
    """A loss that falls from ``start`` to ``end``, quickly at first."""
    return lambda epoch: end + (start - end) * math.exp(-epoch / pace)


def zigzag(epoch):
    return falling(2, 0.45, 12)(epoch) * (1.15 if epoch % 2 else 0.85)


SIMPLECNN_IS_ODD = "validation better than training", "test better than validation"
REAL = {
    # It falls steeply, then levels off from epoch 45 or so; both curves are smooth, and validation is even the better.
    # But they level off at a height: this network could learn more. The test star is above both curves.
    "task1_simplecnn": ["good", "underfitting", "plateau", *SIMPLECNN_IS_ODD],
    # The same, but its accuracy never stands still for ten epochs, so that stopping early is no question.
    "task1_simplecnn_seed1": ["good", "underfitting", *SIMPLECNN_IS_ODD],
    # As seed 0. It falls a little less evenly at first, but does not jump about.
    "task1_simplecnn_seed2": ["good", "underfitting", "plateau", *SIMPLECNN_IS_ODD],
    # Smooth as well. But from epoch 25 or 30 on validation stands at 0.6, and training goes on to 0.3: it overfits,
    # mildly, for validation does not get worse. Its accuracy still gains a little, up to epoch 75. The test star is
    # a little above validation.
    "task2_resnet18": ["good", "overfitting", "test better than validation"],
    # The other seeds, too; validation of the last is a little rougher at first.
    "task2_resnet18_seed1": ["good", "overfitting", "test better than validation"],
    "task2_resnet18_seed2": ["good", "overfitting", "test better than validation"],
    # For ten epochs validation jumps about. Then it is as smooth as the baseline's, and overfits as that does; to the
    # eye, its accuracy gains nothing after epoch 40.
    "task2_resnet18_no-norm": ["oscillation", "overfitting", "plateau", "test better than validation"],
    # Overfits, as badly as one can: validation turns in epoch 7 or so and more than doubles, training goes to zero.
    # Accuracy creeps up all the same, to epoch 55, so that stopping early would be wrong. The star is on the curve.
    "task2_resnet18_no-aug": ["overfitting"],
    # Falls smoothly, but for a kink in epoch 8, and a step down where the rate is halved first. From epoch 33 on
    # validation stands still; training goes on to 0.31. It overfits as the baseline does; accuracy creeps up a little.
    "task2_resnet18_lr0.01": ["good", "overfitting", "test better than validation"],
    # A kink in epoch 8, else it falls as smoothly as the baseline, only more slowly. From epoch 50 on validation stands
    # still, and is a little restless; training goes on to 0.32. It overfits mildly, and nothing comes after epoch 52.
    "task2_resnet18_lr0.01_constant-lr": ["good", "overfitting", "plateau", "test better than validation"],
    # Much as the constant rate of 0.01, and as restless. From epoch 38 on validation stands at 0.6, at the end a little
    # above; training goes on to 0.26. One lucky epoch, 50, is the best in loss and accuracy: nothing comes after it.
    "task2_resnet18_constant-lr": ["good", "overfitting", "plateau", "test better than validation"],
    # Very smooth, with a step down at the first two halvings. From epoch 30 on nothing moves: validation stands at 0.8,
    # training at 0.55, which is twice as high as in the other runs. The rate is too low by then to get any further.
    "task2_resnet18_lr0.0001": ["good", "underfitting", "plateau", "test better than validation"],
    # Smooth, and training falls and falls, to 0.29. Validation is lowest around epoch 45, and then rises slowly, by a
    # seventh, while its accuracy stays. It overfits, more than at the higher rates.
    "task2_resnet18_lr0.0001_constant-lr": ["overfitting", "plateau", "test better than validation"],
    # As the baseline, but a little higher: from epoch 21 on validation stands at 0.62; training goes on to 0.27. Its
    # accuracy gains next to nothing after epoch 50.
    "task2_resnet18_batch128": ["good", "overfitting", "plateau", "test better than validation"],
    # Very smooth, with a shoulder from epoch 11 to 16, as the rate rises to its highest. Training falls until the end,
    # validation hardly any more in the last fifteen epochs; they meet in epoch 71. Validation never rises.
    "task1_simplecnn_recipe": ["good", "validation better than training"],
    # The other seeds look the same; the shoulder is flatter.
    "task1_simplecnn_recipe_seed1": ["good", "validation better than training"],
    "task1_simplecnn_recipe_seed2": ["good", "validation better than training"],
    # Smooth, and validation is below training until both meet in the last epoch.
    "task1_simplecnn_recipe_epochs10": ["good", "validation better than training"],
    # At 64x64, validation falls smoothly, and at the end hardly any more; training goes on, to two thirds of it. Before
    # that, with each new size, there is a jump.
    "task2_resnet18_recipe": ["good", "validation better than training"],
    # Six epochs at 64x64.
    "task2_resnet18_recipe_epochs10": ["too short to read"],
}
GOOD = falling(2, 0.4, 9)
MADE = {
    "oscillation": curves(GOOD, zigzag, epochs=50),
    "nothing learned": curves(falling(2.35, 2.3, 2), epochs=30),
    "no convergence": curves(falling(2.2, 1.4, 4), epochs=32),
    "still falling": curves(falling(2, 0.3, 40), epochs=40),
    "overfitting": curves(falling(2, 0.05, 12), lambda epoch: max(falling(2, 0.3, 12)(epoch), 0.7), epochs=32),
    "underfitting": curves(falling(2, 0.6, 5), epochs=32),
    "plateau": curves(falling(2, 0.4, 5), epochs=80),
}


HEALTHY = curves(GOOD, epochs=50)


@pytest.mark.parametrize("name", MADE)
def test_each_trouble_alone_is_found_and_nothing_else(name):
    assert names(MADE[name]) == [name]


def test_every_rule_has_a_made_curve_and_all_can_be_read():
    assert {*MADE, "too short to read", "a quick look", "a cycle cut short"} == RULES.keys() >= INSTEAD.keys()
    for name, history in MADE.items():
        finding = read(history)[name]
        assert finding.evidence.endswith(".") and any(character.isdigit() for character in finding.evidence)
        assert finding.advice == RULES[name][1]


def test_a_loss_that_has_turned_is_not_still_falling():
    """As after ten epochs of the run without augmentation: its lowest was in epoch 5, the tenth is 0.17 above it."""
    history = json.loads((flags.ROOT / "plots/task2_resnet18_no-aug.json").read_text())["history"][:10]
    assert names(history) == ["overfitting"]
    assert "lowest in epoch 5: 0.80" in read(history)["overfitting"].evidence


def test_a_training_loss_that_goes_on_falling_is_no_underfitting():
    assert names(curves(lambda epoch: 0.99**epoch, lambda epoch: 0.9, epochs=14)) == []


def test_what_has_failed_is_not_told_to_stop_early():
    assert names(curves(lambda epoch: 0.7 + 0.03 * abs(epoch - 12), epochs=60)) == ["no convergence"]


@pytest.mark.parametrize("epochs", [1, 2, 9])
def test_a_short_history_is_not_read(epochs):
    assert names(curves(GOOD, zigzag, epochs=epochs)) == ["too short to read"]
    assert names(curves(GOOD, epochs=10)) != ["too short to read"]


def test_several_troubles_are_all_told():
    val = [
        0.8 - 0.02 * epoch if epoch <= 10 else 0.6 + 0.02 * (epoch - 10) * (1.6 if epoch % 2 else 1)
        for epoch in range(80)
    ]
    assert names(curves(falling(2, 0.02, 10), val.__getitem__, epochs=79)) == ["oscillation", "overfitting", "plateau"]


def test_the_evidence_is_that_of_the_curve():
    history = curves(falling(2, 0.02, 10), lambda epoch: 0.6 + abs(epoch - 20) * 0.03, epochs=30, noise=0)
    assert read(history)["overfitting"].evidence == (
        f"The validation loss was lowest in epoch 20: 0.60, with a training loss of {history[19]['train_loss']:.2f}. "
        f"At the end they are 0.90 and {history[-1]['train_loss']:.2f}."
    )
    stands = "The training loss stands still at 0.60, with a training accuracy of 0.548."
    assert read(MADE["underfitting"])["underfitting"].evidence == stands
    stopped = "--patience 10 would have stopped after epoch 51, 29 epochs earlier, with "
    assert read(MADE["plateau"])["plateau"].evidence == f"{stopped}the same best epoch."
    late = copy.deepcopy(MADE["plateau"])
    late[70]["val_accuracy"] = 0.6745
    instead = f"{max(epoch['val_accuracy'] for epoch in MADE['plateau']):.4f} instead of 0.6745"
    assert read(late)["plateau"].evidence == f"{stopped}a validation accuracy of {instead}."


def test_what_is_said_of_the_committed_run_without_augmentation_is_true():
    record = json.loads((flags.ROOT / "plots/task2_resnet18_no-aug.json").read_text())
    lowest = min(record["history"], key=lambda epoch: epoch["val_loss"])
    finding = read(record["history"], no_aug=True)["overfitting"]
    assert f"lowest in epoch {lowest['epoch']}: {lowest['val_loss']:.2f}, with a" in finding.evidence
    assert "surer of its mistakes" in finding.evidence
    assert finding.advice.startswith("Leave out --no-aug") and "plateau" not in names(record["history"], no_aug=True)


def test_advice_fits_the_flags_of_the_run():
    """None that the run already follows, none that no flag can follow without saying so."""
    advice = read(MADE["overfitting"])["overfitting"].advice
    assert "a change in the code" in advice and re.findall("--[a-z-]+", advice) == ["--lr"]
    assert "--no-aug" in read(MADE["overfitting"], no_aug=True)["overfitting"].advice
    assert "take all of them" in read(MADE["overfitting"], limit=3000)["overfitting"].advice
    for name in ("oscillation", "no convergence"):
        assert "--constant-lr" not in read(MADE[name])[name].advice
        assert "leave out --constant-lr" in read(MADE[name], constant_lr=True)[name].advice
    assert "Leave out --no-norm" in read(MADE["oscillation"], no_norm=True)["oscillation"].advice
    assert "--epochs" in read(MADE["still falling"])["still falling"].advice
    assert "--patience" not in read(MADE["still falling"], patience=5)["still falling"].advice  # it stopped nothing
    assert "--patience" in read(MADE["still falling"], patience=5, epochs=80)["still falling"].advice
    assert "take all of them" not in read(MADE["overfitting"], limit=45_000)["overfitting"].advice


def test_what_is_well_is_said_where_it_is():
    assert re.fullmatch(r"Steady \(.*\); no overfitting \(.*0\.41 and 0\.41\)\.", read(HEALTHY)["good"].evidence)
    said = {
        "oscillation": "No overfitting",
        "still falling": "Steady; no overfitting",
        "overfitting": "Steady",
        "underfitting": "Steady; no overfitting",
        "plateau": "Steady; no overfitting; levelled off",  # only after two stages of StepLR without a gain
    }
    for name, qualities in said.items():
        good = read(MADE[name])["good"]
        assert re.sub(r" \([^)]*\)|\.$", "", good.evidence) == qualities and good.advice == ""
    rising = curves(falling(2, 0.02, 10), lambda epoch: 0.6 + abs(epoch - 20) * 0.03, epochs=40)
    for history in (MADE["no convergence"], MADE["nothing learned"], rising):
        assert "good" not in read(history)
    apart = read(curves(falling(2, 0.3, 12), falling(2, 0.6, 25), epochs=40))
    assert [*apart] == ["good", "still falling"] and "overfitting" not in apart["good"].evidence


@pytest.mark.parametrize("few", [{"limit": 3000}, {"sample": True}, {"sample": True, "limit": 2000}])
def test_a_quick_look_is_not_praised(few):
    assert names(HEALTHY, **few) == ["a quick look"] and "good" not in read(HEALTHY, **few)
    assert names(MADE["plateau"], **few) == ["a quick look"]
    assert names(MADE["overfitting"], **few) == ["a quick look", "overfitting"]
    rough = lambda epoch: GOOD(epoch) * (1.05 if epoch % 2 else 0.95)  # noqa: E731  # as chance on 300 images
    assert names(curves(GOOD, rough, epochs=50)) == ["oscillation"]
    assert names(curves(GOOD, rough, epochs=50), **few) == ["a quick look"]
    assert names(HEALTHY, limit=30_000) == []
    assert read(MADE["still falling"], **few)["still falling"].advice == ""  # nothing is to be turned yet


def test_findings_do_not_contradict_each_other():
    """On prefixes of real runs, and on made ones, whose losses may turn, level off or learn nothing at all."""
    histories = [json.loads((flags.ROOT / f"plots/{run}.json").read_text())["history"] for run in REAL]
    prefixes = [history[:epochs] for history in histories for epochs in range(10, 81)]
    generator = random.Random(3)
    for _ in range(400):
        start, end, pace = generator.uniform(1, 2.4), generator.uniform(0, 1), generator.uniform(2, 40)
        floor, rise = generator.uniform(0, 2), generator.choice([0, 0, 0.01, 0.05])
        turn, train = generator.randrange(5, 40), falling(start, end, pace)
        val = lambda epoch: max(train(epoch), floor) + rise * max(0, epoch - turn)  # noqa: B023, E731
        epochs, noise = generator.randrange(10, 80), generator.choice([0.005, 0.02])
        prefixes.append(curves(train, val, epochs=epochs, noise=noise))
        rises = lambda epoch: train(epoch) + 0.02 * max(0, epoch - turn)  # noqa: B023, E731
        prefixes.append(curves(rises, val, epochs=epochs, noise=noise))
    cycle = {"warmup": 0.2, "epochs": 80}
    for history, settings in [*((it, {}) for it in prefixes), *((it, cycle) for it in prefixes[::5])]:
        found = read(history, **settings)
        for one, other in (
            ("still falling", "overfitting"),
            ("still falling", "plateau"),
            ("no convergence", "overfitting"),
            ("no convergence", "plateau"),
            ("no convergence", "good"),
            ("underfitting", "still falling"),
            ("underfitting", "overfitting"),
            ("underfitting", "no convergence"),
        ):
            assert not (one in found and other in found), found
        if "hardly moved: " in (overfitting := str(found.get("overfitting"))):
            then, lowest, end = map(float, re.findall(r"(?:moved: |then, |\), )(\d+\.\d+)", overfitting))
            assert lowest <= then and end <= 1.2 * lowest + 0.01, overfitting


def test_what_looks_odd_is_explained_where_it_is_seen():
    better = curves(GOOD, lambda epoch: 0.95 * GOOD(epoch), epochs=50)
    assert "dropout" in read(better)["validation better than training"].evidence
    assert "validation better than training" not in read(HEALTHY)
    accuracy = max(epoch["val_accuracy"] for epoch in HEALTHY)
    for margin, settings, told in ((0.03, {}, True), (0.01, {}, False), (0.03, {"no_aug": True}, False)):
        found = read(HEALTHY, test_accuracy=accuracy + margin, **settings)
        assert ("test better than validation" in found) == told
    assert [*read(better[:3], test_accuracy=0.9)] == ["too short to read"]
    dead = read(curves(lambda epoch: 2.303, lambda epoch: 2.3, epochs=20), test_accuracy=0.9)
    assert [*dead] == ["nothing learned"]


def test_one_wild_epoch_is_no_oscillation_and_hides_nothing():
    history = copy.deepcopy(HEALTHY)
    history[30]["val_loss"] *= 1.3
    assert names(history) == []
    history = copy.deepcopy(MADE["overfitting"])
    history[25]["val_loss"] *= 0.5
    assert names(history) == ["overfitting"]


def test_reading_changes_nothing_and_no_numbers_are_too_odd():
    generator = random.Random(1)
    for epochs in range(1, 60):
        scale = generator.choice([0, 1e-12, 1, 1e12])
        history = curves(lambda epoch: scale * generator.random(), epochs=epochs)  # noqa: B023
        if epochs % 3 == 0:
            for metrics in history:
                metrics |= {"val_loss": 0.0, "val_accuracy": 1.0}
        before = copy.deepcopy(history)
        assert diagnose(record_of(history))
        assert history == before


def test_a_loss_that_rises_again_is_no_convergence():
    assert "no convergence" in names(curves(lambda epoch: 0.7 + 0.03 * abs(epoch - 12), epochs=30))


@pytest.mark.parametrize("noise", [0.01, 0.03, 0.06])
def test_noise_does_not_hide_from_which_epoch_nothing_is_gained(noise):
    """Where the curve has a knee, in nine of ten curves to within five epochs."""
    found = []
    for seed in range(60):
        generator = random.Random(seed)
        found.append(last_gain([max(2 - 0.06 * epoch, 0.8) * generator.gauss(1, noise) for epoch in range(1, 81)]))
    assert sum(15 <= epoch <= 25 for epoch in found) >= 54, sorted(found)


@pytest.mark.parametrize(("run", "expected"), REAL.items())
def test_real_curves_are_read_as_their_picture_looks(run, expected):
    record = json.loads((flags.ROOT / "plots" / f"{run}.json").read_text())
    record["config"] = flags.all_settings({}, record["config"])
    assert [finding.name for finding in diagnose(record)] == expected
