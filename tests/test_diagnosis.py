"""The reading of learning curves: on made curves, each with one thing wrong or none, and on the curves of real runs."""

import copy
import json
import math
import random
import re

import pytest

from lab import flags
from lab.diagnosis import RULES, diagnose, last_gain


def curves(train, val=None, rate=lambda epoch: 0.001, epochs=80, noise=0.01):
    """A history whose losses are functions of the epoch, with the noise of a real validation loss."""
    generator = random.Random(0)
    history = []
    for epoch in range(1, epochs + 1):
        train_loss = train(epoch)
        val_loss = (val or train)(epoch) * (1 + noise * generator.uniform(-1, 1))
        metrics = {"epoch": epoch, "learning_rate": rate(epoch), "train_loss": train_loss, "val_loss": val_loss}
        history.append(metrics | {"train_accuracy": math.exp(-train_loss), "val_accuracy": math.exp(-val_loss)})
    return history


def names(history):
    return [finding.name for finding in diagnose(history)]


def falling(start, end, pace):
    """A loss that falls from ``start`` to ``end``, quickly at first."""
    return lambda epoch: end + (start - end) * math.exp(-epoch / pace)


def halved(epoch, rate=0.001):
    return rate * 0.5 ** ((epoch - 1) // 10)


def too_small_steps(epoch):
    """A loss that falls as fast as halved steps let it: where it stands depends on the way gone, the sum of steps."""
    return 0.1 + 2 * math.exp(-400 * sum(halved(e, 0.0001) for e in range(1, epoch + 1)))


def zigzag(epoch):
    return falling(2, 0.6, 12)(epoch) * (1.15 if epoch % 2 else 0.85)


REAL = {
    "task1_simplecnn": ["plateau"],
    "task2_resnet18": ["overfitting", "plateau"],
    "task2_resnet18_no-aug": ["overfitting"],
}
GOOD = falling(2, 0.5, 9)
MADE = {
    "healthy": curves(GOOD, epochs=50),
    "oscillation": curves(GOOD, zigzag, epochs=50),
    "no convergence": curves(falling(2.2, 1.4, 4), epochs=32),
    "still falling": curves(falling(2, 0.3, 40), epochs=40),
    "overfitting": curves(falling(2, 0.05, 12), lambda epoch: max(falling(2, 0.3, 12)(epoch), 0.7), epochs=32),
    "decayed too early": curves(too_small_steps, rate=lambda epoch: halved(epoch, 0.0001), epochs=50),
    "plateau": curves(falling(2, 0.5, 5), epochs=80),
}


@pytest.mark.parametrize("name", MADE)
def test_each_trouble_alone_is_found_and_nothing_else(name):
    assert names(MADE[name]) == [name]


def test_every_rule_has_a_made_curve_and_all_can_be_read():
    assert {*MADE, "too short to read"} == set(RULES)
    for history in MADE.values():
        (finding,) = diagnose(history)
        assert finding.evidence.endswith(".") and any(character.isdigit() for character in finding.evidence)
        assert finding.advice == RULES[finding.name][1]


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
    finding = next(finding for finding in diagnose(history) if finding.name == "overfitting")
    epoch, fallen, before, after, *val = map(float, re.findall(r"\d+\.?\d*", finding.evidence))
    assert 18 <= epoch <= 22 and "has risen" in finding.evidence
    assert before == pytest.approx(history[int(epoch) - 1]["train_loss"], rel=0.05)
    assert after == pytest.approx(history[-1]["train_loss"], rel=0.2)
    assert fallen == pytest.approx(100 * (1 - after / before), abs=2) and val == pytest.approx([0.63, 0.85], abs=0.04)

    (finding,) = diagnose(MADE["plateau"])
    best = max(MADE["plateau"], key=lambda epoch: epoch["val_accuracy"])["val_accuracy"]
    assert f"instead of {best:.4f}" in finding.evidence


def test_one_wild_epoch_is_no_oscillation_and_hides_nothing():
    history = copy.deepcopy(MADE["healthy"])
    history[30]["val_loss"] *= 1.3
    assert names(history) == ["healthy"]
    history = copy.deepcopy(MADE["overfitting"])
    history[25]["val_loss"] *= 0.5
    assert names(history) == ["overfitting"]


def test_halving_a_rate_that_was_high_enough_is_no_early_decay():
    """There the loss drops at once when the weights stop jumping about, as in every real run with StepLR."""
    loss = lambda epoch: falling(1.4, 0.5, 25)(epoch) + 150 * halved(epoch)  # noqa: E731
    assert "decayed too early" not in names(curves(loss, rate=halved, epochs=50))


def test_reading_changes_nothing_and_no_numbers_are_too_odd():
    generator = random.Random(1)
    for epochs in range(1, 60):
        scale = generator.choice([0, 1e-12, 1, 1e12])
        history = curves(lambda epoch: scale * generator.random(), epochs=epochs)  # noqa: B023
        if epochs % 3 == 0:
            for metrics in history:
                metrics |= {"val_loss": 0.0, "val_accuracy": 1.0}
        before = copy.deepcopy(history)
        assert set(names(history)) <= set(RULES)
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
    assert names(json.loads((flags.ROOT / "plots" / f"{run}.json").read_text())["history"]) == expected
