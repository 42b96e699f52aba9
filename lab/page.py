"""The text of REPORT.md: page.md, with what the records of the runs say."""

import contextlib
import io
import re
from collections.abc import Iterable
from pathlib import Path
from statistics import mean, stdev

from torch import nn

from lab.cifar10 import CLASSES
from lab.claims import BASELINE, CLAIMS, FIGURES, NO_AUG, NO_NORM, TASK1, TASK2, Experiment
from lab.curves import column
from lab.diagnosis import diagnose
from lab.files import Files
from lab.flags import option
from lab.record import best_of
from lab.rules import INSTEAD, RULES
from lab.summary import print_summary

TEMPLATE = Path(__file__).with_name("page.md")
FLOPS = {TASK1: "FLOPs: 10571776.0 Params: 114186.0", TASK2: "FLOPs: 37220352.0 Params: 11181642.0"}  # the report's
TO_FINISH = " `python report.py --run` trains the others, one after the other, and writes this page again."
LEFT_OUT = "Left out, because they cannot be used, and shown as not run:"
Records = dict[str, list[dict]]  # for the name of each run of the report, its records with ascending seeds
Tasks = dict[str, tuple[type[nn.Module], dict]]  # for the name of each task, its network and its defaults


def page(records: Records, skipped: dict[str, str], output_dir: Path, tasks: Tasks) -> str:
    """The report in Markdown, in the order of the original; ``skipped`` are unusable records, each with the reason."""
    finished = sum(bool(records[run.name]) for run in FIGURES)
    names = bullets(f"`plots/{name}`: {reason}" for name, reason in skipped.items())
    parts = {
        "finished": finished,
        "all": len(FIGURES),
        "to_finish": "" if finished == len(FIGURES) else TO_FINISH,
        "results": picture("results", "The report's accuracies, and ours", output_dir, "python report.py --plot"),
        "left_out": f"{LEFT_OUT}\n\n{names}" if skipped else "",
        "summary": {task: summary(task, network(), output_dir) for task, (network, _) in tasks.items()},
        "trained": {task: trained(records[task][0]) if records[task] else "" for task in tasks},
        "best_epoch": {task: best_epoch(records[task][0]) if records[task] else "" for task in tasks},
        "figure": {run.name: figure(run, records[run.name], output_dir) for run in FIGURES},
        "cell": {run.name: cell(run, records[run.name], output_dir) for run in FIGURES},
        "effect": {run.name: effect(run, records) for run in (NO_NORM, NO_AUG)},
        "claims": claims(records),
        "rules": "\n".join(f"| {name} | {sign} | {advice}{instead(name)} |" for name, (sign, advice) in RULES.items()),
    }
    for setting in ("batch_size", "lr", "epochs"):
        parts[setting] = {task: defaults[setting] for task, (_, defaults) in tasks.items()}
    text = TEMPLATE.read_text(encoding="utf-8").format(**parts)
    return re.sub(r"\n{3,}", "\n\n", text)  # where a part is empty, or ends in an empty line of its own


def bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def picture(name: str, text: str, output_dir: Path, command: str) -> str:
    """A picture of ``plots/`` or, if it is not there, the command that draws it."""
    exists = (output_dir / "plots" / f"{name}.png").exists()
    return f"![{text}](plots/{name}.png)" if exists else f"*(`plots/{name}.png` is missing; to draw it: `{command}`)*"


def summary(task: str, network: nn.Module, output_dir: Path) -> str:
    """FLOPs and parameters beside those of the report, the table of layers, and the picture."""
    with contextlib.redirect_stdout(io.StringIO()) as text:
        print_summary(network)
    first, _, table = text.getvalue().partition("\n")
    same = "as in the report" if first == FLOPS[task] else f"the report has {FLOPS[task]}"
    layers, command = f"The layers of {type(network).__name__}", f"python {task}.py --resume"
    drawn = picture(f"{task}_model", layers, output_dir, command)
    return f"{first} ({same}).\n\n```\n{table.strip()}\n```\n\n{drawn}"


def trained(record: dict) -> str:
    """On what our run was trained, as one more line of a list."""
    minutes = sum(column(record["history"], "seconds")) / 60
    machines = []
    for it in record["environments"]:
        start = f"from epoch {it['from_epoch']} " * (it["from_epoch"] > 1)
        precision = f" in {it['precision']}" if "precision" in it else ""  # a GPU's older runs lack it
        machines.append(f"{start}on {it['device']}{precision}, with {it['threads']} threads and PyTorch {it['torch']}")
    return f"\n- Trained in {minutes:.0f} minutes {', '.join(machines)}"


def best_epoch(record: dict) -> str:
    best = best_of(record["history"])
    return f" In our run that is epoch {best['epoch']}, with a validation accuracy of {best['val_accuracy']:.4f}."


