"""The text of REPORT.md: report.md, with what the records of the runs say."""

import contextlib
import io
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lab import curves
from lab.files import ROOT, seen_from
from lab.original import BASELINE, FIGURES, NO_AUG, NO_NORM, SIMPLECNN, Experiment
from lab.record import CLASSES, title_of
from lab.report import chance, claims
from lab.report.chance import from_original, ours
from lab.report.comparisons import COMPARISONS, before_and_after, between, of_unsaid
from lab.report.runs import RUNS, Results, Task, conditions
from lab.schedule import best_of
from lab.summary import print_summary

TASKS = SIMPLECNN, BASELINE  # the two tasks, as the original trains them
WIDTHS = {"confusion.png": 49, "mistakes.png": 49, "model.png": 55}  # of a picture, in % of the page; of others: 80
FOLDED = {"a": (NO_NORM,), "b": (NO_AUG,), "c": FIGURES[4:]}  # the runs of question 7, beside the baseline


def page(results: Results, tasks: Mapping[str, Task]) -> str:
    """The report in Markdown, in the order of the original."""
    left_out = "\n".join(f"- `plots/{path.name}`: {reason}" for path, reason in results.left_out.items())
    finished = [run for run in FIGURES if results[run]]
    training = results.training("original", "batches", "two-blocks", "unsaid")
    checked = [(claim, runs, checks(runs, check, results)) for claim, runs, check in claims.CLAIMS]
    parts = {
        "finished": number(len(finished)),
        "reproduced": number(sum(chance.is_reproduced(from_original(results, run)) for run in finished)),
        "nine": "\n".join(result(run, results) for run in FIGURES),
        "left_out": f"\n\nLeft out, because they cannot be used:\n\n{left_out}" if left_out else "",
        "missing": f"\n\nTo train what is *not trained yet* (many hours): {training}." if training else "",
        "claims": "\n".join(verdict(*it, results) for it in checked),
        "evidence": "\n".join(of_all_seeds(claim, found) for claim, _, found in checked if len(found) > 1),
        "yardstick": chance.yardstick(results),
        "totals": {run.task: summary(tasks[run.task])[0] for run in TASKS},
        "summary": {run.task: summary(tasks[run.task])[1] for run in TASKS},
        "figure": {run.name: figure(run, results) for run in TASKS},
        "errors": {run.name: errors(run, results) for run in TASKS},
        "cell": {run.name: cell(run, results) for run in FIGURES},
        "comparison": {name: comparison(name, results) for name in COMPARISONS},
        "folded": {part: folded(runs, results) for part, runs in FOLDED.items()},
        "unsaid": of_unsaid(results),
        "before_and_after": before_and_after(results),
        "conditions": conditions(results),
    }
    return filled("report.md", results, chance=chance, limits=claims, curves=curves, **parts)


def filled(template: str, results: Results, **parts: object) -> str:
    """A template of this folder with its ``parts``, without what interprets other records.

    Where a picture is missing, the text says what draws it. The others are written as HTML, with their width:
    else a browser prints them beyond the edge of the page.
    """
    text = only_true(Path(__file__).with_name(template).read_text(encoding="utf-8"), results)
    root = Path(seen_from(results.output_dir, ROOT)).as_posix()
    text = text.format(place=results.place, root="" if root == "." else f"{root}/", **parts)

    def drawn(found: re.Match) -> str:
        words, path = found.groups()
        if (results.output_dir / path).exists():
            return f'<img src="{path}" alt="{words}" width="{WIDTHS.get(path.rpartition("_")[2], 80)}%">'
        of_a_run = path.startswith(tuple(f"plots/{run.task}" for run in RUNS.values()))
        by = "its script with `--resume`" if of_a_run else f"`python report.py --plot{results.place}`"
        return f"*({by} draws `{path}`)*"

    text = re.sub(r"!\[(.*?)\]\((plots/.*?\.png)\)", drawn, text)
    return re.sub(r"\n{3,}", "\n\n", text)  # where a part is empty


def only_true(template: str, results: Results) -> str:
    """Leave out what interprets other records than these.

    It stands between ``<!-- on DIGEST: NAMES -->`` and ``<!-- -->``, where DIGEST is :meth:`Results.digest` of the runs
    with these NAMES, or *any*: then it says of them what their settings do, with whatever numbers.
    """

    def kept(found: re.Match) -> str:
        digest, names, text = found[1], found[2].split(), found[3]
        is_true = all(results.records[name] for name in names) if digest == "any" else results.digest(*names) == digest
        return text if is_true else ""

    written_on = re.compile(r"<!-- on (\w+): (.*?) -->\n(.*?\n)<!-- -->\n", re.DOTALL)
    return written_on.sub(kept, template)


def number(count: int) -> str:
    return ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")[count]


def summary(task: Task) -> tuple[str, str]:
    """FLOPs and parameters in a sentence, and the table of layers."""
    with contextlib.redirect_stdout(io.StringIO()) as text:
        print_summary(task.network(task.task))
    totals, table = text.getvalue().strip().split("\n", 1)
    flops, parameters = (float(it) for it in re.findall(r"[\d.]+", totals))
    return f"{flops:,.0f} FLOPs, {parameters:,.0f} parameters.", f"```\n{totals}\n{table}\n```"


def result(run: Experiment, results: Results) -> str:
    """A row of a table: the original's accuracy, ours, and whether it is the same."""
    row = f"| {run.figure}, {run.title} | {run.accuracy:.3f} |"
    if not results[run]:
        return f"{row} {results.missing(run)} | | |"
    difference = from_original(results, run)
    return f"{row} **{ours(results, run)}** | {difference} | {'yes' if chance.is_reproduced(difference) else 'no'} |"


