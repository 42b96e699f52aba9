"""Any image file as the networks see it."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps

Image.MAX_IMAGE_PIXELS = None  # Pillow guards servers against strangers' files; these are the user's own


def read_image(path: Path) -> torch.Tensor:
    """The centre of an image file, cropped to a square and resized: [3, 32, 32] uint8.

    A photo is turned upright, as its camera says (EXIF); what is transparent gets a white ground; of an animation it is
    the first frame.
    Raises ValueError: there is no such file, or it cannot be read; the message is for the user.
    """
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
        image = ImageOps.fit(to_rgb(image), (32, 32))
    except FileNotFoundError:
        raise ValueError(f"There is no {path}.") from None
    except MemoryError:
        raise ValueError(f"There is not enough memory for {path}.") from None
    except Exception as error:  # Pillow raises many kinds for a file that is something else, or damaged
        unknown = isinstance(error, Image.UnidentifiedImageError)
        reason = "unknown format" if unknown else getattr(error, "strerror", None) or str(error)
        raise ValueError(f"{path} is no image that can be read ({reason or type(error).__name__}).") from None
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def to_rgb(image: Image.Image) -> Image.Image:
    """``image``, of any mode, in mode RGB.

    In grey images of more than 8 bits, no number is white by itself: the darkest pixel becomes black, the brightest
    white.
    """
    if image.mode[0] in "IF":  # 16 or 32 bits, or float
        values = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0, neginf=0)
        values = (values - values.min()) * (255 / (np.ptp(values) or 1))
        image = Image.fromarray(values.round().astype(np.uint8))
    if image.mode == "LAB":
        return ImageCms.profileToProfile(
            image, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode.upper()[-1] == "A" or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