def figure(run: Experiment, records: list[dict], output_dir: Path) -> str:
    """The curves of a run, their reading, and where it errs."""
    title = f"**Figure {run.figure}: {run.title}**"
    if not records:
        return f"{title}: {missing(run, output_dir)}\n"
    record, *others = records
    name, seed = record["run"], record["config"]["seed"]
    command = run.command(*(["--seed", str(seed)] if seed else []))
    best = best_of(record["history"])
    reported = f"{run.accuracy:.3f}" if run.loss is None else f"{run.loss:.3f} and {run.accuracy:.3f}"
    caption = (
        f"Test loss: {record['test_loss']:.3f}, test accuracy: **{record['test_accuracy']:.3f}** (report: "
        f"{reported}). Best epoch: {best['epoch']}, with a validation accuracy of {best['val_accuracy']:.3f}. "
        f"`{command}`"
    )
    if others:
        caption += f" This is seed {seed}, of {len(records)} seeds: {ours(records)}."
    findings = diagnose(record)
    reading = bullets(
        f"**{it.name.capitalize()}.** {it.evidence}{f' *Next:* {it.advice}' * bool(it.advice)}" for it in findings
    )
    curves = picture(name, f"Loss and accuracy of {name}", output_dir, f"{command} --resume")
    confusion = picture(f"{name}_confusion", f"Confusion matrix of {name}", output_dir, f"{command} --resume")
    errors = worst_pair(record["confusion_matrix"])
    return "\n\n".join([title, caption, curves, f"What the curves show:\n\n{reading}", errors, confusion, ""])


def worst_pair(confusion: list[list[int]]) -> str:
    """The two classes that are most often taken for each other, in a sentence."""
    pairs = [(one, two) for one in range(10) for two in range(one)]
    two, one = max(pairs, key=lambda pair: confusion[pair[0]][pair[1]] + confusion[pair[1]][pair[0]])
    errors = sum(map(sum, confusion)) - sum(confusion[i][i] for i in range(10))
    both = confusion[one][two] + confusion[two][one]
    return (
        f"Where it errs: most often between {CLASSES[one]} and {CLASSES[two]}. Of {sum(confusion[one]):,} images of "
        f"class {CLASSES[one]}, {confusion[one][two]} are taken for {CLASSES[two]}; of {sum(confusion[two]):,} of "
        f"class {CLASSES[two]}, {confusion[two][one]} for {CLASSES[one]}. That is {100 * both / max(errors, 1):.0f} % "
        f"of all {errors:,} errors."
    )


def missing(run: Experiment, output_dir: Path) -> str:
    """That a run has not finished, and the command that trains it."""
    unfinished = Files(output_dir, run.task, run.name).state.exists()
    return f"unfinished: `{run.command('--resume')}`" if unfinished else f"not run yet: `{run.command()}`"


def ours(records: list[dict]) -> str:
    accuracies = column(records, "test_accuracy")
    if len(records) == 1:
        return f"{accuracies[0]:.3f}"
    return f"{mean(accuracies):.3f} ± {stdev(accuracies):.3f} (n = {len(records)})"


def cell(run: Experiment, records: list[dict], output_dir: Path) -> str:
    """The report's accuracy, ours, and the difference."""
    reported = f"report: {run.accuracy:.3f} (figure {run.figure})"
    if not records:
        return f"{reported}<br>{missing(run, output_dir)}"
    difference = mean(column(records, "test_accuracy")) - run.accuracy
    return f"{reported}<br>ours: **{ours(records)}**<br>difference: {difference:+.3f}"


def effect(run: Experiment, records: Records) -> str:
    """How far a run is from the baseline, in the report and here; nothing if one of the two has not finished."""
    if not (records[run.name] and records[BASELINE.name]):
        return ""
    here, baseline = (mean(column(records[it.name], "test_accuracy")) for it in (run, BASELINE))
    what = run.title.replace(" data", "")
    return f"{what}: {run.accuracy - BASELINE.accuracy:+.3f} in the report, {here - baseline:+.3f} here.\n"


def instead(rule: str) -> str:
    """What to turn next where a run has certain flags."""
    flags_of = {}
    for setting, advice in INSTEAD.get(rule, {}).items():
        flags_of.setdefault(advice, []).append(f"`{option(setting)}`")
    return "".join(f" With {' or '.join(names)}: {advice}" for advice, names in flags_of.items())


def claims(records: Records) -> str:
    """The rows of a table: each claim of the report with its figures, what our runs measure, and whether it holds."""
    rows = []
    for claim, (check, runs) in CLAIMS.items():
        seeds = [{record["config"]["seed"]: record for record in records[run.name]} for run in runs]
        results = {seed: check(*(of[seed] for of in seeds)) for seed in seeds[0] if all(seed in of for of in seeds)}
        figures = ", ".join(str(run.figure) for run in runs if run.figure)
        if len(results) == 1:
            ((measured, holds),) = results.values()
            verdict = "**holds**" if holds else "**does not hold**"
        elif results:
            held = sum(holds for _, holds in results.values())
            measured = "<br>".join(f"seed {seed}: {text}" for seed, (text, _) in results.items())
            verdict = f"holds with {held} of {len(results)} seeds"
        else:
            lacking = [run for run in runs if not records[run.name]]
            names = [f"figure {run.figure}" if run.figure else f"`{run.command()}`" for run in lacking]
            measured = f"not finished: {', '.join(names)}" if names else "no seed has finished in all of them"
            verdict = "open"
        rows.append(f"| {claim} | {figures} | {measured} | {verdict} |")
    return "\n".join(rows)