def checks(runs: Sequence[Experiment], check: Callable, results: Results) -> dict[int, claims.Verdict]:
    """What a claim's check says of each seed that all its ``runs`` have."""
    seeds = [{record["config"]["seed"]: record for record in results[run]} for run in runs]
    return {seed: check(*(of[seed] for of in seeds)) for seed in seeds[0] if all(seed in of for of in seeds)}


def verdict(claim: str, runs: Sequence[Experiment], found: dict[int, claims.Verdict], results: Results) -> str:
    """A row of a table: a claim of the original, its figures, whether it holds, and what the first seed measures."""
    figures = ", ".join(str(run.figure) for run in runs)
    if not found:
        measured = results.missing(*runs) or "no seed has been run for all of them"
        return f"| {claim} | {figures} | open | {measured} |"
    holds = [it for _, it in found.values()]
    seeds = "one seed" if len(holds) == 1 else f"{len(holds)} seeds"
    told = f"{'holds' if any(holds) else 'not confirmed'} ({seeds})"
    if any(holds) and len(holds) > 1:
        told = f"holds with {sum(holds)} of {seeds}"
    measured, _ = next(iter(found.values()))
    return f"| {claim} | {figures} | {told} | {measured} |"


def of_all_seeds(claim: str, found: dict[int, claims.Verdict]) -> str:
    """What each seed measures of a claim, as an item of a list."""
    return f"- {claim} " + " ".join(f"*Seed {seed}:* {measured}." for seed, (measured, _) in found.items())


def cell(run: Experiment, results: Results) -> str:
    """The original's accuracy, ours, and the difference."""
    lines = [f"the original: {run.accuracy:.3f} (figure {run.figure})", results.missing(run)]
    if results[run]:
        lines = [lines[0], f"ours: **{ours(results, run)}**", str(from_original(results, run))]
        lines.append(f"validation loss up and down by {between(claims.rough(results[run]))} (median of all epochs)")
    return "<br>".join(lines)


def comparison(name: str, results: Results) -> str:
    """The curves of several runs in one picture, and what follows from them; or which of the runs are missing."""
    rows, conclude = COMPARISONS[name]
    runs = sum(rows, ())
    if missing := results.missing(*runs):
        return f"*({missing})*"
    picture = f"![Loss and accuracy of {', '.join(run.title for run in runs)}](plots/compare_{name}.png)"
    return f"{picture}\n\n**Conclusion.** {conclude(results)}"


def figure(run: Experiment, results: Results) -> str:
    """The result of a run, and its curves."""
    title = f"**Figure {run.figure}: {run.title}.**"
    there = f"the original: test accuracy {run.accuracy:.3f}{f', loss {run.loss:.3f}' if run.loss else ''}"
    if not results[run]:
        return f"{title} `{results.command(run)}`: {results.missing(run)} ({there})."
    record, name, words = results[run][0], results[run][0]["run"], title_of(results[run][0])
    best, seed = best_of(record["history"]), record["config"]["seed"]
    caption = (
        f"{title} `{results.command(run, *['--seed', str(seed)] * bool(seed))}`: test accuracy "
        f"{record['test_accuracy']:.3f}, loss {record['test_loss']:.3f} ({there}); best epoch {best['epoch']}, with a "
        f"validation accuracy of {best['val_accuracy']:.3f}."
    )
    if len(results[run]) > 1:
        caption += f" This is seed {seed}, of {len(results[run])}: {ours(results, run)}."
    return f"{caption}\n\n![Loss and accuracy of {words}](plots/{name}.png)"


def errors(run: Experiment, results: Results) -> str:
    """Where a run errs."""
    if not results[run]:
        return ""
    record, name, words = results[run][0], results[run][0]["run"], title_of(results[run][0])
    matrix = f"![Confusion matrix of {words}](plots/{name}_confusion.png)"
    gallery = f"![The most confident mistakes of {words}](plots/{name}_mistakes.png)"
    return f"{worst_pair(record['confusion_matrix'])}\n\n{matrix} {gallery}"


def folded(runs: Sequence[Experiment], results: Results) -> str:
    """The figures of these runs, folded."""
    names = "Figure" if len(runs) == 1 else "Figures"
    numbers = str(runs[0].figure) if len(runs) == 1 else f"{runs[0].figure} to {runs[-1].figure}"
    figures = "\n\n".join(figure(run, results) for run in runs)
    return f"<details><summary>{names} {numbers}: the curves</summary>\n\n{figures}\n\n</details>"


def worst_pair(confusion: list[list[int]]) -> str:
    """The two classes that are most often taken for each other, in a sentence."""
    pairs = itertools.combinations(range(10), 2)
    one, two = max(pairs, key=lambda pair: confusion[pair[0]][pair[1]] + confusion[pair[1]][pair[0]])
    errors = sum(map(sum, confusion)) - sum(confusion[i][i] for i in range(10))
    share = 100 * (confusion[one][two] + confusion[two][one]) / max(errors, 1)
    return (
        f"It most often confuses {CLASSES[one]} and {CLASSES[two]}: {confusion[one][two]} of {sum(confusion[one]):,} "
        f"images of class {CLASSES[one]} are taken for class {CLASSES[two]}, and {confusion[two][one]} of "
        f"{sum(confusion[two]):,} the other way round. That is {share:.0f} % of all {errors:,} errors."
    )
