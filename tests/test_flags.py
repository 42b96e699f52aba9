"""Flags: what is refused, and the names that settings give a run."""

import os
import re

import pytest

import task1_simplecnn
import task2_resnet18
from lab import flags


def parse(task, words):
    defaults = {"task1_simplecnn": task1_simplecnn, "task2_resnet18": task2_resnet18}[task].DEFAULTS
    return flags.parse("", defaults, ["--dry-run", "--epochs", "2", *words.split()])


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("", ""),
        ("--no-norm", "_no-norm"),
        ("--no-aug", "_no-aug"),
        ("--lr 0.01", "_lr0.01"),
        ("--lr 0.0001", "_lr0.0001"),
        ("--lr 1e-4", "_lr0.0001"),
        ("--lr 0.00001", "_lr1e-05"),
        ("--lr 0.001", ""),
        ("--constant-lr", "_constant-lr"),
        ("--lr 0.01 --constant-lr", "_lr0.01_constant-lr"),
        ("--batch-size 128", "_batch128"),
        ("--batch-size 64 --seed 0", ""),
        (
            "--limit 3000 --seed 1 --patience 5 --batch-size 32 --constant-lr --lr 0.01 --no-aug --no-norm",
            "_no-norm_no-aug_lr0.01_constant-lr_batch32_patience5_seed1_limit3000",
        ),
        ("--sample --limit 2000", "_limit2000_sample"),
        ("--device cpu --data-dir x --output-dir y", ""),
    ],
)
def test_the_name_of_a_run_has_every_setting_that_changes_its_numbers(words, name):
    args = parse("task2_resnet18", words)
    assert args.name.replace("_epochs2", "") == f"task2_resnet18{name}"  # of --dry-run


def test_default_and_other_epochs():
    assert parse("task1_simplecnn", "").name == "task1_simplecnn_epochs2"
    assert parse("task1_simplecnn", "--epochs 1 --limit 10").name == "task1_simplecnn_epochs1_limit10"
    assert parse("task1_simplecnn", "--batch-size 64").name == "task1_simplecnn_batch64_epochs2"


def test_no_flags_are_the_reports_configurations(tmp_path, monkeypatch):
    class SeenError(Exception):
        pass

    def build(network, run):
        raise SeenError(run)

    monkeypatch.setattr("common.build", build)
    for script, batch_size in ((task1_simplecnn, 128), (task2_resnet18, 64)):
        with pytest.raises(SeenError) as seen:
            script.main(["--output-dir", str(tmp_path), "--data-dir", str(tmp_path)])
        (args,) = seen.value.args
        assert (args.name, args.epochs, args.batch_size, args.lr) == (script.__name__, 80, batch_size, 0.001)
        switches = args.no_norm, args.no_aug, args.constant_lr, args.sample
        assert (*switches, args.seed, args.patience, args.limit) == (*[False] * 4, 0, None, None)


EXCLUSIVE = ["--resume --restart", "--test --resume", "--dry-run --test", "--predict a.png --test"]
WRONG = [
    *(
        f"--{name} {value}"
        for name in ("epochs", "batch-size", "patience", "limit")
        for value in ("-1", "0", "x", "1.5")
    ),
    *(f"--lr {value}" for value in ("-0.1", "0", "nan", "inf", "-inf", "1e999", "x", "0.00123456789")),
    *("--batch-size 1", "--batch-size 45001", "--limit 9", "--limit 45001", "--seed -1", "--seed 2147483648"),
    *("--epochs 100001", "--seed 0.5", "--device tpu", "--device cuda:99", "--device mps:0", "--device cpu:0", "--lr"),
    *("--no-augment", "--no", "extra", "--predict"),
    *EXCLUSIVE,
]


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_value_is_refused_in_one_line(words, tmp_path, capsys):
    with pytest.raises(SystemExit) as refusal:
        task1_simplecnn.main(["--output-dir", str(tmp_path / "out"), *words.split()])
    assert refusal.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == "" and re.fullmatch(r".*: error: .*\n", printed.err)
    assert words.split()[0] in printed.err or words in EXCLUSIVE
    assert not (tmp_path / "out").exists()


def test_a_device_that_is_not_there_is_named_with_those_that_are(capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert [str(flags.device(text)) for text in ("auto", "cuda", "cuda:1", "cpu")] == ["cuda", "cuda", "cuda:1", "cpu"]
    with pytest.raises(SystemExit):
        task1_simplecnn.main(["--device", "cuda:2"])
    assert (
        "'cuda:2' is not a device of this machine, which has auto, cuda, cpu, cuda:0, cuda:1" in capsys.readouterr().err
    )


def test_an_output_directory_that_cannot_be_written_is_refused(tmp_path, capsys):
    (tmp_path / "file").touch()
    bad = [tmp_path / "file", tmp_path / "file" / "below"]
    if hasattr(os, "geteuid") and os.geteuid() != 0:  # root may write anywhere
        (tmp_path / "locked").mkdir(mode=0o500)
        bad.append(tmp_path / "locked")
    for directory in bad:
        with pytest.raises(SystemExit) as refusal:
            task2_resnet18.main(["--output-dir", str(directory)])
        assert refusal.value.code == 2
        assert re.fullmatch(r".*--output-dir: cannot write to .*\n", capsys.readouterr().err)


def test_help_names_every_flag_with_its_default(capsys):
    with pytest.raises(SystemExit):
        task2_resnet18.main(["--help"])
    printed = capsys.readouterr().out
    names = "epochs, batch-size, lr, constant-lr, no-norm, no-aug, seed, device, data-dir, output-dir, resume, restart"
    for name in [*names.split(", "), "test", "predict", "dry-run", "patience", "limit", "sample"]:
        assert f"  --{name}" in printed
    for name, default in (("epochs", "80"), ("batch_size", "64"), ("lr", "0.001")):
        assert f"({default}; with --recipe {task2_resnet18.RECIPE[name]:g})" in printed
