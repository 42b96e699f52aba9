"""--predict: any image file, through the same eyes as the test images."""

import itertools
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10
from torchvision.transforms import functional

import task1_simplecnn
from lab import flags
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
    if mode in ("I;16", "I", "F"):  # black is their darkest, white their brightest
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
        "cut.png": (tmp_path / "whole.png").read_bytes()[:1500],
    }
    contents["cut.jpg"] = (tmp_path / "whole.jpg").read_bytes()[:3000]
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.png").mkdir()
    bad = [tmp_path / name for name in (*contents, "folder.png", "missing.png")]
    code, lines, errors = predict(capsys, tmp_path / "good.png", *bad, tmp_path / "whole.jpg")
    assert code == 1
    assert [LINE.fullmatch(line)[1] for line in lines] == [str(tmp_path / "good.png"), str(tmp_path / "whole.jpg")]
    assert len(errors) == len(bad)
    for path, error in zip(bad, errors, strict=True):
        assert re.fullmatch(
            rf"({re.escape(str(path))} is no image that can be read \(.+\)|There is no .*missing\.png)\.", error
        )


def test_too_little_memory_for_an_image_is_no_damage(gradient, tmp_path, monkeypatch):
    def full(*how):
        raise MemoryError

    gradient.save(tmp_path / "good.png")
    monkeypatch.setattr("lab.photos.to_rgb", full)
    with pytest.raises(ValueError, match=r"^There is not enough memory for .*good\.png\.$"):
        read_image(tmp_path / "good.png")


def test_without_a_trained_model_it_says_how_to_get_one(gradient, tmp_path, capsys):
    gradient.save(tmp_path / "good.png")
    code, lines, _ = predict(capsys, tmp_path / "good.png", "--output-dir", tmp_path, "--no-norm")
    command = f"python task1_simplecnn.py --no-norm --output-dir {tmp_path}"
    assert lines == [] and re.fullmatch(
        rf"There is no .*task1_simplecnn_no-norm\.pt\. To train it: {command}", str(code).replace(" --device cpu", "")
    )
    assert [path.name for path in tmp_path.iterdir()] == ["good.png"]
