"""--predict: any image file, through the same eyes as the test images."""

import io
import itertools
import os
import re
import runpy
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageFile, ImageOps
from torchvision.datasets import CIFAR10
from torchvision.transforms import functional

import task1_simplecnn
from lab import files, photos
from lab.photos import read_image
from lab.record import CLASSES
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

    checkpoint = torch.load(files.ROOT / "checkpoints" / "task1_simplecnn.pt")
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
    """As torchvision does it. (Pillow's fit also sees what lies beyond the crop; in a gradient that is the same.)"""
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


def test_transparent_is_white(gradient, tmp_path):
    clear = gradient.convert("RGBA")
    clear.putalpha(0)
    for name, image in {"rgba.png": clear, "la.png": clear.convert("LA")}.items():
        image.save(tmp_path / name)
        assert (read_image(tmp_path / name) == 255).all()
    palette = gradient.quantize(16)
    palette.save(tmp_path / "palette.png", transparency=bytes(16))
    assert (read_image(tmp_path / "palette.png") == 255).all()
    palette.paste(3, (0, 0, *palette.size))
    for suffix in ("png", "gif"):  # one colour of the palette
        palette.save(tmp_path / f"colour.{suffix}", transparency=3)
        assert (read_image(tmp_path / f"colour.{suffix}") == 255).all()


def test_what_is_no_image_is_told_and_the_others_are_predicted(gradient, tmp_path, capsys):
    gradient.save(tmp_path / "good.png")
    gradient.resize((640, 480)).save(tmp_path / "whole.png")
    contents = {
        "empty.png": b"",
        "text.jpg": b"a photo of a cat",
        "page.jpg": b"<html>a cat</html>",
        "cut.png": (tmp_path / "whole.png").read_bytes()[:1500],
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.png").mkdir()
    bad = [tmp_path / name for name in (*contents, "folder.png", "missing.png", "*.bmp")]
    code, lines, errors = predict(capsys, tmp_path / "good.png", *bad, tmp_path / "whole.png")
    assert code == 1
    assert [LINE.fullmatch(line)[1] for line in lines] == [str(tmp_path / "good.png"), str(tmp_path / "whole.png")]
    unknown, missing = "its format is unknown", "No such file or directory"
    reasons = [unknown, unknown, unknown, "image file is truncated", "it is a folder without images", missing, missing]
    assert errors == [f"{path} cannot be read: {reason}." for path, reason in zip(bad, reasons, strict=True)]


# ---------------------------------------------------------------- what a photo's metadata say


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(bits, kind, pixel, *chunks):
    """A PNG of 32x32 equal pixels, byte by byte as its specification says."""
    rows = zlib.compress((b"\0" + pixel * 32) * 32)
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
        (b"P5 32 32 1023\n" + struct.pack(">H", 1023) * 1024, [255] * 3),
    ],
)
def test_more_than_8_bits_mean_what_the_format_says(tmp_path, content, expected):
    (tmp_path / "image").write_bytes(content)
    colours = read_image(tmp_path / "image").flatten(1).unique(dim=1).T.tolist()
    assert colours == [expected]


@pytest.mark.parametrize("kind", ["<u2", ">u2"])
def test_16_bits_of_tiff_know_their_order(tmp_path, kind):
    Image.fromarray(np.full((32, 32), 1000, kind)).save(tmp_path / "image.tiff")
    assert (tmp_path / "image.tiff").read_bytes().startswith(b"MM" if kind == ">u2" else b"II")
    assert read_image(tmp_path / "image.tiff").unique().tolist() == [round(1000 / 257)]


