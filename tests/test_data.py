"""CIFAR-10 on disk: found, verified, downloaded, repaired, split."""

import contextlib
import hashlib
import http.server
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import threading
import time

import pytest
import torch
from torchvision.datasets import CIFAR10

import common
import task1_simplecnn
from lab import cifar10, flags


def parse(*words):
    return flags.parse("", task1_simplecnn.DEFAULTS, ["--dry-run", "--device", "cpu", *words])


# ---------------------------------------------------------------- what is trained on


def test_images_are_torchvisions(cifar, cifar_dir):
    images, labels, test_images, test_labels = cifar
    for train, ours, our_labels in ((True, images, labels), (False, test_images, test_labels)):
        theirs = CIFAR10(cifar_dir, train=train)
        assert torch.equal(ours, torch.from_numpy(theirs.data).permute(0, 3, 1, 2))
        assert our_labels.tolist() == theirs.targets
        assert (ours.dtype, our_labels.dtype) == (torch.uint8, torch.int64)


def test_split_is_random_by_the_seed_and_loses_no_image(cifar, monkeypatch):
    monkeypatch.setattr(cifar10, "load", lambda directory: cifar)
    validation = []
    for words in ([], [], ["--seed", "1"]):
        args = parse(*words)
        args.dry_run = False
        train, val, test = common.load_data(args)
        assert [len(part.labels) for part in (train, val, test)] == [45_000, 5_000, 10_000]
        assert torch.equal(test.images, cifar[2])
        again = torch.cat([train.images, val.images])  # a permutation: the same images, each as often
        assert torch.equal(*(images.flatten(1).double().sum(1).sort().values for images in (again, cifar[0])))
        assert 400 < torch.bincount(val.labels).min() <= torch.bincount(val.labels).max() < 600
        validation.append(val.images)
    assert torch.equal(validation[0], validation[1])
    assert not torch.equal(validation[0], validation[2])


def test_mean_and_standard_deviation_are_those_of_the_first_image(cifar, monkeypatch):
    monkeypatch.setattr(cifar10, "load", lambda directory: cifar)
    for words in ([], ["--seed", "3"], ["--limit", "100"]):
        args = parse(*words)
        args.dry_run = False
        for part in common.load_data(args):
            assert part.mean.flatten().tolist() == pytest.approx([0.55375, 0.41216, 0.25113], abs=1e-5)
            assert part.std.flatten().tolist() == pytest.approx([0.15947, 0.16639, 0.16018], abs=1e-5)


def test_batches_are_normalized_and_in_order():
    train, _, test = common.load_data(parse())
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
    args = parse("--no-norm")
    (plain, _), *_ = common.batches(common.load_data(args)[0], 15, order, None)
    assert 0 <= plain.min() < 0.1 and 0.9 < plain.max() <= 1


def test_limit_takes_a_tenth_to_validate_and_to_test(made_up):
    args = parse("--limit", "120")
    args.dry_run = False
    assert [len(part.labels) for part in common.load_data(args)] == [120, 12, 12]


def test_find_takes_the_first_directory_that_holds_all_files(tmp_path, monkeypatch):
    monkeypatch.delenv("CIFAR10_DIR", raising=False)
    here = tmp_path / "project"

    def fill(directory, names):
        (directory / cifar10.FOLDER).mkdir(parents=True)
        for name in names:
            (directory / cifar10.FOLDER / name).touch()

    assert cifar10.find(here) == here / "data"
    fill(tmp_path / "shared" / "cifar10", cifar10.FILES)
    assert cifar10.find(here) == tmp_path / "shared" / "cifar10"
    fill(here / "data", list(cifar10.FILES)[:6])
    assert cifar10.find(here) == tmp_path / "shared" / "cifar10"
    (here / "data" / cifar10.FOLDER / "batches.meta").touch()
    assert cifar10.find(here) == here / "data"
    monkeypatch.setenv("CIFAR10_DIR", str(tmp_path))
    assert cifar10.find(here) == tmp_path


# ---------------------------------------------------------------- downloads, from a server on this machine


