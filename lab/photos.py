"""Any image file as the networks see it.

Pillow reads it. What is here is what a photo needs beyond that: metadata that say what a pixel means are honoured,
those that make no sense do not matter, and memory has a bound, whatever a file claims to be.
"""

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps

from lab import mending

MOST_PIXELS = {"JPEG": 250_000_000, "MPO": 250_000_000}  # the largest camera of a phone has 200 million
MOST_PIXELS_ELSE = 100_000_000  # of formats that cannot be decoded at half the size: up to 20 bytes each
MOST_BYTES = 1_000_000_000  # what is longer is read as if it were cut short
ENOUGH = 512  # pixels a side, for the 32 that are made of them: what has many more is made smaller first of all
LACKING = 0.1  # of the rows of a JPEG: as many may be missing at its end
TO_8_BITS = {"RGB;16B": 1 / 256, "L;4": 17, "L;2": 85}  # what Pillow multiplies pixels by, but no transparent colour
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"heif", b"mif1", b"msf1", b"avci")
NO_PHOTOS = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}  # which Pillow knows of, but which need other programs
TURNED = {  # by the orientation in EXIF
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ORIENTATION, BITS, PHOTOMETRIC, SAMPLE_FORMAT = 274, 258, 262, 339  # tags of EXIF and TIFF


def images_in(path: Path) -> list[Path]:
    """The image files that ``path`` stands for: those in a folder; those that fit a pattern; else itself.

    (On Windows it is not the shell that replaces a pattern.)
    """
    images = []
    with contextlib.suppress(OSError):  # then read_image says what is wrong
        if os.path.isdir(path):
            endings = {end for end, kind in Image.registered_extensions().items() if kind in {*Image.OPEN} - NO_PHOTOS}
            endings |= {".heic", ".heif", ".hif", ".svg", ".svgz"}  # which get a line that says what to do
            files = (file for file in path.iterdir() if file.suffix.lower() in endings)
        else:
            files = [] if os.path.exists(path) else path.parent.glob(path.name)
        images = sorted(file for file in files if os.path.isfile(file) and not file.name.startswith("."))
    return images or [path]


def read_image(path: Path) -> torch.Tensor:
    """The centre of an image file, cropped to a square and resized: [3, 32, 32] uint8.

    A photo is turned upright, as its camera says (EXIF). Its colours are those of its profile. What is transparent gets
    a white ground. Of an animation it is the first frame; of a JPEG, a tenth may be missing at the end.
    Raises ValueError: there is no such file, or it cannot be read; the message is for the user.
    """
    content = b""
    try:
        with open(path, "rb") as file:
            content = file.read(MOST_BYTES)
        with pillow_for_photos():
            image = decoded(content)
            turn, profile = TURNED.get(orientation_of(image)), image.info.get("icc_profile")
            image = small(image, *range_of(image))
            image = image if turn is None else image.transpose(turn)
            image = ImageOps.fit(to_rgb(image, profile), (32, 32))
    except FileNotFoundError:
        raise ValueError(f"There is no {path}.") from None
    except MemoryError:
        raise ValueError(f"There is not enough memory for {path}.") from None
    except Exception as error:  # Pillow raises many kinds for a file that is something else, or damaged
        raise ValueError(problem_of(path, content, error)) from None
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def problem_of(path: Path, content: bytes, error: Exception) -> str:
    """Why a file could not be read, in a sentence, and what to do if that is known."""
    known = isinstance(error, (OSError, SyntaxError))
    reason = (getattr(error, "strerror", None) or str(error)) if known else ""
    if os.path.isdir(path):
        reason = "a folder in which no image is found"
    if isinstance(error, Image.DecompressionBombError):
        reason = f"more than {MOST_PIXELS['JPEG'] / 1e6:.0f} million pixels; if not JPEG, {MOST_PIXELS_ELSE / 1e6:.0f}"
    if isinstance(error, Image.UnidentifiedImageError):
        reason, start = "unknown format", content[:100_000]
        brands = start[8 : int.from_bytes(start[:4], "big")] if start[4:8] == b"ftyp" else b""
        if brands[:3] != b"avi" and any(brand in brands for brand in HEIC):
            return f"{path} is a HEIC photo, which cannot be read here. Export it as JPEG, and name that file."
        if path.suffix in (".svg", ".svgz") or (b"<svg" in start and b"<html" not in start.lower()):
            return f"{path} is an SVG drawing, which cannot be read here. Export it as PNG, and name that file."
    return f"{path} is no image that can be read ({reason or 'its content makes no sense'})."


# ---------------------------------------------------------------- from a file


@contextlib.contextmanager
def pillow_for_photos() -> Iterator[None]:
    """Inside, Pillow and its libraries say nothing, and images may be larger than it likes; afterwards as before."""
    logger, limit, errors = logging.getLogger("PIL"), Image.MAX_IMAGE_PIXELS, os.dup(2)
    level, null = logger.level, os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)  # where libtiff writes to
        logger.setLevel(logging.CRITICAL)
        Image.MAX_IMAGE_PIXELS = max(MOST_PIXELS.values()) // 2  # it refuses twice as many, also inside of an ICO
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit
        logger.setLevel(level)
        os.dup2(errors, 2)
        os.close(errors)
        os.close(null)


