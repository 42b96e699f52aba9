"""Any image file as the networks see it, by Pillow's own means."""

import contextlib
import glob
import io
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageCms, ImageFile, ImageOps, UnidentifiedImageError

with contextlib.suppress(ImportError):  # optional: with it, Pillow reads HEIC
    import pillow_heif

    pillow_heif.register_heif_opener()

MOST_PIXELS = 250_000_000  # the largest camera of a phone has 200 million
ENOUGH = 512  # pixels a side, for the 32 that are made of them: images of many more are made smaller first
PHOTO = re.compile(r".*\.(avif|bmp|gif|hei[cf]|jfif|jp2|jpe?g|p[gp]m|png|svgz?|tiff?|webp)", re.IGNORECASE)


def images_in(path: Path) -> list[Path]:
    """The images in a folder, or those that fit a pattern, sorted and without hidden ones; else ``path`` itself."""
    names = [] if os.path.exists(path) else glob.glob(str(path).replace("[", "[[]"))  # for cmd, which has no [
    if os.path.isdir(path):
        names = filter(PHOTO.fullmatch, glob.glob(os.path.join(glob.escape(str(path)), "*")))
    return sorted(Path(name) for name in names if os.path.isfile(name)) or [path]


def read_image(path: Path) -> torch.Tensor:
    """The centre of an image file, cropped to a square and resized: [3, 32, 32] uint8.

    The photo is turned upright (EXIF), its colour profile is applied, and what is transparent becomes white. An
    animation gives its first frame. Raises ValueError, with a message for the user: the file cannot be read.
    """
    start = b""
    try:
        with open(path, "rb") as file, pillow_for_photos():
            start = file.peek(1000)
            image = Image.open(file)
            ImageFile.LOAD_TRUNCATED_IMAGES = image.format == "JPEG"  # others need their last bytes
            image.draft(None, (ENOUGH, ENOUGH))
            image = averageable(image)
            image = image.reduce(max(1, min(image.size) // ENOUGH))
            with contextlib.suppress(Exception):  # Pillow raises many kinds for broken EXIF
                ImageOps.exif_transpose(image, in_place=True)  # in place, it turns before it rewrites the EXIF
            image = ImageOps.fit(to_rgb(image), (32, 32))
    except Exception as error:  # Pillow raises many kinds for a file that is something else, or damaged
        raise ValueError(f"{path} cannot be read: {reason_of(path, start, error)}.") from None
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


@contextlib.contextmanager
def pillow_for_photos() -> Iterator[None]:
    """Inside, Pillow does not warn, allows :data:`MOST_PIXELS` and mends metadata; afterwards it is as before."""
    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = MOST_PIXELS // 2, True  # Pillow refuses twice as many
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = before


def averageable(image: Image.Image) -> Image.Image:
    """``image`` in a mode whose pixels can be averaged: L, LA, RGB, RGBA or CMYK."""
    image.load()
    clear = image.info.get("transparency")
    if image.mode[0] in "IF":  # grey of 16 or 32 bits
        values, black, white = np.asarray(image), 0, 65535
        if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):  # which do not define white
            black, white = values.min(), values.max()
        grey = (values - np.float32(black)) * np.float32(255 / (white - black))
        info, image = image.info, Image.fromarray(grey.round().astype(np.uint8))
        image.info = info
        if clear is not None:
            image.putalpha(Image.fromarray(values != clear))
    elif clear is not None or image.mode not in ("L", "LA", "RGB", "RGBA", "CMYK"):
        if isinstance(clear, tuple) and max(clear) > 255:  # Pillow makes 8 bits of 16 in the pixels, but not here
            image.info["transparency"] = tuple(value >> 8 for value in clear)
        image = image.convert("RGBA")
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    """``image`` in the colours of sRGB on a white ground, in mode RGB."""
    colours = image.convert(image.mode.removesuffix("A"))
    if profile := image.info.get("icc_profile"):
        with contextlib.suppress(ImageCms.PyCMSError, OSError):  # it is broken, or for another kind of colours
            srgb = ImageCms.createProfile("sRGB")
            colours = ImageCms.profileToProfile(colours, io.BytesIO(profile), srgb, outputMode="RGB")
    ground = Image.new("RGB", image.size, "white")
    ground.paste(colours.convert("RGB"), mask=image.getchannel("A") if image.mode.endswith("A") else None)
    return ground


def reason_of(path: Path, start: bytes, error: Exception) -> str:
    """Why a file that begins with ``start`` cannot be read, and what to do about it."""
    match error:
        case MemoryError():
            return "there is not enough memory"
        case Image.DecompressionBombError():
            return f"it has more than {MOST_PIXELS / 1e6:.0f} million pixels"
        case UnidentifiedImageError():
            if path.suffix.lower() in (".svg", ".svgz") or b"<svg" in start:
                return "it is an SVG drawing. Export it as PNG"
            if re.match(rb"....ftyp(hei|hev|mif1|msf1)", start, re.DOTALL) and "HEIF" not in Image.OPEN:
                return "it is a HEIC photo. Export it as JPEG, or: pip install pillow-heif, and the same command again"
            return "its format is unknown"
        case OSError() if re.match(r"-$|\w\w+:[/\\]", str(path)):
            return "an address or standard input is no file. Save the image first, and name its file"
        case OSError():
            return "it is a folder without images" if os.path.isdir(path) else error.strerror or str(error)
    return "its content makes no sense"
