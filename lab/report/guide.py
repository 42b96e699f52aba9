"""The text of GUIDE.md: guide.md, with what the records say of each rule, each ingredient, and each minute."""

import math
from collections.abc import Mapping
from statistics import mean, median

from lab.curves import COST, PATIENCE, patient_until
from lab.diagnosis import (
    GOOD,
    NO_CONVERGENCE,
    OSCILLATION,
    OVERFITTING,
    RULES,
    UNDERFITTING,
    Rule,
    diagnose,
)
from lab.original import (
    BASELINE,
    CONSTANT,
    FIGURES,
    HIGH,
    HIGH_CONSTANT,
    LOW_CONSTANT,
    NO_AUG,
    NO_NORM,
    SIMPLECNN,
    Experiment,
)
from lab.report.chance import difference, ours
from lab.report.claims import higher_rate_is_rougher
from lab.report.comparisons import changed_settings, highest, row
from lab.report.pages import filled
from lab.report.runs import (
    BATCH128,
    BEFORE,
    INGREDIENTS,
    RECIPES,
    RESNET18_SHORT,
    SIMPLECNN_RECIPE,
    TWO_BLOCKS,
    Results,
    Task,
    minutes_of,
)
from lab.schedule import best_of
from lab.settings import flags_for, option, settings_of

SHOWN = (*FIGURES, BATCH128, TWO_BLOCKS, *RECIPES[:2], *BEFORE)  # where a rule is looked for, the plainest first
CURES = {  # for a rule, a change that it advises, a run in which it was found, and one with the change
    OSCILLATION: ("normalization", NO_NORM, BASELINE),
    NO_CONVERGENCE: ("a falling rate", HIGH_CONSTANT, HIGH),
    OVERFITTING: ("augmentation", NO_AUG, BASELINE),
    UNDERFITTING: ("a tenth of the rate", HIGH, BASELINE),
}


def guide(results: Results, tasks: Mapping[str, Task]) -> str:
    """The guide in Markdown."""
    runs = SIMPLECNN, BASELINE, *RECIPES
    by_minutes = sorted(runs, key=lambda run: min(map(minutes_of, results[run]), default=math.inf))
    return filled(
        "guide.md",
        results,
        rules=rules(results),
        ingredients=ingredients(results),
        rows="\n".join(f"| {row(results, run)}" for run in by_minutes),
        patience=patience(results),
        settings=changed_settings([tasks[run.task] for run in (SIMPLECNN, BASELINE)]),
    )


def examples(results: Results) -> dict[Rule, dict]:
    """For each rule, the record of a run that it applies to, if there is one.

    It is the run that :data:`CURES` changes; of what is good, one that leaves nothing to change; else the first that is
    no other rule's example.
    """
    records = {record["run"]: record for run in SHOWN for record in results[run][:1]}
    found = {name: {rule: evidence for rule, evidence, _ in diagnose(record)} for name, record in records.items()}
    having = {rule: [name for name in records if rule in found[name]] for rule in RULES}
    ill = {rule: record["run"] for rule, (_, run, _) in CURES.items() for record in results[run][:1]}
    shown = {rule: name for rule, name in ill.items() if name in having[rule]}
    if having[GOOD]:
        shown[GOOD] = min(having[GOOD], key=lambda name: sum(bool(rule.advice) for rule in found[name]))
    for rule in RULES:
        if having[rule] and rule not in shown:
            shown[rule] = next((name for name in having[rule] if name not in shown.values()), having[rule][0])
    return {rule: records[name] for rule, name in shown.items()}


def rules(results: Results) -> str:
    """Each rule: how it is found, what to change, a picture of it, and what the change did in two of our runs.

    Those that no run shows stand in a table at the end.
    """
    shown, parts = examples(results), []
    for rule in sorted(shown, key=lambda rule: (rule is not GOOD, RULES.index(rule))):
        record = shown[rule]
        evidence = next(finding.evidence for finding in diagnose(record) if finding.rule is rule)
        picture = f"![{rule.name}: {record['run']}](plots/{record['run']}.png)"
        lines = [f"### {rule.name.capitalize()}", rule.sign, picture, f"`{record['run']}`: {evidence}"]
        if rule.advice:
            did = cured(rule, record, results) + (calmer(results) if rule is OSCILLATION else "")
            lines.append(f"**What to change.** {advice(rule)}{did}")
        parts.append("\n\n".join(lines))
    rows = [f"| {rule.name} | {rule.sign} | {advice(rule)} |" for rule in RULES if rule not in shown]
    head = "### Rules that no run here shows\n\n| | how it is found | what to change |\n|---|---|---|"
    return "\n\n".join([*parts, "\n".join([head, *rows])] if rows else parts)


