"""CIFAR-10 on disk: found, verified, downloaded, repaired, split."""

import contextlib
import hashlib
import http.server
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10

import common
import task1_simplecnn
from lab import cifar10, commandline, files


def parse(*words):
    task = task1_simplecnn
    return commandline.parse(task.__file__, "", task.TASK, task.RECIPE, ["--device", "cpu", *words])


# ---------------------------------------------------------------- what is trained on


def test_the_files_are_those_that_torchvision_checks():
    listed = [*CIFAR10.train_list, *CIFAR10.test_list, [CIFAR10.meta["filename"], CIFAR10.meta["md5"]]]
    assert listed == [[name, digest] for name, digest in cifar10.FILES.items()]
    ours = cifar10.FOLDER, cifar10.ARCHIVE, cifar10.ARCHIVE_MD5, cifar10.SOURCES[-1]
    assert ours == (CIFAR10.base_folder, CIFAR10.filename, CIFAR10.tgz_md5, CIFAR10.url)


def test_images_are_torchvisions(official):
    for train in (True, False):
        (ours, our_labels), theirs = cifar10.load(official, train), CIFAR10(official, train=train)
        assert torch.equal(ours, torch.from_numpy(theirs.data).permute(0, 3, 1, 2))
        assert our_labels.tolist() == theirs.targets
        assert (ours.dtype, our_labels.dtype) == (torch.uint8, torch.int64)


def test_the_sample_is_the_first_official_images_of_each_class(official, sample):
    for train, each, ours, our_labels in ((True, 250, *sample[:2]), (False, 50, *sample[2:])):
        theirs = CIFAR10(official, train=train)
        labels = torch.tensor(theirs.targets)
        first = torch.cat([(labels == number).nonzero().flatten()[:each] for number in range(10)]).sort().values
        assert first[0] == 0
        assert torch.equal(ours, torch.from_numpy(theirs.data).permute(0, 3, 1, 2)[first])
        assert torch.equal(our_labels, labels[first])


def test_the_sample_can_be_looked_at(sample):
    """A row of pictures for each class, from the first image of the training set to the last of the test set."""
    with Image.open(files.ROOT / "lab" / "cifar10_sample.webp") as file:
        picture = np.asarray(file.convert("RGB"))
    assert picture.shape == (10 * 32, 300 * 32, 3)
    images, labels, test_images, test_labels = sample
    for number in range(10):
        row = torch.cat([images[labels == number], test_images[test_labels == number]])
        assert (picture[32 * number :][:32] == torch.cat(row.unbind(), 2).permute(1, 2, 0).numpy()).all()


@pytest.mark.parametrize(("words", "sizes"), [(["--sample"], [2_250, 250, 500]), ([], [45_000, 5_000, 10_000])])
def test_split_is_random_by_the_seed_and_loses_no_image(sample, monkeypatch, words, sizes):
    noise = torch.randint(256, (60_000, 3, 8, 8), dtype=torch.uint8)  # smaller than images: their number matters
    labels = torch.arange(60_000) % 10
    data = sample if words else (noise[:50_000], labels[:50_000], noise[50_000:], labels[50_000:])
    monkeypatch.setattr(cifar10, "load", lambda directory, train: data[:2] if train else data[2:])
    images, validation = data[0], []
    for seed in (0, 0, 1):
        train, val, test = common.load_data(parse(*words, "--seed", str(seed)))
        assert [len(part.labels) for part in (train, val, test)] == sizes
        assert torch.equal(test.images, data[2])
        again = torch.cat([train.images, val.images])  # a permutation: the same images, each as often
        assert torch.equal(*(part.flatten(1).sum(1).sort().values for part in (again, images)))
        share = torch.bincount(val.labels) / len(val.labels)
        assert 0.03 < share.min() <= share.max() < 0.18
        validation.append(val.images)
    assert torch.equal(validation[0], validation[1])
    assert not torch.equal(validation[0], validation[2])


