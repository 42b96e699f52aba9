"""The text of REPORT.md: page.md, with what the records of the runs say."""

import contextlib
import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lab.curves import column
from lab.diagnosis import RULES, Rule, diagnose
from lab.original import FIGURES, Experiment
from lab.record import CLASSES, conditions, title_of
from lab.report import chance, claims
from lab.report.chance import from_original, ours, since, unlike
from lab.report.comparisons import COMPARISONS, before_and_after, between, changed_settings, of_unsaid, row
from lab.report.runs import RECIPES, Results, Task
from lab.schedule import best_of
from lab.settings import option
from lab.summary import print_summary

TEMPLATE = Path(__file__).with_name("page.md")
TASKS = FIGURES[:2]  # the two tasks, as the original trains them


def page(results: Results, tasks: Mapping[str, Task]) -> str:
    """The report in Markdown, in the order of the original."""
    left_out = "\n".join(f"- `plots/{path.name}`: {reason}" for path, reason in results.left_out.items())
    text = only_true(TEMPLATE.read_text(encoding="utf-8"), results).format(
        finished=sum(bool(results[run]) for run in FIGURES),
        place=results.place,
        left_out=f"\n\nLeft out, because they cannot be used:\n\n{left_out}" if left_out else "",
        yardstick=chance.yardstick(results),
        nine="\n".join(result(run, results) for run in FIGURES),
        chance=chance,
        claims="\n".join(verdict(*claim, results) for claim in claims.CLAIMS),
        limits=claims,
        summary={run.task: summary(tasks[run.task]) for run in TASKS},
        trained={run.task: trained(results[run]) if results[run] else "" for run in TASKS},
        figure={run.name: figure(run, results) for run in (*FIGURES, *RECIPES[:2])},
        cell={run.name: cell(run, results) for run in FIGURES},
        comparison={name: comparison(name, results) for name in COMPARISONS},
        unsaid=of_unsaid(results),
        before_and_after=before_and_after(results),
        rules="\n".join(row_of(rule) for rule in RULES if rule.advice),
        settings=changed_settings([tasks[run.task] for run in TASKS]),
        row={run.name: row(results, run) for run in (*TASKS, *RECIPES)},
        conditions=unlike(record for run in (*TASKS, *RECIPES) for record in results[run]),
    )

    for picture, path in re.findall(r"(!\[.*\]\((plots/.*\.png)\))", text):
        text = text if (results.output_dir / path).exists() else text.replace(picture, f"*(`{path}` is missing)*")
    return re.sub(r"\n{3,}", "\n\n", text)  # where a part is empty


def only_true(template: str, results: Results) -> str:
    """Leave out what interprets other records than these.

    It stands between ``<!-- on DIGEST: NAMES -->`` and ``<!-- -->``, where DIGEST is :meth:`Results.digest` of the runs
    with these NAMES.
    """
    written_on = re.compile(r"<!-- on (\w+): (.*?) -->\n(.*?\n)<!-- -->\n", re.DOTALL)
    return written_on.sub(lambda it: it[3] if results.digest(*it[2].split()) == it[1] else "", template)


def summary(task: Task) -> str:
    """FLOPs, parameters, and the table of layers."""
    with contextlib.redirect_stdout(io.StringIO()) as text:
        print_summary(task.network(task.task))
    return f"```\n{text.getvalue().strip()}\n```"


def trained(records: list[dict]) -> str:
    """On what our run was trained, as one more line of a list."""
    minutes = sum(column(records[0]["history"], "seconds")) / 60
    where = "; ".join(conditions(it) + since(it) for it in records[0]["environments"])
    return f"\n- Trained in {minutes:.0f} minutes: {where}"


def result(run: Experiment, results: Results) -> str:
    """A row of a table: the original's accuracy, ours, and whether it is the same."""
    row = f"| {run.figure}, {run.title} | {run.accuracy:.3f} |"
    if not results[run]:
        return f"{row} {results.missing(run)} | | |"
    difference = from_original(results, run)
    return f"{row} **{ours(results, run)}** | {difference} | {'yes' if chance.is_reproduced(difference) else 'no'} |"


