"""What REPORT.md says beyond the original: the two networks by their recipes, and what each ingredient is worth."""

import json
import math
from collections.abc import Sequence
from statistics import mean, stdev

from lab.claims import BASELINE, SIMPLECNN, TASK1, TASK2, Experiment
from lab.comparisons import Records, ours, points, unlike
from lab.curves import column
from lab.flags import PLAIN, ROOT
from lab.record import STEP_SIZE, best_of
from lab.variants import NOT_YET

SIMPLECNN_RECIPE = Experiment("SimpleCNN", TASK1, {"recipe": True}, None, None)
RESNET18_RECIPE = Experiment("ResNet-18", TASK2, {"recipe": True}, None, None)
SIMPLECNN_SHORT = Experiment("SimpleCNN", TASK1, {"recipe": True, "epochs": 10}, None, None)
RESNET18_SHORT = Experiment("ResNet-18", TASK2, {"recipe": True, "epochs": 10}, None, None)
WHOLE = (SIMPLECNN_RECIPE, RESNET18_RECIPE)
RECIPES = (*WHOLE, SIMPLECNN_SHORT, RESNET18_SHORT)
INGREDIENTS = ROOT / "benchmarks" / "ingredients.json"
TAKEN_AWAY = {  # for a setting of SimpleCNN's recipe, the ingredient that it is, and what stands in its place
    "lr": ("a highest rate above the original's", "the original's rate"),
    "warmup": ("a rate that rises and falls in one cycle", "StepLR from the same rate"),
    "weight_decay": ("weight decay", "none"),
    "label_smoothing": ("label smoothing", "none"),
    "dropout": ("no dropout", "the original's"),
    "average": ("the average of the weights", "the last weights"),
    "rotation": ("no rotation", "the original's"),
    "statistics": ("normalization by all training images", "by the first one"),
}
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
    "augmented_validation": "validation images augmented",
    "statistics": "mean and standard deviation of the pixels of",
}


def settings(tasks: Sequence[tuple[dict, dict]]) -> str:
    """A table of what the recipes change, from the defaults and the recipes of both tasks."""
    before = [PLAIN | defaults for defaults, _ in tasks]
    after = [PLAIN | defaults | recipe for defaults, recipe in tasks]
    rows = [
        "| setting | as the original; where it is silent, our choice | SimpleCNN, recipe | ResNet-18, recipe |",
        "|---|---|---|---|",
    ]
    for name, words in WORDS.items():
        plain, recipe = ([table_text(name, values[name]) for values in each] for each in (before, after))
        rows.append(f"| {words} | {' or '.join(dict.fromkeys(plain))} | {' | '.join(recipe)} |")
    return "\n".join(rows)


def table_text(name: str, value: object) -> str:
    if name == "warmup" and value:
        return f"rises in {100 * value:.0f} % of the steps, then falls to 0"
    if name == "warmup":
        return f"halved every {STEP_SIZE} epochs"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value == 0 else f"{value:g}" if isinstance(value, float) else str(value)


def networks(records: Records, recipes: Records) -> str:
    """The rows of a table: each network as the original trains it, by its recipe, and by a short schedule of that."""
    rows = []
    for plain, full, short in (
        (SIMPLECNN, SIMPLECNN_RECIPE, SIMPLECNN_SHORT),
        (BASELINE, RESNET18_RECIPE, RESNET18_SHORT),
    ):
        rows.append(f"| {full.title}, the original | {plain.accuracy:.3f} | | | |")
        rows.append(row(f"{full.title}, as the original, `{plain.command()}`", records[plain.name]))
        rows.append(row(f"{full.title}, `{full.command()}`", recipes[full.name]))
        rows.append(row(f"{full.title}, `{short.command()}`", recipes[short.name]))
    return "\n".join(rows)


def row(title: str, runs: list[dict]) -> str:
    """Accuracy, the same with mirror images, epochs and minutes of one network with one training."""
    if not runs:
        return f"| {title} | not run yet | | | |"
    accuracy = ours(column(runs, "test_accuracy"))
    mirrored = ours(column(runs, "test_accuracy_mirrored")) if runs[0]["config"]["recipe"] else ""
    return f"| {title} | **{accuracy}** | {mirrored} | {len(runs[0]['history'])} | {minutes_of(runs)} |"


def shortest(recipes: Records) -> str:
    """Whether the short schedules reach the original's accuracies, in a sentence for each that has run."""
    sentences = []
    for plain, short in ((SIMPLECNN, SIMPLECNN_SHORT), (BASELINE, RESNET18_SHORT)):
        if runs := recipes[short.name]:
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


def conditions_of(records: Records, recipes: Records) -> str:
    """Under which conditions these were trained, on which the minutes depend."""
    runs = records[SIMPLECNN.name], records[BASELINE.name], *recipes.values()
    return unlike([record for of in runs for record in of])


def ingredients(recipes: Records) -> str:
    """A table of what SimpleCNN's recipe loses on validation with one ingredient taken away; or that it is missing.

    The whole recipe in it is that of seed 0, which the other runs have, too: so all have the same validation images.
    """
    whole = recipes[SIMPLECNN_RECIPE.name]
    if len(whole) < 3 or whole[0]["config"]["seed"] != 0 or not INGREDIENTS.exists():
        return NOT_YET
    results = json.loads(INGREDIENTS.read_text())
    if not results["recipe"].items() <= whole[0]["config"].items():
        return NOT_YET  # with this recipe
    full = [best_of(record["history"])["val_accuracy"] for record in whole]
    may = 2 * stdev(full) * math.sqrt(2)
    rows = [f"| nothing | | {full[0]:.3f} | |"]
    for run in sorted(results["runs"], key=lambda run: run["val_accuracy"]):
        ingredient, instead = TAKEN_AWAY[run["without"]]
        loss = full[0] - run["val_accuracy"]
        verdict = "more than chance" if abs(loss) > may else "within chance"
        rows.append(f"| {ingredient} | {instead} | {run['val_accuracy']:.3f} | {100 * loss:+.2f}, {verdict} |")
    head = "| taken away | in its place | validation accuracy | points lost |\n|---|---|---|---|"
    chance = (
        f"Chance may do {points(may)} points: twice the standard deviation over {len(full)} seeds of the whole "
        f"recipe, {ours(full)}, times √2. From so few seeds that is a weak estimate: the true deviation may well be "
        "twice as large, and one or two of these runs may differ by more with nothing behind it. On the other hand, "
        "each seed has other validation images, and the runs of the table have the same ones."
    )
    done = column(results["runs"], "without")
    left = "; ".join(ingredient for name, (ingredient, _) in TAKEN_AWAY.items() if name not in done)
    not_yet = f"Not taken away yet: {left}." if left else ""
    others = [run | {"run": f"all but *{TAKEN_AWAY[run['without']][0]}*"} for run in results["runs"]]
    alike = unlike([whole[0] | {"run": "the whole recipe"}, *others])
    return "\n\n".join(filter(None, ["\n".join([head, *rows]), not_yet, chance, alike]))
