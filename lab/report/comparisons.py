"""What follows from runs that differ in one thing, and what the recipes bring."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from statistics import mean

from lab import diagnosis
from lab.curves import column, percent
from lab.original import BASELINE, CONSTANT, FIGURES, HIGH, HIGH_CONSTANT, LOW, LOW_CONSTANT, NO_AUG, NO_NORM, SIMPLECNN
from lab.report.chance import Difference, chance, difference, from_original, ours
from lab.report.claims import EARLY, LATE, ROUGHER, findings, late, normalization_steadies, rough
from lab.report.runs import (
    BATCH128,
    BEFORE,
    EVIDENCE,
    TWO_BLOCKS,
    UNSAID,
    Experiment,
    Results,
    Task,
    minutes_of,
    unsaid,
)
from lab.schedule import best_of
from lab.settings import Settings, flags_for, option, settings_of, value_text


def worth(results: Results, what: str, one: Experiment, two: Experiment, having: str = "with it, without") -> str:
    """What the accuracy gains by that which run ``one`` has, and run ``two`` has not: here, and in the original."""
    cells = (f"{ours(results, run)} {word}" for run, word in zip((one, two), having.split(", "), strict=True))
    text = f"{what} changes the test accuracy by {difference(results, one, two)}: {', '.join(cells)}."
    if two.accuracy:
        there = Difference(one.accuracy - two.accuracy, chance(results, (one, 1), (two, 1)))
        text += f" In the original, by {there}."
    return text


def between(shares: Sequence[float]) -> str:
    """The range of a share over the seeds."""
    low, high = percent(min(shares)), percent(max(shares))
    return low if low == high else f"{low.split()[0]} to {high}"


def of_normalization(results: Results) -> str:
    """What normalization does to accuracy, and to the first epochs (lab report, question 7a)."""
    with_, without = (rough(results[run], EARLY) for run in (BASELINE, NO_NORM))
    accuracy = [between(rough(results[run], EARLY, "val_accuracy")) for run in (BASELINE, NO_NORM)]
    _, steadies = normalization_steadies(results[BASELINE][0], results[NO_NORM][0])
    steadier = "steadier" if steadies and min(without) > max(with_) else "not clearly steadier"
    return (
        f"{worth(results, 'Normalization', BASELINE, NO_NORM)} Early training is {steadier} with it: in the first "
        f"{EARLY} epochs, the validation loss goes up and down by {between(with_)} an epoch with it, and by "
        f"{between(without)} without; the validation accuracy by {accuracy[0]} and {accuracy[1]}. (*Clearly* takes "
        f"a factor of {ROUGHER} in both, and losses of different seeds that do not overlap.)"
    )


def of_augmentation(results: Results) -> str:
    """What augmentation does to accuracy, and against overfitting (lab report, question 7b)."""
    # The test, because without augmentation, validation is on other images than with it.
    train = [mean(late(record, "train_loss") for record in results[run]) for run in (BASELINE, NO_AUG)]
    test = [mean(column(results[run], "test_loss")) for run in (BASELINE, NO_AUG)]
    overfits = diagnosis.OVERFITTING in findings(results[NO_AUG][0])
    keeps = "keeps" if overfits and test[1] - train[1] > 2 * (test[0] - train[0]) else "does not keep"
    return (
        f"{worth(results, 'Augmentation', BASELINE, NO_AUG)} It {keeps} the network from learning its images by heart: "
        f"the training loss (of the last {LATE} epochs) and the test loss are, in the mean over the seeds, "
        f"{train[0]:.2f} and {test[0]:.2f} with it, {train[1]:.2f} and {test[1]:.2f} without."
    )


def of_learning_rates(results: Results) -> str:
    """Which rate and schedule is best, and what it brings to halve the rate (lab report, question 7c)."""
    pairs = (HIGH, HIGH_CONSTANT), (BASELINE, CONSTANT), (LOW, LOW_CONSTANT)
    runs = sum(pairs, ())
    best = max(runs, key=results.mean)
    near = [run.title for run in runs if run is not best and difference(results, best, run).is_chance]
    halving = (
        f"{difference(results, step, constant)}, at {step.changes.get('lr', 0.001):g} (in the original, by "
        f"{step.accuracy - constant.accuracy:+.3f})"
        for step, constant in pairs
    )
    return (
        f"The best is {best.title}, with {ours(results, best)}; within chance of it: "
        f"{' and '.join(near) or 'none of the others'}. Halving the rate every 10 epochs, instead of keeping it, "
        f"changes the test accuracy by {'; by '.join(halving)}."
    )


def of_batch_size(results: Results) -> str:
    """What batches of 64 are worth against batches of 128 (lab report, question 8)."""
    return worth(results, "A batch size of 64, instead of 128,", BASELINE, BATCH128, "with 64, with 128")


def of_blocks(results: Results) -> str:
    """What the third block of SimpleCNN is worth (lab report, question 8)."""
    above = sum(accuracy > 0.8 for accuracy in results.accuracies(TWO_BLOCKS))
    text = worth(results, "The third block", SIMPLECNN, TWO_BLOCKS)
    return f"{text} Without it, {above} of {len(results[TWO_BLOCKS])} runs get above 80 %."


COMPARISONS = {  # for each picture: the runs on each of its rows, and the function that says what follows
    "normalization": ([(BASELINE, NO_NORM)], of_normalization),
    "augmentation": ([(BASELINE, NO_AUG)], of_augmentation),
    "learning_rate": ([(BASELINE, HIGH, LOW), (CONSTANT, HIGH_CONSTANT, LOW_CONSTANT)], of_learning_rates),
    "batch_size": ([(BASELINE, BATCH128)], of_batch_size),
    "two_blocks": ([(SIMPLECNN, TWO_BLOCKS)], of_blocks),
}


def of_unsaid(results: Results) -> str:
    """The rows of a table: what two settings that the original does not name do in 20 epochs of figures 6 and 7."""
    rows = []
    for which in UNSAID:
        cells = []
        for run in (unsaid(LOW, which, epochs=20), unsaid(HIGH_CONSTANT, which, epochs=20)):
            records = results[run] if run in EVIDENCE else []
            accuracy = "".join(f"{it['test_accuracy']:.3f} ({highest(it):.3f})" for it in records[:1])
            cells.append(accuracy or (results.missing(run) if run in EVIDENCE else "not run"))
        rows.append(f"| {which} | {' | '.join(cells)} |")
    return "\n".join(rows)


def highest(record: dict) -> float:
    return best_of(record["history"])["val_accuracy"]


def before_and_after(results: Results) -> str:
    """The rows of a table: the original's accuracies, ours without these two settings, and ours with them."""

    def cell(run: Experiment, ran: Experiment) -> str:
        if not results[ran]:
            return results.missing(ran)
        return f"{ours(results, ran)}: {from_original(results, run, ran)}"

    return "\n".join(
        f"| {run.figure}, {run.title} | {run.accuracy:.3f} | {cell(run, before)} | {cell(run, run)} |"
        for run, before in zip(FIGURES, BEFORE, strict=False)
    )