def test_mean_and_standard_deviation_are_those_of_the_first_image(sample):
    """Whether it is trained on or not: the seed and the limit do not matter."""
    for part in common.load_data(parse("--sample", "--seed", "3", "--limit", "100")):
        first = sample[0][0].numpy() / 255
        assert part.mean.flatten().tolist() == pytest.approx(first.mean((1, 2)).tolist(), abs=1e-6)
        assert part.std.flatten().tolist() == pytest.approx(first.std((1, 2)).tolist(), abs=1e-6)


def test_batches_are_normalized_and_in_order():
    train, _, test = common.load_data(parse("--dry-run"))
    order = torch.arange(25, 5, -1)
    (first, first_labels), (second, _) = common.batches(test, 15, order, None)
    expected = (test.images[order].float() / 255 - test.mean) / test.std
    torch.testing.assert_close(torch.cat([first, second]), expected)
    assert torch.equal(first_labels, test.labels[order[:15]])
    assert first.is_contiguous(memory_format=torch.channels_last)
    draws = common.sample_augmentation(20, torch.Generator().manual_seed(0))
    (augmented, _), _ = common.batches(train, 15, order, draws)
    black = common.augment(train.images[order[:15]], draws[:15]).float() / 255  # what is black is normalized, too
    torch.testing.assert_close(augmented, (black - train.mean) / train.std)
    (plain, _), *_ = common.batches(common.load_data(parse("--dry-run", "--no-norm"))[0], 15, order, None)
    assert 0 <= plain.min() < 0.1 and 0.9 < plain.max() <= 1


def test_limit_takes_a_tenth_to_validate_and_to_test(made_up):
    assert [len(part.labels) for part in common.load_data(parse("--limit", "120"))] == [120, 12, 12]


def fill(directory, names=cifar10.FILES):
    (directory / cifar10.FOLDER).mkdir(parents=True, exist_ok=True)
    for name in names:
        (directory / cifar10.FOLDER / name).touch()


def test_find_takes_the_first_directory_that_holds_all_files(tmp_path, monkeypatch):
    here, shared = tmp_path / "project" / "data", tmp_path / "shared" / "cifar10"
    monkeypatch.setattr(cifar10, "ROOT", here.parent)
    assert cifar10.find() == here
    fill(shared)
    fill(here, list(cifar10.FILES)[:6])
    assert cifar10.find() == shared
    for directory, name in ((here, "data_batch_1"), (shared, "data_batch_3")):
        (directory / cifar10.FOLDER / name).unlink()
    assert cifar10.find() == shared  # six files are more than five
    fill(here)
    assert cifar10.find() == here
    assert cifar10.find(tmp_path / "given") == tmp_path / "given"


def test_a_directory_that_is_nearly_right_is_understood(tmp_path, monkeypatch):
    right = tmp_path / "all" / "x"
    fill(right)
    for near in (right.parent, right, right / cifar10.FOLDER):
        assert cifar10.find(near) == right
    assert cifar10.find(tmp_path / "new" / cifar10.ARCHIVE) == tmp_path / "new"
    monkeypatch.chdir(right / cifar10.FOLDER)
    assert cifar10.find(Path(".")) == right
    fill(right.parent)  # what is exactly right goes first
    assert cifar10.find(right.parent) == right.parent


def test_the_user_names_a_directory_by_a_flag_or_a_variable(tmp_path, monkeypatch):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    for named, directory in (("", None), ("~/theirs", tmp_path / "theirs")):
        monkeypatch.setenv("CIFAR10_DIR", named)
        assert parse().data_dir == directory
        assert parse("--data-dir", "~/given").data_dir == tmp_path / "given"


# ---------------------------------------------------------------- downloads, from a server on this machine


