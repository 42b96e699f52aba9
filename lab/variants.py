"""What REPORT.md says of runs with something changed that no flag changes, whose results benchmarks/ keeps."""

import json
from statistics import mean

from lab.claims import FIGURES, SIMPLECNN, Experiment
from lab.comparisons import COMPARISONS, Records, chance, from_original, ours, points, unlike
from lab.curves import column
from lab.flags import ROOT

TWO_BLOCKS = ROOT / "benchmarks" / "two_blocks.json"
L2_PENALTY = ROOT / "benchmarks" / "l2_penalty.json"
NOT_YET = "*(not run yet)*"


def third_block(records: Records) -> str:
    """What the third block of SimpleCNN is worth, from runs without it (lab report, question 8)."""
    if not (TWO_BLOCKS.exists() and records[SIMPLECNN.name]):
        return NOT_YET
    two_blocks = json.loads(TWO_BLOCKS.read_text())["runs"]
    two, three = (column(runs, "test_accuracy") for runs in (two_blocks, records[SIMPLECNN.name]))
    gain, may = mean(three) - mean(two), chance(records | {"two_blocks": two_blocks}, len(three), len(two))
    reached = sum(accuracy > 0.8 for accuracy in two)
    within = "within" if abs(gain) <= may else "more than"
    return (
        f"Here, with this one setting, {reached or 'none'} of {len(two)} such runs gets above 80 %. The test accuracy "
        f"is {ours(two)} with two blocks and {ours(three)} with three: {100 * gain:+.1f} points, {within} chance "
        f"(±{points(may)}). {unlike([*two_blocks, *records[SIMPLECNN.name]])}"
    ).rstrip()


def penalized(records: Records) -> dict[str, dict]:
    """For the names of our runs that were trained with an L2 penalty, too, the results of that."""
    results = json.loads(L2_PENALTY.read_text())["runs"] if L2_PENALTY.exists() else []
    return {it["of"]: it for it in results if records[it["of"]]}


def l2_penalty(records: Records) -> str:
    """A table of the original's test accuracies, ours, and ours with an L2 penalty; or that there is none yet."""
    if not (results := penalized(records)):
        return NOT_YET
    rows, nearer, compared = ["| run | original | ours | ours, with an L2 penalty |", "|---|---|---|---|"], 0, []
    for run in [run for run in FIGURES if run.name in results]:
        result = results[run.name]
        off, _ = from_original(records, run)
        with_penalty = result["test_accuracy"] - run.accuracy
        epochs = len(records[run.name][0]["history"])
        fewer = f", after {result['epochs']} epochs" if result["epochs"] != epochs else ""
        accuracies = ours(column(records[run.name], "test_accuracy"))
        rows.append(
            f"| figure {run.figure}, {run.title} | {run.accuracy:.3f} | {accuracies} ({off:+.3f}) | "
            f"{result['test_accuracy']:.3f} ({with_penalty:+.3f}){fewer} |"
        )
        nearer += abs(with_penalty) < abs(off)
        compared += [*records[run.name], result]
    count = f"Nearer to the original with the penalty: {nearer or 'none'} of {len(results)}."
    if nearer == len(results):
        count += " That speaks for a penalty, but proves none: other causes may have the same effect."
    rates, _ = COMPARISONS["learning_rate"]
    if untried := [
        f"figure {run.figure}" for run in FIGURES if any(run in row for row in rates) and run.name not in results
    ]:
        count += f" Not tried with a penalty: {', '.join(untried)}."
    return "\n\n".join(filter(None, ["\n".join(rows), count, unlike(compared)]))


def of_penalty(run: Experiment, records: Records) -> str:
    """How much of a run's difference from the original an L2 penalty explains; "" if it was not trained with one."""
    if not (result := penalized(records).get(run.name)):
        return ""
    (off, _), may = from_original(records, run), chance(records, 1, 1)
    left = result["test_accuracy"] - run.accuracy
    explains = "would explain it" if abs(left) <= may else "would explain more than half of it"
    if abs(left) > abs(off) / 2:
        explains = "does not explain it"
    return (
        f"An L2 penalty, which the original does not mention, {explains}: with one, the accuracy is "
        f"{result['test_accuracy']:.3f}, so the difference {left:+.3f} ([An L2 penalty?](#an-l2-penalty))."
    )