def table(records: Sequence[dict], remarks: Mapping[str, str] | None = None) -> str:
    """A line for each run: accuracies, and how long it took; and ``remarks``, or networks and flags that differ."""
    settings = [settings_of(record["config"]) for record in records]
    known = [record["config"]["network"] for record in records]
    networks = ["{class} ({parameters:,} parameters, layers {printed:.4}) ".format(**it) for it in known]
    differ = [it.name for it in fields(Settings) if len({getattr(of, it.name) for of in settings}) > 1]
    width = max(len(record["run"]) for record in records)
    lines = [f"{'run':{width}}    val   test  best epoch  minutes{'  differs in' * (remarks is None)}"]
    for record, of, network in zip(records, settings, networks, strict=True):
        best, minutes = best_of(record["history"]), minutes_of(record)
        epochs = f"{best['epoch']} of {len(record['history'])}"
        accuracies = f"{best['val_accuracy']:.3f}  {record['test_accuracy']:.3f}"
        line = f"{record['run']:{width}}  {accuracies}  {epochs:>10}  {minutes:7.0f}"
        given = {name: value for name in differ if (value := getattr(of, name)) is not None and value is not False}
        what = network * (len(set(networks)) > 1) + " ".join(flags_for(given))
        lines.append(f"{line}  {what if remarks is None else remarks.get(record['run'], '')}".rstrip())
    return "\n".join(lines)


def listing(records: Sequence[dict]) -> str:
    """A line for each run, the best on validation first; but last those whose validation compares with few others."""
    remarks = {record["run"]: remark(settings_of(record["config"])) for record in records}
    return table(sorted(records, key=lambda record: (remarks[record["run"]], -highest(record))), remarks)


def remark(of: Settings) -> str:
    """Why the validation accuracy of a run does not compare with that of most others; "" where it does."""
    if of.limit or of.sample:
        return "a quick look"
    return "validation images not augmented" if of.no_aug or of.validation == "plain" else ""


def changed_settings(tasks: Sequence[Task]) -> str:
    """The rows of a table: each setting that a recipe changes, with its value in each TASK and in each RECIPE."""
    rows = []
    for it in fields(Settings)[1:]:  # all but --recipe itself
        plain = [value_text(getattr(task.task, it.name)) for task in tasks]
        recipe = [value_text(getattr(task.recipe, it.name)) for task in tasks]
        if plain != recipe:
            rows.append(f"| `{option(it.name)}` | {it.metadata['help']} | {' | '.join(plain + recipe)} |")
    return "\n".join(rows)


def row(results: Results, run: Experiment) -> str:
    """The command, accuracy, the same with mirror images, epochs and minutes, as cells of a table."""
    records, command = results[run], f"`{results.command(run)}`"
    if not records:
        return f"{command} | not trained yet | | | |"
    minutes = sorted(round(minutes_of(record)) for record in records)
    took = " to ".join(dict.fromkeys(map(str, (minutes[0], minutes[-1]))))
    mirrored = ours(results, run, "test_accuracy_mirrored") if run.changes.get("recipe") else ""
    return f"{command} | **{ours(results, run)}** | {mirrored} | {len(records[0]['history'])} | {took} |"
