"""--predict: any image file, through the same eyes as the test images."""

import contextlib
import io
import itertools
import logging
import os
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageFile, ImageOps, TiffImagePlugin
from torchvision.datasets import CIFAR10
from torchvision.transforms import functional

import task1_simplecnn
from lab import flags, photos
from lab.cifar10 import CLASSES
from lab.photos import read_image
from task1_simplecnn import SimpleCNN

LINE = re.compile(r"(.*): (\w+) (\d+\.\d)%, (\w+) (\d+\.\d)%, (\w+) (\d+\.\d)%")


def predict(capsys, *words):
    """Run the script with the committed weights; returns its exit code and what it printed."""
    try:
        task1_simplecnn.main(["--device", "cpu", "--predict", *map(str, words)])
        code = 0
    except SystemExit as ended:
        code = ended.code
    printed = capsys.readouterr()
    return code, printed.out.splitlines(), printed.err.splitlines()


@pytest.fixture
def gradient():
    """A colourful picture, wider than high."""
    y, x = np.mgrid[0:48, 0:80]
    return Image.fromarray(np.stack([3 * x, 5 * y, 255 - 3 * x], axis=2).astype(np.uint8))


def test_the_classes_are_those_of_the_data(official):
    assert list(CLASSES) == CIFAR10(official).classes


def test_saved_test_images_are_predicted_as_test_images(sample, tmp_path, capsys):
    _, _, images, _ = sample
    paths = [tmp_path / f"{number}.png" for number in range(20)]
    for path, image in zip(paths, images, strict=False):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    code, lines, errors = predict(capsys, *paths)
    assert (code, len(lines), errors) == (0, 20, [])

    checkpoint = torch.load(flags.ROOT / "checkpoints" / "task1_simplecnn.pt")
    model = SimpleCNN().eval()
    model.load_state_dict(checkpoint["model"])
    mean, std = (torch.tensor(checkpoint["config"][name]).view(3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        probabilities = model((images[:20] / 255 - mean) / std).softmax(1)
    for path, line, of in zip(paths, lines, probabilities, strict=True):
        name, *pairs = LINE.fullmatch(line).groups()
        assert name == str(path)
        assert pairs[0::2] == [CLASSES[number] for number in of.argsort(descending=True)[:3]]
        assert [float(value) for value in pairs[1::2]] == pytest.approx(
            (100 * of.sort(descending=True).values[:3]).tolist(), abs=0.06
        )


@pytest.mark.parametrize("size", [(80, 48), (48, 80), (300, 200), (33, 31), (32, 32), (1000, 2), (1, 1), (2, 1)])
def test_the_centre_is_cropped_and_resized(gradient, tmp_path, size):
    """As torchvision does it."""
    image = gradient.resize(size)
    image.save(tmp_path / "image.png")
    expected = functional.resize(
        functional.center_crop(image, min(size)), [32, 32], functional.InterpolationMode.BICUBIC
    )
    ours = read_image(tmp_path / "image.png")
    assert ours.shape == (3, 32, 32) and ours.dtype == torch.uint8
    if (size[0] - size[1]) % 2 == 0:  # else the centre lies between two pixels, and both ways are right
        assert torch.equal(ours, functional.pil_to_tensor(expected))


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        *itertools.product(["1", "L", "P", "RGB"], ["png", "gif", "bmp", "tiff"]),
        *itertools.product(["LA", "RGBA"], ["png", "tiff"]),
        *itertools.product(["L", "RGB", "CMYK"], ["jpg", "tiff"]),
        *(
            ("RGB", "webp"),
            ("RGBA", "webp"),
            ("RGB", "ppm"),
            ("RGB", "ico"),
            ("YCbCr", "tiff"),
            ("LAB", "tiff"),
            ("PA", "tiff"),
        ),
        *(("I;16", "png"), ("I;16", "tiff"), ("I", "tiff"), ("F", "tiff")),
    ],
)
def test_all_modes_look_alike(gradient, tmp_path, mode, suffix):
    if mode == "LAB":
        from PIL import ImageCms

        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(gradient, *profiles, outputMode="LAB")
    elif mode in ("I;16", "I", "F"):
        grey = np.asarray(gradient.convert("L"), np.float64)
        kind = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
        image = Image.fromarray((grey * {"I;16": 257, "I": 1_000_000, "F": 1 / 255}[mode]).astype(kind))
    else:
        image = gradient.convert("L" if mode == "LA" else "P" if mode == "PA" else "RGB").convert(mode)
    path = tmp_path / f"image.{suffix}"
    image.save(path)
    if mode == "YCbCr":  # Pillow 12.3 cannot read what it wrote
        try:
            Image.open(path).load()
        except OSError as error:
            pytest.skip(str(error))
    grey = mode in ("1", "L", "LA", "I;16", "I", "F")
    gradient.convert("L" if grey else "RGB").save(tmp_path / "plain.png")
    ours, plain = read_image(path).int(), read_image(tmp_path / "plain.png").int()
    if mode in ("I", "F"):  # black is their darkest, white their brightest, for the format does not say
        low, high = np.asarray(gradient.convert("L")).min(), np.asarray(gradient.convert("L")).max()
        plain = ((plain - low) * 255 / (high - low)).round()
    loss = {"1": 30, "P": 6, "PA": 6}.get(mode, 4 if suffix in ("gif", "jpg", "webp") else 2)  # of 255; 1 and P dither
    assert (ours - plain).abs().float().mean() < loss


