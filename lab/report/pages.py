"""The text of REPORT.md: page.md, with what the records of the runs say."""

import contextlib
import io
import re
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from lab.curves import column
from lab.diagnosis import RULES, Rule
from lab.files import network_picture
from lab.original import FIGURES
from lab.record import conditions
from lab.report import recipes
from lab.report.claims import ABOUT, CLAIMS, CLEARLY, NOISE, ROUGHER
from lab.report.comparisons import COMPARISONS, conclusion, lacking, yardstick
from lab.report.figures import bullets, cell, figure, folded, picture, place
from lab.report.runs import BATCH128, RESNET18_RECIPE, SIMPLECNN_RECIPE, Records, Task
from lab.settings import option
from lab.summary import print_summary

TEMPLATE = Path(__file__).with_name("page.md")
FLOPS = {  # as the original prints them
    "task1_simplecnn": "FLOPs: 10571776.0 Params: 114186.0",
    "task2_resnet18": "FLOPs: 37220352.0 Params: 11181642.0",
}
TO_FINISH = " `python report.py --run` trains the others, one after the other, and writes this page again."
LEFT_OUT = "Left out, because they cannot be used, and shown as not run:"


def page(records: Records, skipped: Mapping[str, str], output_dir: Path, tasks: Mapping[str, Task]) -> str:
    """The report in Markdown, in the order of the original; ``skipped`` are unusable records, each with the reason."""
    finished = sum(bool(records[run.name]) for run in FIGURES)
    names = bullets(f"`plots/{name}`: {reason}" for name, reason in skipped.items())
    originals = {name: it for name, it in tasks.items() if name in FLOPS}
    parts = {
        "finished": finished,
        "all": len(FIGURES),
        "to_finish": "" if all(records[run.name] for run in (*FIGURES, BATCH128)) else TO_FINISH,
        "yardstick": yardstick(records),
        "results": picture("results", "The original's accuracies, and ours", output_dir, "python report.py --plot"),
        "left_out": f"{LEFT_OUT}\n\n{names}" if skipped else "",
        "summary": {name: summary(name, it.network(it.task), output_dir) for name, it in originals.items()},
        "trained": {name: trained(records[name][0]) if records[name] else "" for name in originals},
        "figure": {run.name: figure(run, records, output_dir) for run in FIGURES},
        "recipe": {run.task: figure(run, records, output_dir) for run in (SIMPLECNN_RECIPE, RESNET18_RECIPE)},
        "cell": {run.name: cell(run, records, output_dir) for run in FIGURES},
        "comparison": {name: comparison(name, records, output_dir) for name in COMPARISONS},
        "two_blocks": recipes.third_block(records),
        "claims": claims(records),
        "about": ABOUT,
        "clearly": CLEARLY,
        "rougher": ROUGHER,
        "noise": NOISE,
        "settings": recipes.settings(list(originals.values())),
        "networks": recipes.networks(records),
        "shortest": recipes.shortest(records),
        "conditions": recipes.conditions_of(records),
        "rules": "\n".join(row_of(rule) for rule in RULES if rule.advice),
    }
    for setting in ("batch_size", "lr", "epochs"):
        parts[setting] = {name: getattr(it.task, setting) for name, it in originals.items()}
    text = TEMPLATE.read_text(encoding="utf-8").format(**parts)
    return re.sub(r"\n{3,}", "\n\n", text)  # where a part is empty, or ends in an empty line of its own


def summary(task: str, network: nn.Module, output_dir: Path) -> str:
    """FLOPs and parameters beside those of the original, the table of layers, and the picture."""
    with contextlib.redirect_stdout(io.StringIO()) as text:
        print_summary(network)
    first, _, table = text.getvalue().partition("\n")
    same = "as in the original" if first == FLOPS[task] else f"the original has {FLOPS[task]}"
    layers, command = f"The layers of {type(network).__name__}", f"python {task}.py --resume"
    drawn = picture(network_picture(output_dir, task, 32).stem, layers, output_dir, command)
    table = f"```\n{table.strip()}\n```"
    table = folded("The table of layers", table) if table.count("\n") > 40 else table
    return f"{first} ({same}).\n\n{table}\n\n{drawn}"


def trained(record: dict) -> str:
    """On what our run was trained, as one more line of a list."""
    minutes = sum(column(record["history"], "seconds")) / 60
    first, *later = record["environments"]
    changes = "".join(f"; from epoch {it['from_epoch']} on: {conditions(it)}" for it in later)
    return f"\n- Trained in {minutes:.0f} minutes: {conditions(first)}{changes}"


def comparison(name: str, records: Records, output_dir: Path) -> str:
    """The curves of several runs in one picture, and what follows from them; or which of the runs are missing."""
    if runs := lacking(name, records):
        return f"*(not compared yet: {', '.join(map(place, runs))} not run yet)*"
    rows, _ = COMPARISONS[name]
    title = f"Loss and accuracy of {', '.join(run.title for row in rows for run in row)}"
    drawn = picture(f"compare_{name}", title, output_dir, "python report.py --plot")
    return f"{drawn}\n\n{conclusion(name, records)}"


def row_of(rule: Rule) -> str:
    """A row of a table: the name of a rule, how it is found, and what to change next."""
    flags = {}
    for setting, advice in rule.exceptions.items():
        flags.setdefault(advice, []).append(f"`{option(setting)}`")
    exceptions = "".join(f" With {' or '.join(names)}: {advice}" for advice, names in flags.items())
    return f"| {rule.name} | {rule.sign} | {rule.advice}{exceptions} |"


def claims(records: Records) -> str:
    """The rows of a table: each claim of the original with its figures, what our runs measure, and whether it holds."""
    rows = []
    for claim, (check, runs) in CLAIMS.items():
        seeds = [{record["config"]["seed"]: record for record in records[run.name]} for run in runs]
        results = {seed: check(*(of[seed] for of in seeds)) for seed in seeds[0] if all(seed in of for of in seeds)}
        figures = ", ".join(str(run.figure) for run in runs if run.figure)
        if len(results) == 1:
            ((measured, holds),) = results.values()
            verdict = f"{'holds' if holds else 'does not hold'} (one seed)"
        elif results:
            held = sum(holds for _, holds in results.values())
            measured = "<br>".join(f"seed {seed}: {text}" for seed, (text, _) in results.items())
            verdict = f"holds with {held} of {len(results)} seeds"
        else:
            names = ", ".join(place(run) for run in runs if not records[run.name])
            measured = f"{names} not run yet" if names else "no seed has been run for all of them"
            verdict = "open"
        rows.append(f"| {claim} | {figures} | {measured} | {verdict} |")
    return "\n".join(rows)
