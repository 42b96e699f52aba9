"""What README.md shows is what the records and the committed weights say."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

import report
import task1_simplecnn
import task2_resnet18
from lab import commandline, console, photos
from lab.original import FIGURES
from lab.record import CLASSES
from lab.report import pages
from lab.report.chance import ours
from lab.report.guide import guide

RESULTS = report.collect(ROOT, report.TASKS)
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = "README.md", "tests/README.md", "benchmarks/README.md", "REPORT.md", "GUIDE.md"


def test_no_place_is_left_to_be_filled_in():
    for name in PAGES:
        assert not re.search(r"\{[A-Za-z]\w+\}", (ROOT / name).read_text(encoding="utf-8")), name


@pytest.mark.parametrize(("name", "text"), [("REPORT.md", pages.page), ("GUIDE.md", guide)])
def test_a_page_is_what_report_py_makes_of_the_records(name, text):
    assert not RESULTS.left_out
    assert (ROOT / name).read_text(encoding="utf-8") == text(RESULTS, report.TASKS)


def anchors(page):
    """Those that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_leads_somewhere(tmp_path):
    """Also in the pages of a folder of one's own."""
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "task1_simplecnn_recipe.json").write_bytes(
        (ROOT / "plots" / "task1_simplecnn_recipe.json").read_bytes()
    )
    report.main(["--output-dir", str(tmp_path)])
    own = [tmp_path / name for name in ("REPORT.md", "GUIDE.md")]
    for page in [*(ROOT / name for name in PAGES), *own]:
        text = page.read_text(encoding="utf-8")
        for link in re.findall(r"\]\((?!http)(.*?)\)", text) + re.findall(r'<img src="(.*?)"', text):
            name, _, anchor = link.partition("#")
            there = (page.parent / name).resolve() if name else page
            assert there.exists() and (not anchor or anchor in anchors(there)), f"{page.name}: {link}"