def test_transparent_is_white_and_photos_stand_upright(gradient, tmp_path):
    clear = gradient.convert("RGBA")
    clear.putalpha(0)
    for name, image in {"rgba.png": clear, "la.png": clear.convert("LA")}.items():
        image.save(tmp_path / name)
        assert (read_image(tmp_path / name) == 255).all()
    palette = gradient.quantize(16)
    palette.save(tmp_path / "palette.png", transparency=bytes(16))
    assert (read_image(tmp_path / "palette.png") == 255).all()

    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    gradient.save(tmp_path / "turned.png", exif=exif)
    gradient.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "upright.png")
    assert torch.equal(read_image(tmp_path / "turned.png"), read_image(tmp_path / "upright.png"))


def test_what_is_no_image_is_told_and_the_others_are_predicted(gradient, tmp_path, capsys):
    gradient.save(tmp_path / "good.png")
    for suffix in ("jpg", "png"):
        gradient.resize((640, 480)).save(tmp_path / f"whole.{suffix}")
    contents = {
        "empty.png": b"",
        "text.jpg": b"a photo of a cat",
        "page.jpg": b"<HTML><svg></svg></HTML>",
        "cut.png": (tmp_path / "whole.png").read_bytes()[:1500],
    }
    contents["cut.jpg"] = (tmp_path / "whole.jpg").read_bytes()[:3000]
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.png").mkdir()
    bad = [tmp_path / name for name in (*contents, "folder.png", "missing.png", "*.bmp")]
    code, lines, errors = predict(capsys, tmp_path / "good.png", *bad, tmp_path / "whole.jpg")
    assert code == 1
    assert [LINE.fullmatch(line)[1] for line in lines] == [str(tmp_path / "good.png"), str(tmp_path / "whole.jpg")]
    assert len(errors) == len(bad)
    for path, error in zip(bad, errors, strict=True):
        assert re.fullmatch(
            rf"({re.escape(str(path))} is no image that can be read \(.+\)|There is no .*(missing\.png|\*\.bmp))\.",
            error,
        )


