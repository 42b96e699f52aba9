"""GUIDE.md: what it shows of each rule, ingredient and minute is what the records say."""

import re

from matplotlib.figure import Figure
from test_report import OVERFIT, rebuild, record_of, results_of, rough, save, to

from lab.curves import PATIENCE
from lab.diagnosis import GOOD, OVERFITTING, RULES
from lab.original import BASELINE, CONSTANT, HIGH_CONSTANT, LOW_CONSTANT, NO_AUG, NO_NORM, SIMPLECNN
from lab.report import guide
from lab.report.pictures import draw_minutes
from lab.report.runs import INGREDIENTS, RESNET18_SHORT, SIMPLECNN_RECIPE, TWO_BLOCKS, but


def sections(page):
    """The text below each heading."""
    return dict(re.findall(r"^#+ (.*?)\n(.*?)(?=^#|\Z)", page, re.MULTILINE | re.DOTALL))


def guide_of(out, *records):
    save(out, *records)
    assert rebuild(out, "--plot")[0] == 0
    return sections((out / "GUIDE.md").read_text(encoding="utf-8"))


def test_each_rule_is_shown_in_a_run_that_has_it(tmp_path):
    page = guide_of(tmp_path, record_of(SIMPLECNN), record_of(NO_AUG, **OVERFIT))
    others = page.pop("Rules that no run here shows")
    for rule in RULES:
        text = page.get(rule.name.capitalize(), "")
        assert ("draws `plots/task" in text) != (f"\n| {rule.name} |" in others)
        assert rule.sign in (text or others) and rule.advice in (text or others)
    shown = "draws `plots/task2_resnet18_no-aug.png`)*\n\n`task2_resnet18_no-aug`: The validation loss was lowest"
    assert shown in page["Overfitting"]
    assert "`task1_simplecnn`: " in page["Good"] and " did** (" not in page["Overfitting"]


def test_a_rule_is_shown_in_the_run_that_its_cure_changes_and_praise_in_the_best_run():
    underfits, good = record_of(SIMPLECNN, train=to(0.6)), record_of(SIMPLECNN_RECIPE)
    shown = guide.examples(results_of(underfits, record_of(NO_AUG, **OVERFIT), good))
    assert shown[OVERFITTING]["run"] == "task2_resnet18_no-aug" and shown[GOOD]["run"] == "task1_simplecnn_recipe"


def test_the_picture_of_a_third_task_is_drawn_by_its_script(tmp_path):
    page = guide_of(tmp_path, record_of(TWO_BLOCKS, **OVERFIT))
    assert "*(its script with `--resume` draws `plots/two_blocks.png`)*" in page["Overfitting"]


def test_the_commands_come_in_the_order_of_their_minutes(tmp_path):
    slow, fast = record_of(SIMPLECNN), record_of(BASELINE)
    slow["history"][0]["seconds"] = 3600.0
    page = guide_of(tmp_path, slow, fast)["What an hour buys"]
    commands = [line.split("`")[1].split(" --output")[0] for line in page.splitlines() if line.startswith("| `")]
    assert commands[:2] == ["python task2_resnet18.py", "python task1_simplecnn.py"]


def test_what_a_change_did_is_said_where_both_runs_are_there(tmp_path):
    page = guide_of(tmp_path, record_of(NO_AUG, right=780, **OVERFIT), record_of(BASELINE, right=850))
    told = "**What augmentation did** (figures 2 and 4): the test accuracy is 0.850 instead of 0.780. "
    told += "That is +0.0700, more than chance (±0.010)."
    assert page["Overfitting"].strip().endswith(told)


def test_what_the_rate_does_to_the_oscillation_is_said_where_the_constant_rates_are_there(tmp_path):
    rates = zip((HIGH_CONSTANT, CONSTANT, LOW_CONSTANT), (0.05, 0.02, 0.01), strict=True)
    high, *others = (record_of(run, val=rough(to(0.5), swing)) for run, swing in rates)
    page = guide_of(tmp_path, high, record_of(NO_NORM, val=rough(to(0.5), 0.1)))["Oscillation"]
    assert "`task2_resnet18_no-norm`: Between epochs " in page and " did** " not in page
    told = "**What the rate did** (figures 7, 8 and 9, constant rates): validation loss up and down: "
    told += "10.0 % at 0.01, 4.0 % at 0.001, 2.0 % at 0.0001."
    assert guide_of(tmp_path, *others)["Oscillation"].strip().endswith(told)