@pytest.fixture
def server(monkeypatch):
    """A server of a small archive in CIFAR-10's form: /good, /slow, /silent, /mute, /cut, /wrong; 404 for all else."""
    contents = {name: name.encode() + os.urandom(60_000) for name in cifar10.FILES}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in contents.items():
            entry = tarfile.TarInfo(f"{cifar10.FOLDER}/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    archive = buffer.getvalue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            kind = self.path.strip("/")
            if kind == "mute":
                released.wait(5)
                return
            self.send_response(200 if kind in ("good", "slow", "silent", "cut", "wrong") else 404)
            self.send_header("Content-Length", str(len(archive)))
            self.end_headers()
            if kind == "good":
                self.wfile.write(archive)
            elif kind == "wrong":
                self.wfile.write(archive[:-1] + bytes([archive[-1] ^ 1]))
            elif kind == "cut":
                self.wfile.write(archive[:200_000])
            elif kind == "silent":
                self.wfile.write(archive[:100])
                released.wait(5)
            elif kind == "slow":
                for start in range(0, len(archive), 20_000):
                    self.wfile.write(archive[start : start + 20_000])
                    time.sleep(0.2)

        def log_message(self, *args):
            pass

        def handle(self):
            with contextlib.suppress(ConnectionError):  # of a client that gave up
                super().handle()

    requests, released = [], threading.Event()
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()
    digests = {name: hashlib.md5(content).hexdigest() for name, content in contents.items()}
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "*")
    constants = {
        "FILES": digests,
        "ARCHIVE_MD5": hashlib.md5(archive).hexdigest(),
        "TIMEOUT": 1,
        "GRACE": 1.5,
    }
    for name, value in constants.items():
        monkeypatch.setattr(cifar10, name, value)

    class Server:
        def sources(self, *kinds):
            """Download from these from now on; nobody listens at "refused", and there is no host "unknown"."""
            hosts = {"refused": "127.0.0.1:9", "unknown": "host.invalid"}
            urls = [f"http://{hosts.get(kind, f'127.0.0.1:{httpd.server_port}')}/{kind}" for kind in kinds]
            monkeypatch.setattr(cifar10, "SOURCES", urls)
            return urls

    Server.archive, Server.contents, Server.requests, Server.constants = archive, contents, requests, constants
    yield Server()
    released.set()
    httpd.shutdown()
    httpd.server_close()


def leftovers(directory):
    return {path.name for path in directory.iterdir()} - {cifar10.FOLDER, cifar10.ARCHIVE}


def test_a_source_that_fails_is_followed_by_the_next(server, tmp_path):
    server.sources("refused", "missing", "cut", "wrong", "silent", "mute", "slow", "good")
    cifar10.download(tmp_path / "new" / "data")
    assert cifar10.damaged(tmp_path / "new" / "data") == []
    assert leftovers(tmp_path / "new" / "data") == set()
    assert server.requests == ["/missing", "/cut", "/wrong", "/silent", "/mute", "/slow", "/good"]