# ---------------------------------------------------------------- what a photo's metadata say


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(bits, kind, pixel, *chunks):
    """A PNG of 32x32 equal pixels, byte by byte as its specification says."""
    rows = zlib.compress((b"\0" + pixel * (32 * min(bits, 8) // 8)) * 32)  # below 8 bits, a byte has several pixels
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 32, bits, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


GREY, RGB, GREY_ALPHA = 0, 2, 4  # kinds of PNG


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (png(16, GREY, b"\xff\xff"), [255] * 3),
        (png(16, GREY, b"\x00\x00"), [0] * 3),
        (png(16, GREY, struct.pack(">H", 1000)), [round(1000 / 257)] * 3),
        (png(16, GREY, b"\x03\xe8", chunk(b"tRNS", b"\x03\xe8")), [255] * 3),
        (png(16, GREY, b"\x03\xe8", chunk(b"tRNS", b"\x03\xe9")), [4] * 3),
        (png(16, GREY_ALPHA, b"\0\0\x80\0"), [127] * 3),
        (png(16, RGB, b"\x10\0\x20\0\x30\0"), [16, 32, 48]),
        (png(16, RGB, b"\x10\0\x20\0\x30\0", chunk(b"tRNS", b"\x10\0\x20\0\x30\0")), [255] * 3),
        (png(16, RGB, b"\x10\0\x20\0\x30\0", chunk(b"tRNS", b"\x11\0\x20\0\x30\0")), [16, 32, 48]),
        (png(4, GREY, b"\x55", chunk(b"tRNS", b"\0\x05")), [255] * 3),
        (png(4, GREY, b"\x55", chunk(b"tRNS", b"\0\x06")), [85] * 3),
        (b"P5 32 32 1023\n" + struct.pack(">H", 1023) * 1024, [255] * 3),
        (b"Pf\n32 32\n-1.0\n" + struct.pack("<ff", 0.5, 7.0) + struct.pack("<f", 0.5) * 1022, None),
    ],
)
def test_more_than_8_bits_mean_what_the_format_says(tmp_path, content, expected):
    (tmp_path / "image").write_bytes(content)
    colours = read_image(tmp_path / "image").flatten(1).unique(dim=1).T.tolist()
    assert colours == ([expected] if expected else [[0] * 3, [255] * 3])  # None: from the darkest to the brightest


@pytest.mark.parametrize(("kind", "photometric", "expected"), [("<u2", 1, 4), ("<u2", 0, 251), (">u2", 1, 4)])
def test_16_bits_of_tiff_know_their_order_and_which_end_is_white(tmp_path, kind, photometric, expected):
    image = Image.fromarray(np.full((32, 32), 1000, kind))
    image.save(tmp_path / "image.tiff", tiffinfo={262: photometric})
    assert (tmp_path / "image.tiff").read_bytes().startswith(b"MM" if kind == ">u2" else b"II")
    assert read_image(tmp_path / "image.tiff").unique().tolist() == [expected]


def test_what_is_no_number_is_neither_black_nor_white(tmp_path):
    values = np.full((32, 32), 150, np.float32)
    values[:8], values[8:16], values[31] = 100, 250, np.nan
    Image.fromarray(values).save(tmp_path / "image.tiff")
    assert {0, 85, 255} <= set(read_image(tmp_path / "image.tiff").unique().tolist())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("mode", "suffix"), [("RGB", "jpg"), ("RGB", "png"), ("RGB", "webp"), ("L", "tiff")])
def test_a_photo_stands_as_its_camera_says(gradient, tmp_path, mode, suffix, orientation):
    """As Pillow turns it, if it reads from memory: from the disk, it scrambles some TIFF files that are turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    image, path = gradient.convert(mode), tmp_path / f"image.{suffix}"
    image.save(path, exif=exif)
    with Image.open(io.BytesIO(path.read_bytes())) as file:
        ImageOps.exif_transpose(file).save(tmp_path / "upright.png")
    assert (read_image(path).int() - read_image(tmp_path / "upright.png").int()).abs().max() <= 2


def swapped_profile():
    """The profile of a screen that has red where others have blue."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"?XYZ").replace(b"bXYZ", b"rXYZ").replace(b"?XYZ", b"bXYZ")


def grey_profile():
    """The profile of a grey that is proportional to light; sRGB shows half of it as 188 (IEC 61966-2-1)."""
    white = struct.pack(">3i", 63190, 65536, 54061)
    tags = {b"wtpt": b"XYZ " + bytes(4) + white, b"kTRC": b"curv" + bytes(4) + struct.pack(">I", 0)}
    start = 128 + 4 + 12 * len(tags)
    table, content = struct.pack(">I", len(tags)), b""
    for name, tag in tags.items():
        table += name + struct.pack(">II", start + len(content), len(tag))
        content += tag
    header = struct.pack(
        ">I4xI4s4s4s12x4s28x12s48x", start + len(content), 0x02400000, b"mntr", b"GRAY", b"XYZ ", b"acsp", white
    )
    return header + table + content