def advice(rule: Rule) -> str:
    exceptions = ((option(setting), told[0].lower() + told[1:]) for setting, told in rule.exceptions.items())
    return rule.advice + "".join(f" With `{flag}`: {told}" for flag, told in exceptions)


def cured(rule: Rule, example: dict, results: Results) -> str:
    """What the advice of a rule did to the test accuracy of its example; empty where there are no two such runs."""
    if rule not in CURES:
        return ""
    change, ill, cured = CURES[rule]
    if not results[cured] or example not in results[ill][:1]:
        return ""
    gain = difference(results, cured, ill)
    head = f" **What {change} did** (figures {cured.figure} and {ill.figure}): the test accuracy is "
    return f"{head}{ours(results, cured)} instead of {ours(results, ill)}. That is {gain}."


def calmer(results: Results) -> str:
    """What lower rates do to the oscillation; empty where one of these runs is missing."""
    rates = HIGH_CONSTANT, CONSTANT, LOW_CONSTANT
    if results.missing(*rates):
        return ""
    measured, _ = higher_rate_is_rougher(*(results[run][0] for run in rates))
    return f" **What the rate did** (figures 7, 8 and 9, constant rates): {measured}."


def ingredients(results: Results) -> str:
    """The tables of both recipes without one of their ingredients, where all of it is trained; or how to train it."""
    recipes = SIMPLECNN_RECIPE, RESNET18_SHORT
    tables = {whole.title: without_one(results, whole) for whole in recipes}
    parts = [table for table in tables.values() if table]
    if missing := " and of ".join(title for title, table in tables.items() if not table):
        training = results.training("recipe", "ingredients")
        parts.append(f"*(Not all records of {missing} are there yet: {training} trains what is missing.)*")
    return "\n\n".join(parts)


def without_one(results: Results, whole: Experiment) -> str:
    """A table: a recipe without one of its ingredients, in the order of the test accuracy; "" if one is missing."""
    runs = [run for run in INGREDIENTS if run.title.startswith(f"{whole.title}, ")]
    if results.missing(whole, *runs):
        return ""
    head = "| setting changed | validation accuracy | test accuracy | points lost in the test |"
    rows = [f"**{whole.title}**:\n", head, "|---|---|---|---|"]
    for run in sorted(runs, key=results.mean):
        taken = {name: value for name, value in run.changes.items() if name not in whole.changes}
        validation, lost = mean(map(highest, results[run])), difference(results, whole, run)
        points, chance = round(100 * lost.gain, 1) + 0.0, "within" if lost.is_chance else "more than"  # no -0.0
        numbers = f"{validation:.3f} | {results.mean(run):.3f} | {points:.1f}, {chance} chance"
        rows.append(f"| `{' '.join(flags_for(taken))}` | {numbers} |")
    return "\n".join(rows)


def patience(results: Results) -> str:
    """What --patience would have saved and cost in our runs."""
    saved, cost = [], []
    for record in (record for run in (*FIGURES, BATCH128, TWO_BLOCKS) for record in results[run]):
        history, stop = record["history"], patient_until(record["history"], settings_of(record["config"]))
        saved.append(len(history) - stop)
        cost.append(best_of(history)["val_accuracy"] - best_of(history[:stop])["val_accuracy"])
    if len(saved) < 2:
        return ""
    dear, most = sum(it > COST for it in cost), max(cost)
    return (
        f"`--patience {PATIENCE}` stops a run that gains nothing for {PATIENCE} epochs. In the {len(saved)} runs that "
        "there are of figures 1 to 9, batches of 128 and two blocks, "
        f"it would have saved {min(saved)} to {max(saved)} epochs, {median(saved):.0f} in the median. It "
        f"would have cost {most:.3f} of validation accuracy at most, and more than {COST:g} in {dear} of these runs."
    )
