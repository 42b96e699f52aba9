"""What README.md shows is what the records and the committed weights say."""

import json
import re

from PIL import Image

import common
import task1_simplecnn
from lab import flags
from lab.claims import FIGURES
from lab.diagnosis import print_reading

README = (flags.ROOT / "README.md").read_text(encoding="utf-8")


def test_no_place_is_left_to_be_filled_in():
    for name in ("README.md", "tests/README.md", "benchmarks/README.md", "REPORT.md"):
        assert not re.search(r"\{[A-Z]\w+\}", (flags.ROOT / name).read_text(encoding="utf-8")), name


def test_the_table_of_results_is_that_of_the_records():
    rows = re.findall(r"^\| Figure (\d), .* \| `(python .*)` \| (0\.\d+) \| (.*) \|$", README, re.MULTILINE)
    expected = []
    for run in FIGURES:
        record = flags.ROOT / "plots" / f"{run.name}.json"
        ours = f"**{json.loads(record.read_text())['test_accuracy']:.3f}**" if record.exists() else "not run yet"
        expected.append((str(run.figure), run.command(), f"{run.accuracy:.3f}", ours))
    assert rows == expected


def test_what_task_1_prints_is_what_its_record_says(capsys):
    record = json.loads((flags.ROOT / "plots" / "task1_simplecnn.json").read_text())
    run = flags.parse("", task1_simplecnn.DEFAULTS, ["--device", "cpu"])
    record["config"] = run.usual | record["config"]
    common.print_test(record, run)
    assert f"Model loaded from checkpoints/task1_simplecnn.pt (0.5 MB)\n{capsys.readouterr().out}```" in README
    common.print_epoch(record["history"][:10], run)
    assert f"```\n{capsys.readouterr().out}```" in README
    print_reading(record)
    (reading,) = re.findall(r"```\n(Good: (?:.|\n)*?)```", README)
    assert capsys.readouterr().out.startswith(reading)
    assert f"Test accuracy: {record['test_accuracy']:.3f} (the original's: 0.817)." in task1_simplecnn.__doc__


def test_the_example_of_predict_is_what_the_committed_weights_say(sample, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for image, name in zip(sample[2], ("cat", "ship"), strict=False):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(f"{name}.png")
    command, *lines = re.search(r"python task1_simplecnn\.py (--predict .*(?:\n.+)+)\n```", README)[1].splitlines()
    task1_simplecnn.main(command.split())
    assert capsys.readouterr().out.splitlines() == lines


def test_the_table_of_speed_is_what_was_measured():
    for task in json.loads((flags.ROOT / "benchmarks" / "speed_avx2.json").read_text())["tasks"].values():
        found = task["float32"]
        times = " | ".join(f"{found['milliseconds'][name]:.0f} ms" for name in ("A", "A+", "B"))
        assert re.search(
            rf"\| {re.escape(times)} \| \*\*{found['B/A']:.2f}\*\* \| \*\*{found['B/A+']:.2f}\*\* \|", README
        )