def verdict(claim: str, runs: Sequence[Experiment], check: Callable[..., claims.Verdict], results: Results) -> str:
    """A row of a table: a claim of the original with its figures, what our runs measure, and whether it holds."""
    seeds = [{record["config"]["seed"]: record for record in results[run]} for run in runs]
    checked = {seed: check(*(of[seed] for of in seeds)) for seed in seeds[0] if all(seed in of for of in seeds)}
    if not checked:
        measured, found = results.missing(*runs) or "no seed has been run for all of them", "open"
    elif len(checked) == 1:
        ((measured, holds),) = checked.values()
        found = f"{'holds' if holds else 'does not hold'} (one seed)"
    else:
        measured = "<br>".join(f"seed {seed}: {text}" for seed, (text, _) in checked.items())
        found = f"holds with {sum(holds for _, holds in checked.values())} of {len(checked)} seeds"
    figures = ", ".join(str(run.figure) for run in runs)
    return f"| {claim} | {figures} | {measured} | {found} |"


def cell(run: Experiment, results: Results) -> str:
    """The original's accuracy, ours, the difference, and how rough our curve is."""
    lines = [f"original: {run.accuracy:.3f} (figure {run.figure})", results.missing(run)]
    if results[run]:
        lines = [lines[0], f"ours: **{ours(results, run)}**", f"difference: {from_original(results, run)}"]
        lines.append(f"up and down by {between(claims.rough(results[run]))} an epoch")
    return "<br>".join(lines)


def comparison(name: str, results: Results) -> str:
    """The curves of several runs in one picture, and what follows from them; or which of the runs are missing."""
    rows, conclude = COMPARISONS[name]
    runs = sum(rows, ())
    if missing := results.missing(*runs):
        return f"*({missing})*"
    picture = f"![Loss and accuracy of {', '.join(run.title for run in runs)}](plots/compare_{name}.png)"
    conclusion = f"**Conclusion.** {conclude(results)}"
    return f"{picture}\n\n{conclusion}\n\n{unlike(record for run in runs for record in results[run])}"


def figure(run: Experiment, results: Results) -> str:
    """The curves of a run, their reading, and where it errs."""
    title = f"**Figure {run.figure}: {run.title}**" if run.figure else f"**{run.title}**"
    if not results[run]:
        return f"{title}: {results.missing(run)}\n"
    record, name, words = results[run][0], results[run][0]["run"], title_of(results[run][0])
    best, seed = best_of(record["history"]), record["config"]["seed"]
    caption = (
        f"Test loss: {record['test_loss']:.3f}, test accuracy: **{record['test_accuracy']:.3f}**. Best epoch: "
        f"{best['epoch']}, with a validation accuracy of {best['val_accuracy']:.3f}. "
        f"`{results.command(run, *['--seed', str(seed)] * bool(seed))}`"
    )
    if len(results[run]) > 1:
        caption += f" This is seed {seed}, of {len(results[run])} seeds: {ours(results, run)}."
    if run.figure:
        original = " and ".join(f"{number:.3f}" for number in (run.loss, run.accuracy) if number)
        caption += f" The original: {original}; the difference: {from_original(results, run)}."
    reading = "\n".join(
        f"- **{rule.name.capitalize()}.** {evidence}{f' *Next:* {advice}' * bool(advice)}"
        for rule, evidence, advice in diagnose(record)
    )
    curves = f"![Loss and accuracy of {words}](plots/{name}.png)\n\nWhat the curves show:\n\n{reading}"
    errors = worst_pair(record["confusion_matrix"])
    if run in TASKS:
        errors += f"\n\n![Confusion matrix of {words}](plots/{name}_confusion.png)"
        errors += f"\n\n![The most confident mistakes of {words}](plots/{name}_mistakes.png)"
    return "\n\n".join([title, caption, curves, errors, ""])


def worst_pair(confusion: list[list[int]]) -> str:
    """The two classes that are most often taken for each other, in a sentence."""
    pairs = [(one, two) for one in range(10) for two in range(one)]
    two, one = max(pairs, key=lambda pair: confusion[pair[0]][pair[1]] + confusion[pair[1]][pair[0]])
    errors = sum(map(sum, confusion)) - sum(confusion[i][i] for i in range(10))
    share = 100 * (confusion[one][two] + confusion[two][one]) / max(errors, 1)
    return (
        f"It most often confuses {CLASSES[one]} and {CLASSES[two]}: {confusion[one][two]} of {sum(confusion[one]):,} "
        f"images of class {CLASSES[one]} are taken for class {CLASSES[two]}, and {confusion[two][one]} of "
        f"{sum(confusion[two]):,} the other way round. That is {share:.0f} % of all {errors:,} errors."
    )


def row_of(rule: Rule) -> str:
    """A row of a table: the name of a rule, how it is found, and what to change next."""
    exceptions = "".join(f" With `{option(setting)}`: {advice}" for setting, advice in rule.exceptions.items())
    return f"| {rule.name} | {rule.sign} | {rule.advice}{exceptions} |"