def test_a_grey_profile_is_for_grey_alone(gradient, tmp_path):
    for mode, suffix in (("L", "png"), ("L", "jpg"), ("LA", "png")):
        Image.new("L", (32, 32), 128).convert(mode).save(tmp_path / f"grey.{suffix}", icc_profile=grey_profile())
        assert read_image(tmp_path / f"grey.{suffix}").unique().tolist() == [188]
    for name, how in (("odd", {"icc_profile": grey_profile()}), ("plain", {})):
        gradient.save(tmp_path / f"{name}.png", **how)
    assert torch.equal(read_image(tmp_path / "odd.png"), read_image(tmp_path / "plain.png"))


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("RGB", "png"), ("RGBA", "png"), ("P", "png"), ("RGB", "jpg"), ("RGB", "tiff"), ("RGB", "webp")],
)
def test_a_colour_profile_is_honoured(gradient, tmp_path, mode, suffix):
    how = {"lossless": True} if suffix == "webp" else {"quality": 100, "subsampling": 0} if suffix == "jpg" else {}
    image = gradient.convert(mode)
    image.save(tmp_path / f"swapped.{suffix}", icc_profile=swapped_profile(), **how)
    image.save(tmp_path / f"plain.{suffix}", **how)
    swapped, plain = (read_image(tmp_path / f"{name}.{suffix}").int() for name in ("swapped", "plain"))
    assert (swapped - plain.flip(0)).abs().max() <= 2 and (swapped - plain).abs().max() > 100


@pytest.mark.parametrize(
    "profile", [b"no profile", swapped_profile()[:200], swapped_profile().replace(b"RGB ", b"CMYK")]
)
def test_a_profile_that_makes_no_sense_does_not_matter(gradient, tmp_path, profile):
    gradient.save(tmp_path / "senseless.png", icc_profile=profile)
    gradient.convert("L").save(tmp_path / "grey.jpg", icc_profile=swapped_profile())  # often, and harmless
    gradient.save(tmp_path / "plain.png")
    assert torch.equal(read_image(tmp_path / "senseless.png"), read_image(tmp_path / "plain.png"))
    assert read_image(tmp_path / "grey.jpg").shape == (3, 32, 32)


def test_no_photo_is_refused_for_its_metadata(gradient, tmp_path):
    """A resolution of 0/0, with the camera turned; in PNG a wrong checksum, and texts that are cut short or huge."""
    exif = Image.Exif()
    exif[0x0112], exif[0x011A] = 6, TiffImagePlugin.IFDRational(0, 0)
    for suffix in ("jpg", "png", "webp"):
        gradient.save(tmp_path / f"turned.{suffix}", exif=exif)
        gradient.save(tmp_path / f"flat.{suffix}")
        turned, flat = (read_image(tmp_path / f"{name}.{suffix}").int() for name in ("turned", "flat"))
        assert (turned - flat.rot90(-1, (1, 2))).abs().max() <= 2  # clockwise
    content = (tmp_path / "flat.png").read_bytes()
    head, pixels, end = content[:33], content[33:-12], content[-12:]
    senseless = [
        chunk(b"tEXt", b"a\0b")[:-1] + b"?",
        chunk(b"pHYs", b""),
        chunk(b"cHRM", b"x"),
        chunk(b"eXIf", b"junk"),
    ]
    senseless += [chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**21))), chunk(b"iCCP", b"a\0\7")]
    for piece in senseless:
        for content in (head + piece + pixels + end, head + pixels + piece + end):
            (tmp_path / "senseless.png").write_bytes(content)
            assert torch.equal(read_image(tmp_path / "senseless.png"), read_image(tmp_path / "flat.png")), piece[4:8]

    # What is not damaged still counts.
    gradient.save(tmp_path / "turned.png", exif=exif, icc_profile=swapped_profile())
    content = (tmp_path / "turned.png").read_bytes()
    turned = read_image(tmp_path / "turned.png").int()
    for kind, told in ((b"iCCP", turned.flip(0)), (b"eXIf", turned.rot90(1, (1, 2)))):
        place = content.index(kind)
        end = place + 4 + int.from_bytes(content[place - 4 : place], "big")
        (tmp_path / "half.png").write_bytes(content[:end] + b"oops" + content[end + 4 :])  # a wrong checksum
        assert (read_image(tmp_path / "half.png").int() - told).abs().max() <= 2

    content = (tmp_path / "flat.jpg").read_bytes()
    for marker, piece in (
        (0xE0, b"JFIF\0"),
        (0xEE, b"Adobe"),
        (0xE2, b"ICC_PROFILE\0"),
        (0xED, b"Photoshop 3.0\x008BIM\3\xed"),
    ):
        segment = struct.pack(">HH", 0xFF00 + marker, 2 + len(piece)) + piece
        (tmp_path / "senseless.jpg").write_bytes(content[:2] + segment + content[2:])
        assert torch.equal(read_image(tmp_path / "senseless.jpg"), read_image(tmp_path / "flat.jpg")), piece

    gradient.save(tmp_path / "flat.tiff", tiffinfo={282: 72.0, 296: 3})
    content, resolution = (tmp_path / "flat.tiff").read_bytes(), struct.pack("<HH", 282, 5)
    (tmp_path / "senseless.tiff").write_bytes(content.replace(resolution, struct.pack("<HH", 282, 2)))
    assert resolution in content
    assert torch.equal(read_image(tmp_path / "senseless.tiff"), read_image(tmp_path / "flat.tiff"))


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_may_lack_its_last_bytes_but_not_its_half(gradient, tmp_path, progressive):
    gradient.resize((640, 480)).save(tmp_path / "whole.jpg", progressive=progressive, quality=95)
    content, whole = (tmp_path / "whole.jpg").read_bytes(), read_image(tmp_path / "whole.jpg").int()
    for lacking in (1, 2, 3, 10, 50):
        (tmp_path / "cut.jpg").write_bytes(content[:-lacking])
        assert (read_image(tmp_path / "cut.jpg").int() - whole).abs().float().mean() < 1
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // (8 if progressive else 2)])
    with pytest.raises(ValueError, match="truncated"):
        read_image(tmp_path / "cut.jpg")


