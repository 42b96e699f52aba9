"""What REPORT.md says of runs that the original does not have: recipes, and SimpleCNN with two blocks."""

from collections.abc import Sequence
from statistics import mean

from lab.curves import column
from lab.original import BASELINE, SIMPLECNN
from lab.report.comparisons import difference, ours, points, unlike
from lab.report.runs import (
    RECIPES,
    RESNET18_RECIPE,
    RESNET18_SHORT,
    SIMPLECNN_RECIPE,
    SIMPLECNN_SHORT,
    TWO_BLOCKS,
    Records,
    Task,
)
from lab.settings import STEP_SIZE

WORDS = {  # for what a recipe changes
    "optimizer": "optimizer",
    "lr": "highest learning rate",
    "warmup": "schedule",
    "batch_size": "batch size",
    "epochs": "epochs",
    "weight_decay": "weight decay",
    "label_smoothing": "label smoothing",
    "dropout": "dropout (only SimpleCNN has a place for it)",
    "average": "average of the weights: what it keeps of itself in a step",
    "image_size": "height and width of the images",
    "growth": "share of the epochs after which they have grown to that, from 32",
    "rotation": "rotation, degrees at most",
    "validation": "validation images",
    "statistics": "mean and standard deviation of the pixels of",
}


def settings(tasks: Sequence[Task]) -> str:
    """A table of what the recipes change."""
    rows = [
        "| setting | as the original; where it is silent, our choice | SimpleCNN, recipe | ResNet-18, recipe |",
        "|---|---|---|---|",
    ]
    for name, words in WORDS.items():
        plain = dict.fromkeys(table_text(name, getattr(it.task, name)) for it in tasks)
        recipe = (table_text(name, getattr(it.recipe, name)) for it in tasks)
        rows.append(f"| {words} | {' or '.join(plain)} | {' | '.join(recipe)} |")
    return "\n".join(rows)


def table_text(name: str, value: object) -> str:
    if name == "warmup":
        return f"rises in {value:.0%} of the steps, then falls to 0" if value else f"halved every {STEP_SIZE} epochs"
    if name == "statistics":
        return {"first": "the first training image", "all": "all training images"}[value]
    return "none" if value == 0 else f"{value:g}" if isinstance(value, float) else str(value)


def networks(records: Records) -> str:
    """The rows of a table: each network as the original trains it, by its recipe, and by a short schedule of that."""
    rows = []
    for plain, full, short in (
        (SIMPLECNN, SIMPLECNN_RECIPE, SIMPLECNN_SHORT),
        (BASELINE, RESNET18_RECIPE, RESNET18_SHORT),
    ):
        rows.append(f"| {full.title}, the original | {plain.accuracy:.3f} | | | |")
        rows.append(row(f"{full.title}, as the original, `{plain.command()}`", records[plain.name]))
        rows.append(row(f"{full.title}, `{full.command()}`", records[full.name]))
        rows.append(row(f"{full.title}, `{short.command()}`", records[short.name]))
    return "\n".join(rows)


def row(title: str, runs: list[dict]) -> str:
    """Accuracy, the same with mirror images, epochs and minutes of one network with one training."""
    if not runs:
        return f"| {title} | not run yet | | | |"
    accuracy = ours(column(runs, "test_accuracy"))
    mirrored = ours(column(runs, "test_accuracy_mirrored")) if runs[0]["config"]["recipe"] else ""
    return f"| {title} | **{accuracy}** | {mirrored} | {len(runs[0]['history'])} | {minutes_of(runs)} |"


def shortest(records: Records) -> str:
    """Whether the short schedules reach the original's accuracies, in a sentence for each that has run."""
    sentences = []
    for plain, short in ((SIMPLECNN, SIMPLECNN_SHORT), (BASELINE, RESNET18_SHORT)):
        if runs := records[short.name]:
            accuracy = mean(column(runs, "test_accuracy"))
            reached = "reaches" if accuracy >= plain.accuracy else "does not reach"
            sentences.append(
                f"{short.title} {reached} the original's {plain.accuracy:.3f} in {len(runs[0]['history'])} epochs, or "
                f"{minutes_of(runs)} minutes, with {accuracy:.3f}."
            )
    return " ".join(sentences)


def minutes_of(runs: list[dict]) -> str:
    """How long a run took to train and validate: the shortest and the longest."""
    minutes = [f"{sum(column(record['history'], 'seconds')) / 60:.0f}" for record in runs]
    return " to ".join(dict.fromkeys([min(minutes, key=int), max(minutes, key=int)]))


def conditions_of(records: Records) -> str:
    """Under which conditions these were trained, on which the minutes depend."""
    return unlike([record for run in (SIMPLECNN, BASELINE, *RECIPES) for record in records[run.name]])


def third_block(records: Records) -> str:
    """What the third block of SimpleCNN is worth (lab report, question 8)."""
    if not (records[TWO_BLOCKS.name] and records[SIMPLECNN.name]):
        return f"*(not run yet: `{TWO_BLOCKS.command()}`)*"
    two, three = (column(records[run.name], "test_accuracy") for run in (TWO_BLOCKS, SIMPLECNN))
    gain, may = difference(records, SIMPLECNN, TWO_BLOCKS)
    reached = sum(accuracy > 0.8 for accuracy in two)
    return (
        f"Here, with this one setting, {reached or 'none'} of {len(two)} such runs gets above 80 %. The test accuracy "
        f"is {ours(two)} with two blocks and {ours(three)} with three: {100 * gain:+.1f} points, "
        f"{'within' if abs(gain) <= may else 'more than'} chance (±{points(may)}). "
        f"{unlike([*records[TWO_BLOCKS.name], *records[SIMPLECNN.name]])}"
    ).rstrip()
