"""Flags: the names that settings give a run, what is refused, and what --help says."""

import os
import re
import shlex
from dataclasses import asdict, fields, replace

import pytest
import torch

import task1_simplecnn
import task2_resnet18
from lab import commandline, precision
from lab.run import device
from lab.settings import Settings, titles, value_text

# ---------------------------------------------------------------- names

TASK = Settings(weight_decay=0.1, dropout=0.5, image_size=64, growth=0.5)  # of a script to which every flag applies
RECIPE = replace(TASK, recipe=True, warmup=0.2)
WORDS = {  # of a run's name in their order, and the flags that bring them there
    "recipe": "--recipe",
    "no-norm": "--no-norm",
    "no-aug": "--no-aug",
    "lr0.01": "--lr 0.01",
    "constant-lr": "--constant-lr",
    "batch128": "--batch-size 128",
    "first-he": "--first-weights he",
    "optSGD": "--optimizer SGD",
    "decay0.02": "--weight-decay 0.02",
    "decayed-kernels": "--decayed kernels",
    "warmup0.3": "--warmup 0.3",
    "smooth0.1": "--label-smoothing 0.1",
    "dropout0.2": "--dropout 0.2",
    "average0.999": "--average 0.999",
    "rotation10": "--rotation 10",
    "plain-val": "--validation plain",
    "stats-all": "--statistics all",
    "size48": "--image-size 48",
    "growth0.25": "--growth 0.25",
    "epochs3": "--epochs 3",
    "patience5": "--patience 5",
    "seed1": "--seed 1",
    "limit2000": "--limit 2000",
    "sample": "--sample",
    "float32": "--float32",
}
ALONE = {"no-norm", "no-aug", "constant-lr"}  # they contradict others


def parse(words, script="net.py", task=TASK, recipe=RECIPE):
    return commandline.parse(script, "", task, recipe, shlex.split(words))


def test_every_setting_has_a_word_in_the_name_and_a_title():
    assert len(WORDS) == len(fields(Settings))
    for word, flag in WORDS.items():
        run = parse(flag)
        assert (run.name, len(run.changes), len(words_of(run))) == (f"net_{word}", 1, 1)
    together = {word: flag for word, flag in WORDS.items() if word not in ALONE}
    run = parse(" ".join(reversed(together.values())))
    assert run.name == "_".join(["net", *together]) and len(words_of(run)) == len(together)
    _, script, *words = shlex.split(run.command)
    assert script.endswith("net.py") and parse(shlex.join(words)) == run
    some = parse("--no-norm --lr 1e-5 --constant-lr --optimizer SGD --validation plain --patience 5")
    of_some = "no normalization", "learning rate 1e-05", "constant rate", "SGD", "plain validation", "patience 5"
    assert words_of(some) == [*of_some]


def words_of(run):
    return titles(run.name, asdict(run.settings))


def test_a_tasks_own_name_is_no_setting():
    assert [words_of(parse(words, "net_recipe_seed1.py")) for words in ("", "--seed 1", "--recipe --seed 2")] == [
        *([], ["seed 1"], ["recipe", "seed 2"])
    ]


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("", ""),
        ("--lr 0.001 --batch-size 64 --seed 0 --weight-decay 0.10", ""),  # which it has anyway
        ("--device cpu --data-dir x --output-dir y", ""),
        ("--lr 1e-4", "_lr0.0001"),
        ("--lr 0.00001 --average 0", "_lr1e-05"),
        ("--recipe --warmup 0.2", "_recipe"),
        ("--recipe --warmup 0", "_recipe_warmup0"),
        ("--first-weights pytorch --validation augmented --growth 0", "_growth0"),
        ("--weight-decay -0 --seed -0", "_decay0"),
    ],
)
def test_a_name_has_what_differs_from_the_task_or_from_its_recipe(words, name):
    assert parse(words).name == f"net{name}"


def test_no_flags_are_the_reports_configurations(tmp_path, monkeypatch):
    class SeenError(Exception):
        pass

    def build(network, run):
        raise SeenError(run)

    monkeypatch.setattr("common.build", build)
    for script, batch_size, dropout in ((task1_simplecnn, 128, 0.5), (task2_resnet18, 64, 0)):
        with pytest.raises(SeenError) as seen:
            script.main(["--output-dir", str(tmp_path), "--data-dir", str(tmp_path)])
        (run,) = seen.value.args
        it = run.settings
        assert (run.name, run.mode, it.epochs, it.lr) == (script.__name__, "train", 80, 0.001)
        assert (it.batch_size, it.dropout, it.optimizer, it.rotation) == (batch_size, dropout, "Adam", 15)
        others = "recipe no_norm no_aug constant_lr warmup label_smoothing average growth patience seed limit sample"
        assert not any(getattr(it, name) for name in others.split())
        assert (it.statistics, it.validation, it.image_size) == ("first", "augmented", 32)


# ---------------------------------------------------------------- what is refused