def test_a_slow_source_is_better_than_none(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("lab.console.PAUSE", -1)
    server.sources("slow", "missing")
    cifar10.download(tmp_path)
    assert re.search(r"^  CIFAR-10: [\d,]+ of [\d,]+ bytes, \d\d:\d\d left$", capsys.readouterr().out, re.MULTILINE)
    assert cifar10.damaged(tmp_path) == []
    assert server.requests == ["/slow", "/missing", "/slow"]


def test_a_source_that_sends_nothing_is_not_asked_again(server, tmp_path):
    """For a run without CIFAR-10 is to go on with the sample within two minutes."""
    server.sources("mute", "silent", "refused", "missing")
    with pytest.raises(SystemExit):
        cifar10.download(tmp_path)
    assert server.requests == ["/mute", "/silent", "/missing", "/missing"]


def test_the_time_until_the_sample_is_taken_is_bounded():
    """One that drips is tried a second time."""
    assert len(cifar10.SOURCES) * (cifar10.CONNECT + cifar10.TIMEOUT + 2 * cifar10.GRACE) <= 120


def test_when_every_source_fails_one_message_says_all(server, tmp_path, capsys):
    urls = server.sources("refused", "missing", "cut", "wrong", "silent", "mute", "unknown")
    directory = tmp_path / "new" / "data"
    with pytest.raises(SystemExit) as failure:
        cifar10.download(directory)
    message = failure.value.code
    assert message.startswith(f"CIFAR-10 is not in {directory}, and it could not be downloaded: every source failed.")
    assert capsys.readouterr().out.startswith(f"CIFAR-10 is not in {directory}. Downloading CIFAR-10 (170 MB).")
    reasons = ["Connection refused", "404", "IncompleteRead", "hash", "timed out", "timed out", ""]
    for url, reason in zip(urls, reasons, strict=True):
        assert any(f"  {url}: " in line and reason in line for line in message.splitlines()), (url, reason, message)
    assert "HTTPConnection" not in message and "Error" not in message.replace("404 Client Error", "")
    for name in (cifar10.ARCHIVE, cifar10.ARCHIVE_MD5, "--data-dir", "CIFAR10_DIR"):
        assert name in message
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_a_failed_repair_names_the_files_and_leaves_the_others(server, tmp_path):
    server.sources("missing")
    fill(tmp_path)
    (tmp_path / cifar10.FOLDER / "data_batch_1").write_bytes(server.contents["data_batch_1"])
    with pytest.raises(SystemExit, match=r"there are missing or damaged in .*: data_batch_2, .*batches\.meta, and it"):
        cifar10.download(tmp_path)
    assert len(list((tmp_path / cifar10.FOLDER).iterdir())) == 7


@pytest.mark.parametrize("damage", ["one changed byte", "cut short", "empty", "deleted"])
def test_damaged_files_are_repaired(server, tmp_path, damage, tried):
    server.sources("good")
    cifar10.download(tmp_path)
    (tmp_path / cifar10.ARCHIVE).unlink()
    for name in ("data_batch_3", "batches.meta"):
        path = tmp_path / cifar10.FOLDER / name
        content = bytearray(path.read_bytes())
        content[1234] ^= 1
        path.unlink()
        if damage != "deleted":
            path.write_bytes({"one changed byte": content, "cut short": content[:1000], "empty": b""}[damage])
    untouched = (tmp_path / cifar10.FOLDER / "data_batch_1").stat().st_mtime_ns
    assert cifar10.damaged(tmp_path) == ["data_batch_3", "batches.meta"]
    cifar10.download(tmp_path)
    assert cifar10.damaged(tmp_path) == []
    assert (tmp_path / cifar10.FOLDER / "data_batch_1").stat().st_mtime_ns == untouched
    tried(f"a data file, {damage}, with a source to repair it", times=2)


@pytest.mark.parametrize("name", ["cifar-10-python.tar.gz", "cifar-10-python.tar", "cifar-10-python (1).tar.gz"])
@pytest.mark.parametrize("can_be_written", [True, False])
def test_an_archive_put_there_by_hand_is_used(server, tmp_path, monkeypatch, capsys, name, can_be_written):
    """Whatever a browser has called it, and also where it cannot be unpacked beside itself."""
    server.sources("missing")
    monkeypatch.setattr(cifar10, "ROOT", tmp_path / "project")
    monkeypatch.setattr(os, "access", lambda path, mode: can_be_written)
    given, data = tmp_path / "given", tmp_path / "project" / "data"
    given.mkdir()
    (given / "cifar-10-python.tar.gz.part").write_bytes(server.archive[:1000])
    (given / name).write_bytes(server.archive)
    assert cifar10.find(given / name) == given and cifar10.parts_of(given)
    assert [cifar10.download(given) for _ in range(2)] == [given if can_be_written else data] * 2
    assert cifar10.damaged(given if can_be_written else data) == [] and server.requests == []
    kept = {name, "cifar-10-python.tar.gz.part"} | ({cifar10.FOLDER} if can_be_written else set())
    assert {path.name for path in given.iterdir()} == kept
    told = f"CIFAR-10 is not in {given if can_be_written else data}. Unpacking {given / name}.\n"
    assert capsys.readouterr().out == told


def test_a_directory_that_cannot_be_is_reported(server, tmp_path):
    server.sources("good")
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match=r"not in .*file, and it .* downloaded: (Not a directory|File exists): "):
        cifar10.download(tmp_path / "file")