# ---------------------------------------------------------------- files


def test_a_folder_and_a_pattern_mean_the_images_in_them(gradient, tmp_path, capsys):
    for name in ("b.png", "a.JPG", ".hidden.png", "notes.txt", "other/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        gradient.save(tmp_path / name, format="jpeg" if name.endswith("JPG") else "png")
    images = [[tmp_path / "a.JPG", tmp_path / "b.png"], [tmp_path / "b.png"], [tmp_path / "other/c.png"]]
    code, lines, errors = predict(capsys, tmp_path, tmp_path / "*.png", tmp_path / "other/?.png")
    assert (code, errors) == (0, [])
    assert [LINE.fullmatch(line)[1] for line in lines] == [str(path) for some in images for path in some]
    gradient.save(tmp_path / "[b].png")  # a name that looks like a pattern
    assert photos.images_in(tmp_path / "[b].png") == [tmp_path / "[b].png"]
    (tmp_path / "folder.png").mkdir()
    assert photos.images_in(tmp_path / "f*.png") == [tmp_path / "f*.png"]  # no folder
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")
        assert tmp_path / "pipe.png" not in photos.images_in(tmp_path)


def test_a_name_that_cannot_be_looked_up_does_not_hide_the_others(gradient, tmp_path, capsys, monkeypatch):
    gradient.save(tmp_path / "good.png")
    monkeypatch.setattr(Path, "iterdir", lambda folder: os.listdir(tmp_path / "nowhere"))  # a folder of somebody else's
    code, lines, errors = predict(capsys, tmp_path, tmp_path / ("x" * 300), tmp_path / "good.png")
    assert (code, len(lines), len(errors)) == (1, 1, 2) and "File name too long" in errors[1]


def test_a_library_that_complains_to_the_terminal_is_not_heard(gradient, tmp_path, capfd):
    gradient.resize((300, 300)).save(tmp_path / "image.tiff", compression="tiff_adobe_deflate")
    content = (tmp_path / "image.tiff").read_bytes()
    (tmp_path / "image.tiff").write_bytes(content[:200] + b"oops" + content[204:])
    with pytest.raises(ValueError, match="no image that can be read"):
        read_image(tmp_path / "image.tiff")
    assert capfd.readouterr().err == ""
    os.write(2, b"heard")
    assert capfd.readouterr().err == "heard"


@pytest.mark.parametrize(
    ("name", "start", "what", "suffix"),
    [
        ("photo.heic", b"\0\0\0\x24ftypheic\0\0\0\0mif1heic", "a HEIC photo", "JPEG"),
        ("photo.jpg", b"\0\0\0\x24ftypmif1\0\0\0\0heic", "a HEIC photo", "JPEG"),
        ("photo.png", b"\0\0\0\x18ftypabcd\0\0\0\0mif1heic", "a HEIC photo", "JPEG"),
        ("logo.svg", b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing", "PNG"),
        ("logo.png", b"<!--" + b" " * 2000 + b"--><svg/>", "an SVG drawing", "PNG"),
        ("logo.svgz", b"\x1f\x8b", "an SVG drawing", "PNG"),
    ],
)
def test_what_pillow_does_not_know_gets_a_line_that_says_what_to_do(tmp_path, capsys, name, start, what, suffix):
    (tmp_path / name).write_bytes(start)
    said = f"{tmp_path / name} is {what}, which cannot be read here. Export it as {suffix}, and name that file."
    assert predict(capsys, tmp_path) == (1, [], [said])


def test_pillow_says_nothing_and_is_left_as_it_is(gradient, tmp_path, recwarn, caplog, monkeypatch):
    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, logging.getLogger("PIL").level
    assert before == (1024 * 1024 * 1024 // 4 // 3, False, logging.NOTSET)  # as Pillow itself has them
    gradient.save(tmp_path / "plain.tiff", tiffinfo={271: "Maker"})
    content = (tmp_path / "plain.tiff").read_bytes()
    entry = content.index(struct.pack("<HHI", 271, 2, 6))
    (tmp_path / "odd.tiff").write_bytes(content[: entry + 4] + b"\xff" * 4 + content[entry + 8 :])
    with pytest.warns(UserWarning), contextlib.suppress(OSError):  # Pillow 12 does not even open it
        Image.open(tmp_path / "odd.tiff").load()
    recwarn.clear()
    gradient.convert("P").save(tmp_path / "palette.png", transparency=b"\0\1")
    monkeypatch.setattr(photos, "MOST_PIXELS", {"JPEG": 5_000})  # above half of it Pillow warns
    for name in ("odd.tiff", "palette.png"):
        read_image(tmp_path / name)
    assert not recwarn.list and not caplog.records
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, logging.getLogger("PIL").level)


def test_memory_has_a_bound_that_no_phone_reaches(tmp_path):
    """The largest cameras of phones have 200 million pixels; a file of a few bytes may claim any number."""
    content, claim = png(8, RGB, b"abc"), struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    (tmp_path / "claim.png").write_bytes(content[:8] + chunk(b"IHDR", claim) + content[33:])
    with pytest.raises(ValueError, match="more than 250 million pixels"):
        read_image(tmp_path / "claim.png")
    Image.new("L", (16_320, 12_240), 77).save(tmp_path / "phone.jpg")
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("needs Linux to tell the memory")
    code = (
        "import pathlib, re, sys; from lab.photos import read_image\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', pathlib.Path('/proc/self/status').read_text())[1])\n"
        "before = peak(); print(read_image(pathlib.Path(sys.argv[1])).unique().tolist(), peak() - before)"
    )
    command = [sys.executable, "-c", code, tmp_path / "phone.jpg"]
    value, growth = subprocess.run(command, cwd=flags.ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert value == "[77]" and int(growth) < 50_000  # kB; all pixels would be 200,000


def test_too_little_memory_for_an_image_is_no_damage(gradient, tmp_path, monkeypatch):
    def full(*how):
        raise MemoryError

    gradient.save(tmp_path / "good.png")
    monkeypatch.setattr("lab.photos.to_rgb", full)
    with pytest.raises(ValueError, match=r"^There is not enough memory for .*good\.png\.$"):
        read_image(tmp_path / "good.png")


def test_without_a_trained_model_it_says_how_to_get_one(gradient, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("CIFAR10_DIR", raising=False)
    gradient.save(tmp_path / "good.png")
    code, lines, _ = predict(capsys, tmp_path / "good.png", "--output-dir", tmp_path, "--no-norm")
    command = rf".*task1_simplecnn\.py --no-norm --output-dir {re.escape(str(tmp_path))}"
    assert lines == [] and re.fullmatch(
        rf"There is no .*task1_simplecnn_no-norm\.pt\. To train it: {command}", str(code).replace(" --device cpu", "")
    )
    assert [path.name for path in tmp_path.iterdir()] == ["good.png"]