EXCLUSIVE = ["--resume --restart", "--test --resume", "--dry-run --test", "--predict a.png --test"]
WRONG = [
    *(f"--{name} {value}" for name in ("epochs", "batch-size", "limit") for value in ("-1", "0", "x", "1.5")),
    *(f"--lr {value}" for value in ("-0.1", "0", "nan", "inf", "-inf", "1e999", "x", "0.00123456789", "1e-320")),
    *("--weight-decay 1e-320", "--growth 1e-10", "--rotation 5e-324"),
    *("--batch-size 1", "--batch-size 45001", "--limit 9", "--limit 45001", "--seed -1", "--seed 2147483648"),
    *("--epochs 100001", "--patience 0", "--device tpu", "--device cuda:99", "--device mps:0", "--device cpu:0"),
    *("--lr", "--no-augment", "--no", "extra", "--predict"),
    *(
        f"--{name} {value}"
        for name in ("warmup", "label-smoothing", "dropout", "average", "growth")
        for value in ("-0.1", "1.1")
    ),
    *("--weight-decay 10.1", "--rotation 181", "--image-size 31", "--image-size 257", "--image-size 33.5"),
    *("--first-weights zero", "--optimizer adam", "--decayed none", "--validation none", "--statistics last"),
    *("--weights x.pt", "--weights x.pt --resume"),
    *EXCLUSIVE,
]


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_value_is_refused_in_one_line(words, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("common.build", None)  # what is not refused fails here, and trains nothing
    with pytest.raises(SystemExit) as refusal:
        task1_simplecnn.main(["--output-dir", str(tmp_path / "out"), *words.split()])
    assert refusal.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == "" and re.fullmatch(r".*: error: .*\n", printed.err)
    assert words.split()[0] in printed.err or words in EXCLUSIVE
    assert not (tmp_path / "out").exists()


CONTRADICTIONS = {  # and beside each, how its parts go together
    "task1 --warmup 0.2 --constant-lr": ("constant-lr", "--warmup 0.2"),
    "task2 --recipe --constant-lr": ("constant-lr", "--recipe --warmup 0 --constant-lr"),
    "task2 --growth 0.5": ("growth", "--growth 0.5 --image-size 33"),
    "task2 --recipe --image-size 32": ("image-size", "--recipe --image-size 32 --growth 0"),
    "task2 --dropout 0.5": ("dropout", "--dropout 0"),
    "task1 --image-size 64": ("image-size", "--image-size 32"),
    "task1 --weight-decay 0 --decayed kernels": ("decayed", "--weight-decay 1e-5 --decayed kernels"),
    "task1 --no-aug --rotation 10": ("rotation", "--recipe --no-aug"),
    "task1 --no-aug --validation plain": ("validation", "--no-aug"),
    "task1 --no-norm --statistics all": ("statistics", "--recipe --no-norm"),
    "task1 --sample --limit 2251": ("limit", "--sample --limit 2250"),
}


@pytest.mark.parametrize("words", CONTRADICTIONS)
def test_flags_that_contradict_each_other_are_refused_in_one_line(words, capsys):
    flag, together = CONTRADICTIONS[words]
    task, words = words.split(maxsplit=1)
    script = {"task1": task1_simplecnn, "task2": task2_resnet18}[task]
    bases = script.__file__, script.TASK, script.RECIPE
    with pytest.raises(SystemExit, match="2"):
        parse(words, *bases)
    assert re.fullmatch(rf".*: error: argument --{flag}: .+ \(--help lists the flags\)\n", capsys.readouterr().err)
    assert parse(together, *bases).trains


def test_a_mac_trains_on_its_gpu(monkeypatch):
    """In the usual order of memory, for MPS cannot train batch norm in the other one."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    assert [str(device(text)) for text in ("auto", "mps", "cpu")] == ["mps", "mps", "cpu"]
    formats = [precision.memory_format(device(text)) for text in ("mps", "cpu")]
    assert formats == [torch.contiguous_format, torch.channels_last]


def test_a_device_that_is_not_there_is_named_with_those_that_are(capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert [str(device(text)) for text in ("auto", "cuda", "cuda:1", "cpu")] == ["cuda", "cuda", "cuda:1", "cpu"]
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


# ---------------------------------------------------------------- --help


@pytest.mark.parametrize("script", [task1_simplecnn, task2_resnet18])
def test_help_has_three_groups_and_in_the_second_both_defaults(script, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        script.main(["--help"])
    _, *parts = re.split(r"\n\n(what the lab report .*|what it does not .*|where and how):", capsys.readouterr().out)
    reported, unreported, how = ([" ".join(it.split()) for it in part.split("\n  --")[1:]] for part in parts[1::2])
    named = [" ".join(entry.split()[0] for entry in group) for group in (reported, how)]
    assert named[0] == "recipe no-norm no-aug lr constant-lr batch-size epochs patience seed limit sample float32"
    assert named[1] == "device data-dir output-dir resume restart test dry-run predict weights"
    assert len(reported) + len(unreported) == len(fields(Settings))
    for entry in unreported:
        name = entry.split()[0].replace("-", "_")
        of_task, of_recipe = (value_text(getattr(base, name)) for base in (script.TASK, script.RECIPE))
        assert entry.endswith(f"({of_task}; with --recipe {of_recipe})")
    assert reported[3].endswith(f" (0.001; with --recipe {script.RECIPE.lr})")