def test_16_bits_have_an_orientation_and_a_profile_too(gradient, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray(np.asarray(gradient.convert("L"), np.uint16) * 257)
    deep.save(tmp_path / "deep.png", exif=exif, icc_profile=grey_profile())
    gradient.convert("L").save(tmp_path / "plain.png", exif=exif, icc_profile=grey_profile())
    assert torch.equal(read_image(tmp_path / "deep.png"), read_image(tmp_path / "plain.png"))


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
    """EXIF that is junk, or has a text for a width; in PNG a wrong checksum, and texts that are cut short or huge."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    exif = exif.tobytes().replace(struct.pack(">HH", 0x010F, 2), struct.pack(">HH", 0x0100, 2))
    for suffix in ("jpg", "png", "webp"):
        gradient.save(tmp_path / f"turned.{suffix}", exif=exif)
        gradient.save(tmp_path / f"flat.{suffix}")
        gradient.save(tmp_path / f"junk.{suffix}", exif=b"Exif\0\0junk")
        turned, flat, junk = (read_image(tmp_path / f"{name}.{suffix}").int() for name in ("turned", "flat", "junk"))
        assert (turned - flat.rot90(-1, (1, 2))).abs().max() <= 2  # clockwise
        assert torch.equal(junk, flat)

    content = (tmp_path / "flat.png").read_bytes()
    huge = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**21)))
    for piece in (chunk(b"tEXt", b"a\0b")[:-1] + b"?", chunk(b"pHYs", b""), huge):
        (tmp_path / "senseless.png").write_bytes(content[:33] + piece + content[33:])
        assert torch.equal(read_image(tmp_path / "senseless.png"), read_image(tmp_path / "flat.png")), piece[4:8]

    # What such metadata say still counts.
    gradient.save(tmp_path / "turned.png", exif=exif, icc_profile=swapped_profile())
    content = (tmp_path / "turned.png").read_bytes()
    for kind in (b"iCCP", b"eXIf"):
        place = content.index(kind)
        end = place + 4 + int.from_bytes(content[place - 4 : place], "big")
        (tmp_path / "half.png").write_bytes(content[:end] + b"oops" + content[end + 4 :])  # a wrong checksum
        assert torch.equal(read_image(tmp_path / "half.png"), read_image(tmp_path / "turned.png"))


def test_a_jpeg_may_lack_its_last_bytes_but_no_other_format(gradient, tmp_path):
    for progressive in (False, True):
        path = tmp_path / "image.jpg"
        gradient.resize((640, 480)).save(path, progressive=progressive, quality=95)
        content, whole = path.read_bytes(), read_image(path).int()
        for lacking in (1, 2, 3, 10, 50):
            path.write_bytes(content[:-lacking])
            assert (read_image(path).int() - whole).abs().float().mean() < 1
    for suffix in ("png", "webp", "tiff", "gif"):
        path = tmp_path / f"image.{suffix}"
        gradient.resize((640, 480)).save(path)
        path.write_bytes(path.read_bytes()[:-200])
        with pytest.raises(ValueError, match="cannot be read"):
            read_image(path)


def test_the_first_frame_stands_for_an_animation(gradient, tmp_path):
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("white", "black")]
    for suffix in ("gif", "png", "webp", "tiff", "mpo"):
        frames[0].save(tmp_path / f"image.{suffix}", save_all=True, append_images=frames[1:])
        assert (read_image(tmp_path / f"image.{suffix}") == 255).all()


# ---------------------------------------------------------------- files


def test_a_folder_and_a_pattern_mean_the_images_in_them(gradient, tmp_path, capsys):
    for name in ("b.png", "a.JPG", ".hidden.png", "notes.txt", "other/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        gradient.save(tmp_path / name, format="jpeg" if name.endswith("JPG") else "png")
    images = [[tmp_path / "a.JPG", tmp_path / "b.png"], [tmp_path / "b.png"], [tmp_path / "other/c.png"]]
    code, lines, errors = predict(capsys, tmp_path, tmp_path / "*.png", tmp_path / "other/?.png")
    assert (code, errors) == (0, [])
    assert [LINE.fullmatch(line)[1] for line in lines] == [str(path) for some in images for path in some]
    (tmp_path / "folder.png").mkdir()
    assert photos.images_in(tmp_path / "f*.png") == [tmp_path / "f*.png"]  # no folder
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")
        assert tmp_path / "pipe.png" not in photos.images_in(tmp_path)


def test_a_name_with_brackets_is_no_pattern(tmp_path):
    folder = tmp_path / "[a]"
    folder.mkdir()
    for number in (3, 12, 4, 1, 2):
        (folder / f"[{number:02}].png").touch()
    assert photos.images_in(folder) == [folder / f"[{number:02}].png" for number in (1, 2, 3, 4, 12)]  # sorted
    for name in ("1.png", "[12].png"):
        assert photos.images_in(tmp_path / "[12].png") == [tmp_path / "[12].png"]  # whether it is there or not
        (tmp_path / name).touch()
    assert photos.images_in(tmp_path / "[12].png") == photos.images_in(tmp_path / "[1?].png") == [tmp_path / "[12].png"]


@pytest.mark.parametrize("name", ["-", "https://example.org/cat.jpg", "s3://photos/cat.jpg", "file:///cat.jpg"])
def test_what_is_no_file_is_told_what_would_be(name):
    told = "cannot be read: an address or standard input is no file. Save the image first, and name its file."
    with pytest.raises(ValueError, match=f"^{Path(name)} {told}$"):
        read_image(Path(name))


def test_a_name_that_cannot_be_looked_up_does_not_hide_the_others(gradient, tmp_path, capsys):
    gradient.save(tmp_path / "good.png")
    code, lines, errors = predict(capsys, tmp_path / ("x" * 300), tmp_path / "good.png")
    assert (code, len(lines), len(errors)) == (1, 1, 1) and "File name too long" in errors[0]


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
def test_closed_streams_hide_no_answer():
    command = [sys.executable, "task1_simplecnn.py", "--device", "cpu", "--predict", "lab/examples/cat.png"]
    shell = ["sh", "-c", 'exec "$0" "$@" <&- 2>&-', *command]
    run = subprocess.run(shell, cwd=files.ROOT, stdout=subprocess.PIPE, text=True)
    assert run.returncode == 0 and LINE.fullmatch(run.stdout.strip()).groups()[:2] == ("lab/examples/cat.png", "cat")


HEIC = "it is a HEIC photo. Export it as JPEG, or: pip install pillow-heif, and the same command again"
SVG = "it is an SVG drawing. Export it as PNG"


@pytest.mark.parametrize(
    ("name", "start", "reason"),
    [
        ("photo.heic", b"\0\0\0\x24ftypheic\0\0\0\0mif1heic", HEIC),
        ("photo.jpg", b"\0\0\0\x24ftypmif1\0\0\0\0heic", HEIC),
        ("film.jpg", b"\0\0\0\x18ftypisom\0\0\0\0", "its format is unknown"),
        ("logo.svg", b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', SVG),
        ("logo.png", b"<!-- a logo --><svg/>", SVG),
        ("logo.svgz", b"\x1f\x8b", SVG),
    ],
)
def test_what_pillow_does_not_know_gets_a_line_that_says_what_to_do(tmp_path, capsys, monkeypatch, name, start, reason):
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)  # as without pillow-heif
    monkeypatch.setattr(Image, "ID", [kind for kind in Image.ID if kind != "HEIF"])
    (tmp_path / name).write_bytes(start)
    assert predict(capsys, tmp_path) == (1, [], [f"{tmp_path / name} cannot be read: {reason}."])


def test_heic_is_read_where_pillow_heif_is_installed(tmp_path, monkeypatch):
    registered = []
    module = SimpleNamespace(register_heif_opener=lambda: registered.append(True))
    for installed in (None, module):  # Python takes None for a module that cannot be imported
        monkeypatch.setitem(sys.modules, "pillow_heif", installed)
        runpy.run_path(photos.__file__)
    assert registered == [True]
    (tmp_path / "broken.heic").write_bytes(b"\0\0\0\x24ftypheic")
    monkeypatch.setitem(Image.OPEN, "HEIF", None)
    with pytest.raises(ValueError, match="its format is unknown"):  # to install it once more would not help
        read_image(tmp_path / "broken.heic")


def test_pillow_does_not_warn_and_is_left_as_it_is(gradient, tmp_path, recwarn, monkeypatch):
    gradient.save(tmp_path / "good.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\0")  # has 255 tags, it says
    with pytest.warns(UserWarning, match="Corrupt EXIF"):
        Image.open(tmp_path / "good.jpg").getexif()
    (tmp_path / "bad.jpg").write_bytes(b"a photo of a cat")
    recwarn.clear()
    monkeypatch.setattr(photos, "MOST_PIXELS", 5_000)  # above half of it Pillow warns
    for limit, truncated in ((Image.MAX_IMAGE_PIXELS, False), (None, True)):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", truncated)
        read_image(tmp_path / "good.jpg")
        with pytest.raises(ValueError):
            read_image(tmp_path / "bad.jpg")
        assert limit == Image.MAX_IMAGE_PIXELS and truncated == ImageFile.LOAD_TRUNCATED_IMAGES
    assert not recwarn.list


def test_memory_has_a_bound_that_no_phone_reaches(tmp_path):
    """The largest cameras of phones have 200 million pixels; a file of a few bytes may claim any number."""
    content, claim = png(8, RGB, b"abc"), struct.pack(">IIBBBBB", 25_000, 10_001, 8, 2, 0, 0, 0)
    (tmp_path / "claim.png").write_bytes(content[:8] + chunk(b"IHDR", claim) + content[33:])
    with pytest.raises(ValueError, match="it has more than 250 million pixels"):
        read_image(tmp_path / "claim.png")
    Image.new("L", (16_320, 12_240), 77).save(tmp_path / "phone.jpg")
    Image.new("RGB", (5_000, 5_000), (77, 77, 77)).save(tmp_path / "scan.png", compress_level=1)
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("needs Linux to tell the memory")
    code = (
        "import pathlib, re, sys; from lab.photos import read_image\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', pathlib.Path('/proc/self/status').read_text())[1])\n"
        "before = peak()\n"
        "for path in sys.argv[1:]: print(read_image(pathlib.Path(path)).unique().item(), peak() - before)"
    )
    command = [sys.executable, "-c", code, tmp_path / "phone.jpg", tmp_path / "scan.png"]
    told = subprocess.run(command, cwd=files.ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert told[0::2] == ["77", "77"]
    assert int(told[1]) < 50_000 and int(told[3]) < 150_000  # kB; Pillow needs 200,000 for all pixels, and 100,000


def test_too_little_memory_for_an_image_is_told(gradient, tmp_path, monkeypatch):
    def full(*how):
        raise MemoryError

    gradient.save(tmp_path / "good.png")
    monkeypatch.setattr("lab.photos.to_rgb", full)
    with pytest.raises(ValueError, match=r"good\.png cannot be read: there is not enough memory\.$"):
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