@pytest.fixture
def server(monkeypatch):
    """A server of a small archive in CIFAR-10's form: /good, /slow, /silent, /cut, /wrong, and 404 for all else."""
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
                    time.sleep(0.1)

        def log_message(self, *args):
            pass

        def handle(self):
            with contextlib.suppress(ConnectionError):  # of a client that gave up
                super().handle()

    requests, released = [], threading.Event()
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    digests = {name: hashlib.md5(content).hexdigest() for name, content in contents.items()}
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    constants = {
        "FILES": digests,
        "ARCHIVE_MD5": hashlib.md5(archive).hexdigest(),
        "TIMEOUT": 2,
        "SLOW": 2_000_000,
        "GRACE": 0.5,
    }
    for name, value in constants.items():
        monkeypatch.setattr(cifar10, name, value)

    class Server:
        def sources(self, *kinds):
            """Download from these from now on; "refused" is a port where nobody listens."""
            free = "http://127.0.0.1:9"
            address = f"http://127.0.0.1:{httpd.server_port}"
            urls = [f"{free if kind == 'refused' else address}/{kind}" for kind in kinds]
            monkeypatch.setattr(cifar10, "SOURCES", urls)
            return urls

    Server.archive, Server.requests, Server.constants = archive, requests, constants
    yield Server()
    released.set()
    httpd.shutdown()
    httpd.server_close()


def leftovers(directory):
    return {path.name for path in directory.iterdir()} - {cifar10.FOLDER, cifar10.ARCHIVE}


@pytest.mark.parametrize("bad", ["refused", "missing", "cut", "wrong", "silent", "slow"])
def test_a_source_that_fails_is_followed_by_the_next(server, tmp_path, bad):
    server.sources(bad, "good")
    cifar10.download(tmp_path / "new" / "data")
    assert cifar10.damaged(tmp_path / "new" / "data") == []
    assert leftovers(tmp_path / "new" / "data") == set()


def test_a_slow_source_is_better_than_none(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("lab.progress.PAUSE", -1)
    server.sources("slow", "missing")
    cifar10.download(tmp_path)
    assert re.search(r"^  \d MB so far$", capsys.readouterr().out, re.MULTILINE)
    assert cifar10.damaged(tmp_path) == []
    assert server.requests == ["/slow", "/missing", "/slow"]


def test_when_every_source_fails_one_message_says_all(server, tmp_path):
    urls = server.sources("refused", "missing", "cut", "wrong", "silent")
    with pytest.raises(SystemExit) as failure:
        cifar10.download(tmp_path)
    message = failure.value.code
    for url, reason in zip(urls, ["refused", "404", "IncompleteRead", "hash", "timed out"], strict=True):
        assert any(url in line and reason in line for line in message.splitlines()), (url, reason, message)
    for name in (str(tmp_path / cifar10.FOLDER), *cifar10.FILES, cifar10.ARCHIVE, cifar10.ARCHIVE_MD5, "--data-dir"):
        assert name in message
    assert set(cifar10.damaged(tmp_path)) == set(cifar10.FILES)
    assert leftovers(tmp_path) == set() and not (tmp_path / cifar10.ARCHIVE).exists()


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


def test_an_archive_put_there_by_hand_is_used(server, tmp_path):
    server.sources("missing")
    (tmp_path / cifar10.ARCHIVE).write_bytes(server.archive)
    cifar10.download(tmp_path)
    assert cifar10.damaged(tmp_path) == [] and server.requests == []


def test_a_directory_that_cannot_be_is_reported(server, tmp_path):
    server.sources("good")
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match=r"not whole in .*file"):
        cifar10.download(tmp_path / "file")


def test_two_processes_may_download_at_once(server, tmp_path):
    constants = server.constants | {"SOURCES": server.sources("slow"), "SLOW": 0}
    code = (
        "import json, pathlib; from lab import cifar10\n"
        f"vars(cifar10).update(json.loads({json.dumps(json.dumps(constants))}))\n"
        f"print('ready', flush=True); input(); cifar10.download(pathlib.Path({str(tmp_path)!r}))"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": flags.ROOT}
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


def test_real_files_with_one_changed_byte_are_not_trained_on(cifar_dir, tmp_path, script, tried):
    (tmp_path / cifar10.FOLDER).mkdir()
    for name in cifar10.FILES:
        (tmp_path / cifar10.FOLDER / name).write_bytes((cifar_dir / cifar10.FOLDER / name).read_bytes())
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