def test_two_processes_may_download_at_once(server, tmp_path):
    constants = server.constants | {"SOURCES": server.sources("slow"), "SLOW": 0}
    code = (
        "import json, pathlib; from lab import cifar10\n"
        f"vars(cifar10).update(json.loads({json.dumps(json.dumps(constants))}))\n"
        f"print('ready', flush=True); input(); cifar10.download(pathlib.Path({str(tmp_path)!r}))"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": files.ROOT}
    two = [subprocess.Popen([sys.executable, "-c", code], **pipes) for _ in range(2)]
    for process in two:
        assert process.stdout.readline() == "ready\n"
    for process in two:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in two:
        process.communicate()
        assert process.returncode == 0
    assert server.requests == ["/slow", "/slow"]
    assert cifar10.damaged(tmp_path) == [] and leftovers(tmp_path) == set()


# ---------------------------------------------------------------- without CIFAR-10, the sample


@pytest.fixture
def nowhere(server, tmp_path, monkeypatch):
    """No CIFAR-10 in this project, and no source that works; returns the folder of the project."""
    server.sources("missing")
    monkeypatch.delenv("CIFAR10_DIR", raising=False)
    monkeypatch.setattr(cifar10, "ROOT", tmp_path / "project")
    return tmp_path / "project"


def start(out, *words):
    task1_simplecnn.main(["--device", "cpu", "--epochs", "1", "--output-dir", str(out), *words])


RUN = "task1_simplecnn_epochs1"


def test_a_run_that_would_begin_goes_on_with_the_sample(nowhere, tmp_path, capsys, without_pictures):
    for words in ([], ["--restart"]):
        start(tmp_path, *words)
        out = capsys.readouterr().out
        before, after = out.split("Data:    the sample of CIFAR-10")
        assert f"CIFAR-10 is not in {nowhere / 'data'}, and it could not be downloaded" in before
        assert "\nSo this run becomes one on the sample of CIFAR-10 that comes with the scripts (--sample).\n" in before
        assert f"\nRun:     {RUN}_sample\n" in after
        *_, how, worth, _, _ = after.splitlines()
        assert worth == "Of 500 test images, an accuracy has a standard error of up to 0.022."
        command = rf".*task1_simplecnn\.py --epochs 1 --output-dir {re.escape(str(tmp_path))}"
        assert re.fullmatch(f"On all of it, after a download of 170 MB: {command}", how.replace(" --device cpu", ""))
    record = json.loads((tmp_path / "plots" / f"{RUN}_sample.json").read_text())
    assert record["config"]["sample"] is True and sum(map(sum, record["confusion_matrix"])) == 500
    assert not any(path.is_file() for path in nowhere.rglob("*")) and not list(tmp_path.rglob(f"{RUN}.*"))
    start(tmp_path, "--sample", "--resume")
    assert "This was the sample of CIFAR-10: " in capsys.readouterr().out


@pytest.mark.parametrize("words", ["--sample", "--dry-run", "--dry-run --sample"])
def test_what_needs_no_data_looks_for_none(nowhere, tmp_path, monkeypatch, capsys, without_pictures, words):
    monkeypatch.setattr(cifar10, "download", lambda directory: pytest.fail("a download"))
    start(tmp_path, "--limit", "40", *words.split())
    out = capsys.readouterr().out
    for part in ("40 images to train instead of 45,000", "This was the"):
        assert (part in out) is (words == "--sample")
    assert "task1_simplecnn.py --epochs 1 --" in out or words != "--sample"  # without --limit, too


def test_after_the_sample_nobody_is_told_to_download_what_is_there(nowhere, tmp_path, capsys, without_pictures):
    (tmp_path / "cifar-10-python (1).tar.gz").touch()
    start(tmp_path, "--sample", "--limit", "40", "--data-dir", str(tmp_path))
    assert "\nOn all of it: " in capsys.readouterr().out


@pytest.mark.parametrize("name", ["cifar10_sample.webp", "cifar10_sample.txt"])
def test_a_damaged_sample_is_told(tmp_path, monkeypatch, name):
    for path in (files.ROOT / "lab").glob("cifar10_sample.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes()[: 1000 if path.name == name else None])
    monkeypatch.setattr(cifar10, "__file__", str(tmp_path / "cifar10.py"))
    with pytest.raises(SystemExit, match=r"cannot be read: .*\.webp or .*\.txt is damaged .*both from a fresh copy"):
        cifar10.load_sample(train=True)


def test_an_unfinished_run_on_the_sample_names_its_command(nowhere, tmp_path, capsys, monkeypatch, without_pictures):
    monkeypatch.setattr(common, "train_epoch", lambda *how: signal.raise_signal(signal.SIGINT))
    with pytest.raises(SystemExit, match="130"):
        start(tmp_path)
    command = r"task1_simplecnn\.py --epochs 1 --sample .*--resume"
    assert re.search(f"To go on: .*{command}$", capsys.readouterr().err)
    with pytest.raises(SystemExit, match=f"To go on: .*{command}; to throw .*--restart$"):
        start(tmp_path)
    (tmp_path / "plots" / f"{RUN}.json").write_text("a run on all data that has finished, as those of the repository")
    with pytest.raises(SystemExit, match=f"one on the sample of CIFAR-10. To go on with that: .*{command}; to train "):
        start(tmp_path, "--resume")


def start_on_made_up_images(out, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(cifar10, "load", lambda directory, train: cifar10.made_up(train))
        start(out, "--data-dir", str(out))


@pytest.mark.parametrize("why", ["--test", "CIFAR10_DIR", "damaged", "archive", "unfinished", "--limit"])
def test_what_must_be_on_the_real_data_is_an_error_without_them(nowhere, tmp_path, monkeypatch, without_pictures, why):
    words, out = [], tmp_path / "out"
    if why == "--test":
        words = ["--test"]
        start_on_made_up_images(out, monkeypatch)
    elif why == "CIFAR10_DIR":
        monkeypatch.setenv("CIFAR10_DIR", str(tmp_path / "named"))
    elif why == "damaged":
        fill(nowhere / "data", ["data_batch_1"])
    elif why == "archive":
        (nowhere / "data").mkdir(parents=True)
        (nowhere / "data" / cifar10.ARCHIVE).write_bytes(b"half of it")
    elif why == "unfinished":
        words = ["--resume"]
        with monkeypatch.context() as patch:
            patch.setattr(common, "finish", lambda *how: signal.raise_signal(signal.SIGTERM))
            with pytest.raises(SystemExit, match="143"):
                start_on_made_up_images(out, monkeypatch)
    else:
        words = ["--limit", "2251"]
    before = {path for path in tmp_path.rglob("*") if path.is_file() or "named" in str(path)}
    with pytest.raises(SystemExit, match="could not be downloaded"):
        start(out, *words)
    assert {path for path in tmp_path.rglob("*") if path.is_file() or "named" in str(path)} >= before
    assert not list(tmp_path.rglob("*_sample*"))


def test_a_finished_run_is_shown_without_any_data(nowhere, tmp_path, capsys, monkeypatch, without_pictures):
    start_on_made_up_images(tmp_path, monkeypatch)
    capsys.readouterr()
    start(tmp_path, "--resume")
    out = capsys.readouterr().out
    assert out.startswith(f"{RUN} has finished") and "sample" not in out and "Downloading" not in out


def test_the_limit_of_the_sample_is_its_size(sample, capsys):
    assert parse("--sample", "--limit", "2250").settings.limit == 0.9 * len(sample[0])
    with pytest.raises(SystemExit, match="2"):
        parse("--sample", "--limit", "2251")
    assert "argument --limit: the sample has 2,250 training images" in capsys.readouterr().err


def test_real_files_with_one_changed_byte_are_not_trained_on(official, tmp_path, script, tried):
    (tmp_path / cifar10.FOLDER).mkdir()
    for name in cifar10.FILES:
        (tmp_path / cifar10.FOLDER / name).write_bytes((official / cifar10.FOLDER / name).read_bytes())
    with open(tmp_path / cifar10.FOLDER / "data_batch_2", "r+b") as file:
        file.seek(10_000_000)
        byte = file.read(1)[0]
        file.seek(10_000_000)
        file.write(bytes([byte ^ 1]))
    nowhere = dict.fromkeys(["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"], "http://127.0.0.1:9")
    run = script("task1_simplecnn.py", "--limit", 10, "--data-dir", tmp_path, NO_PROXY="", no_proxy="", **nowhere)
    assert run.returncode == 1
    assert "data_batch_2" in run.stderr and "data_batch_3" not in run.stderr and "Traceback" not in run.stderr
    tried("a data file, one changed byte, with no source")