def decoded(content: bytes) -> Image.Image:
    """The image in the bytes of a file; also if its metadata are damaged, or the last bytes of a JPEG are missing."""
    try:
        return loaded(content)
    except (Image.DecompressionBombError, MemoryError):
        raise
    except Exception:
        for variant in mending.variants(content):
            with contextlib.suppress(Exception):
                image = loaded(variant)
                if image.format != "JPEG" or not lacks_rows(image):
                    return image
        raise


def loaded(content: bytes) -> Image.Image:
    """An image with its pixels; of a large JPEG only every second, fourth or eighth."""
    image = Image.open(io.BytesIO(content))
    most = MOST_PIXELS.get(image.format, MOST_PIXELS_ELSE)
    if image.width * image.height > most:
        raise Image.DecompressionBombError
    image.draft(None, (ENOUGH, ENOUGH))
    if (clear := image.info.get("transparency")) is not None and image.tile[0][3] in TO_8_BITS:
        colour = np.int64(np.multiply(clear, TO_8_BITS[image.tile[0][3]])).tolist()
        image.info["transparency"] = tuple(colour) if isinstance(colour, list) else colour
    image.load()
    return image


def lacks_rows(image: Image.Image) -> bool:
    """Whether too much is missing at the end of a JPEG, and so of medium grey."""
    grey = np.isin(np.asarray(image), (127, 128)).reshape(image.height, -1).all(axis=1)
    return bool(grey[int((1 - LACKING) * image.height) :].all())


def orientation_of(image: Image.Image) -> int:
    """How the camera was held, as EXIF counts it; 1, upright, if that cannot be known."""
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # what Pillow raises for senseless EXIF has many kinds
        return 1


def range_of(image: Image.Image) -> tuple[int | None, bool]:
    """How many bits a grey pixel has where it has more than 8; and whether the format is inverted, so that 0 is white.

    The bits are None where the format does not say which number is white: for those that have a sign, or a fraction.
    """
    if image.format == "TIFF":
        unsigned = image.tag_v2.get(SAMPLE_FORMAT, (1,))[0] == 1
        return image.tag_v2.get(BITS, (1,))[0] if unsigned else None, image.tag_v2.get(PHOTOMETRIC) == 0
    defined = image.format in ("PNG", "PPM", "JPEG2000") and image.mode != "F"
    return 16 if defined else None, False


# ---------------------------------------------------------------- to what a network sees


def small(image: Image.Image, bits: int | None, inverted: bool) -> Image.Image:
    """The centre of an image, a square or one pixel more, in 8 bits; with less than ``2 * ENOUGH`` pixels a side.

    For ``bits`` and ``inverted`` see :func:`range_of`.
    """
    if image.mode.startswith("I") and bits:
        image = in_8_bits(image, bits, inverted)
    elif image.mode in ("P", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
    elif image.mode == "1":
        image = image.convert("L")
    if min(image.size) >= 2 * ENOUGH:
        image = image.reduce(min(image.size) // ENOUGH)
    if image.mode[0] in "IF":
        image = in_8_bits(image, bits, inverted)
    side = min(image.size)
    width, height = (side + (length - side) % 2 for length in image.size)  # so that the centre stays where it is
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def in_8_bits(image: Image.Image, bits: int | None, inverted: bool) -> Image.Image:
    """Grey of more than 8 bits in mode L, or LA if a grey is transparent.

    Where the format does not define white, the brightest pixel becomes it, and the darkest black.
    """
    values = np.asarray(image)
    if bits:
        grey = values.view(values.dtype.str.replace("i", "u")).astype(np.float32)
        grey *= 255 / (2**bits - 1)
    else:
        finite = values[np.isfinite(values)].astype(np.float64)
        black, white = (finite.min(), finite.max()) if finite.size else (0, 0)
        grey = np.nan_to_num((values - black) * (255 / ((white - black) or 1))).clip(0, 255)
    grey = grey.round().astype(np.uint8)
    grey = 255 - grey if inverted else grey
    clear = image.info.get("transparency")
    if clear is None:
        return Image.fromarray(grey)
    return Image.fromarray(np.stack([grey, np.where(values == clear, 0, 255).astype(np.uint8)], axis=2))


def to_rgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """``image``, of any mode of 8 bits, in the colours of sRGB, in mode RGB, on a white ground."""
    if image.mode in ("LA", "La", "RGBA", "RGBa"):
        image = image.convert(image.mode.upper())
        alpha = image.getchannel("A")
        image = to_rgb(image.convert(image.mode[:-1]), profile)
        image.putalpha(alpha)
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if image.mode == "LAB":
        return in_srgb(image, ImageCms.createProfile("LAB"))
    if profile:
        with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):  # a profile that is none
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            mode = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}.get(source.profile.xcolor_space)
            if mode == image.mode or (mode == "RGB" and image.mode != "CMYK"):
                return in_srgb(image.convert(mode), source)
    return image.convert("RGB")


def in_srgb(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    return ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