def test_a_browser_prints_pictures_whole_and_those_of_one_line_beside_each_other():
    for name in ("REPORT.md", "GUIDE.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        widths = [re.findall(r'<img src=\S+ alt=".*?" width="(\d+)%">', line) for line in text.splitlines()]
        assert sum(map(len, widths)) == len(re.findall(r"<img|!\[", text)) > 5
        assert max(sum(map(int, line)) for line in widths) < 100


def test_no_interpretation_is_left_out():
    """Each was written on the records that are here; what fails here says the digest that is right now."""
    for name in ("report.md", "guide.md"):
        template = (ROOT / "lab" / "report" / name).read_text(encoding="utf-8")
        for digest, runs in re.findall(r"<!-- on (?!any)(\w+): (.*?) -->", template):
            assert digest == RESULTS.digest(*runs.split()), f"{name}, on {runs}: read again, and correct, what it says"


def test_the_table_of_results_is_that_of_the_records():
    rows = re.findall(r"^\| (\d), .* \| `(python .*)` \| (0\.\d+) \| (.*) \|$", README, re.MULTILINE)
    expected = []
    for run in FIGURES:
        told = f"**{ours(RESULTS, run)}**" if RESULTS[run] else "not trained yet"
        expected.append((str(run.figure), run.command(), f"{run.accuracy:.3f}", told))
    assert rows == expected


def test_only_the_galleries_that_the_report_shows_are_kept():
    if not (ROOT / ".git").exists():
        pytest.skip("is about what git keeps")
    command = ["git", "-C", ROOT, "ls-files", "plots"]
    kept = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "plots/results.png" in kept
    page = (ROOT / "REPORT.md").read_text(encoding="utf-8")
    assert {it for it in kept if it.endswith(("_mistakes.png", "_confusion.png"))} <= set(
        re.findall(r"plots/\S+png", page)
    )


def test_what_task_1_prints_is_what_its_record_says(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    record = json.loads((ROOT / "plots" / "task1_simplecnn.json").read_text())
    task = task1_simplecnn.TASK, task1_simplecnn.RECIPE
    run = commandline.parse(task1_simplecnn.__file__, "", *task, ["--device", "cpu"])
    console.print_test(record, run)
    assert f"\n{capsys.readouterr().out}```" in README
    console.print_epoch(record["history"][:10], run.settings)
    assert f"```\n{capsys.readouterr().out}...\n" in README
    assert f"Test accuracy: {record['test_accuracy']:.3f} (the original's: 0.817)." in task1_simplecnn.__doc__
    record = json.loads((ROOT / "plots" / "task2_resnet18.json").read_text())
    assert f"Test accuracy: {record['test_accuracy']:.3f} (the original's: 0.853)." in task2_resnet18.__doc__


def test_every_flag_is_one_of_the_scripts():
    """Of those that README.md names, and of those in its commands."""
    known = {"--help", *re.findall(r"--[\w-]+", report.__doc__)}
    for words in ("task1_simplecnn.py", "report.py"):
        shown = subprocess.run([sys.executable, ROOT / words, "--help"], capture_output=True, text=True, check=True)
        known |= {*re.findall(r"--[\w-]+", shown.stdout)}
    commands = re.findall(r"python (?:task\d_\w+|report)\.py [^|`\n]*", README)
    rows = re.findall(r"^\| (`--.*?) \|", README, re.MULTILINE)
    named = [word for text in [*commands, *rows] for word in re.findall(r"--[\w-]+", text)]
    assert len(named) > 40 and {*named} <= known


def test_the_table_of_recipes_is_that_of_the_guide():
    rows = [row for row in README.splitlines() if row.startswith("| ") and ".py --recipe" in row]
    assert len(rows) == 4 and set(rows) < set(guide(RESULTS, report.TASKS).splitlines())


def test_the_example_of_predict_is_what_the_committed_weights_say(sample, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    command, *lines = re.search(r"python task1_simplecnn\.py (.*--predict .*(?:\n.+)+)\n```", README)[1].splitlines()
    task1_simplecnn.main(command.split())
    assert capsys.readouterr().out.splitlines() == lines
    _, _, images, labels = sample
    for line in lines:  # what is shown are images of the test set, unchanged
        path = Path(line.partition(":")[0])
        (same,) = (images == photos.read_image(path)).all(dim=(1, 2, 3)).nonzero()
        assert CLASSES[labels[same]] == path.stem
        pixels = images[same : same + 1] / 255
        assert predicted_by_readme(pixels, "task1_simplecnn_recipe.pt") == line.partition(": ")[2]
        task1_simplecnn.main(["--predict", str(path)])
        told = capsys.readouterr().out.strip()
        assert predicted_by_readme(pixels, "task1_simplecnn.pt") == told.partition(": ")[2]


def predicted_by_readme(images, weights):
    """What its example in Python makes of these images with these weights, told as --predict does."""
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    code, changed = re.subn(r"^images = torch.zeros.*$", "", code, flags=re.MULTILINE)
    assert changed == 1 and "checkpoints/task1_simplecnn_recipe.pt" in code
    code = code.replace("task1_simplecnn_recipe.pt", weights)
    names = {"images": images}
    exec(code, names)
    probabilities = names["logits"].softmax(1)[0]
    likeliest = probabilities.argsort(descending=True)[:3].tolist()
    return ", ".join(f"{CLASSES[label]} {100 * probabilities[label]:.1f}%" for label in likeliest)


def test_the_table_of_speed_is_what_was_measured():
    table = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    for task, of in json.loads((ROOT / "benchmarks" / "speed_avx2.json").read_text())["tasks"].items():
        found = of["float32"]
        (row,) = re.findall(rf"^\| {task} \| .*AVX2 \|.*$", table, re.MULTILINE)
        times = [cell.split()[0] for cell in row.split("|")[3:6]]
        assert times == [f"{found['milliseconds'][name]:.1f}" for name in ("A", "A+", "B")]
        assert f"| **{found['B/A']:.2f}** | **{found['B/A+']:.2f}** |" in row