def test_an_ingredient_is_worth_what_the_test_loses_without_it():
    short = [record_of(run, right=880 + number) for number, run in enumerate(INGREDIENTS[8:])]
    whole = record_of(RESNET18_SHORT, right=890)
    title, _, head, _, *rows, _, missing = guide.ingredients(results_of(whole, *short)).splitlines()
    assert title == "**ResNet-18, recipe, 10 epochs**:" and head.count("|") == rows[0].count("|")
    assert [row.split(" | ")[2:] for row in rows] == [
        [f"0.{880 + number}", f"{1 - number / 10:.1f}, within chance |"] for number in range(7)
    ]
    assert rows[0].startswith("| `--warmup 0` | ")
    training = "`python report.py --run recipe ingredients` trains what is missing.)*"
    assert missing == f"*(Not all records of SimpleCNN, recipe are there yet: {training}"
    of_both = "SimpleCNN, recipe and of ResNet-18, recipe, 10 epochs"
    assert guide.ingredients(results_of(*short)) == f"*(Not all records of {of_both} are there yet: {training}"
    told = guide.ingredients(results_of(*(record_of(run) for run in INGREDIENTS)))
    assert f"of {of_both} are there yet: `python report.py --run recipe` trains" in told
    assert but(RESNET18_SHORT, warmup=0.0) == INGREDIENTS[8]


def test_patience_is_judged_by_all_runs_with_the_originals_settings():
    early = record_of(BASELINE, val_accuracy=lambda epoch: min(0.04 * epoch, 0.8) + 0.01 * (epoch == 60))
    late = record_of(NO_AUG, val_accuracy=lambda epoch: 0.5 + epoch / 1000)
    text = guide.patience(results_of(early, late, record_of(SIMPLECNN_RECIPE)))
    assert " In the 2 runs that there are of figures 1 to 9, batches of 128 and two blocks, it would" in text
    assert f" it would have saved 0 to {80 - 20 - PATIENCE} epochs, 25 in the median." in text
    assert text.endswith("cost 0.010 of validation accuracy at most, and more than 0.005 in 1 of these runs.")
    assert guide.patience(results_of()) == ""


def test_minutes_are_drawn_from_the_records():
    recipe = [record_of(SIMPLECNN_RECIPE, seed, right) for seed, right in enumerate((870, 872, 871))]
    for minutes, record in zip((30, 50, 60), recipe, strict=True):
        for number, epoch in enumerate(record["history"]):
            epoch["seconds"] = 60.0 * (number < minutes)
    draw_minutes(figure := Figure(), results_of(record_of(BASELINE, right=850), *recipe))
    (axes,) = figure.axes
    points = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert points == {
        "ResNet-18": [[2.0, 0.85]],
        "SimpleCNN, recipe": [[30.0, 0.871]],
    }
    lengths = [lines.get_segments()[0][:, 0].tolist() for lines in axes.collections]
    assert lengths == [[30.0, 60.0]]  # from the fastest seed to the slowest
    assert [text.get_text() for text in axes.texts] == ["80 epochs", "80 epochs"]


def test_good_comes_first_and_no_rule_is_left_out():
    good = results_of(record_of(SIMPLECNN, train=to(0.3)))
    shown = guide.examples(good)
    assert GOOD in shown and OVERFITTING not in shown
    shown_rules, others = guide.rules(good).split("### Rules that no run here shows\n")
    names = re.findall(r"^### (.*)$", shown_rules, re.MULTILINE)
    rest = re.findall(r"^\| ([a-z ]+) \|", others, re.MULTILINE)
    assert names[0] == "Good" and sorted(rule.name for rule in RULES) == sorted([*map(str.lower, names), *rest])
