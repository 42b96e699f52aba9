"""The one gather against torchvision's transforms, and its parameters against their distributions."""

import pytest
import torch
from torchvision.transforms import InterpolationMode, RandomCrop, RandomRotation
from torchvision.transforms.v2 import functional

import common
import task1_simplecnn
from lab import commandline


def one_after_the_other(image, draw):
    """The same crop, flip and rotation by torchvision's tensor kernels."""
    right, down, flip, angle = draw.tolist()
    image = functional.crop(functional.pad(image, 4), 4 + int(down), 4 + int(right), 32, 32)
    if flip:
        image = functional.hflip(image)
    return functional.rotate(image, angle, InterpolationMode.NEAREST)


def differing_pixels(images, seed):
    """For each image, how many of its pixels differ from torchvision's."""
    draws = common.sample_augmentation(len(images), torch.Generator().manual_seed(seed))
    theirs = torch.stack(list(map(one_after_the_other, images, draws)))
    return (common.augment(images, draws) != theirs).any(1).flatten(1).sum(1)


def test_augmentation_equals_torchvisions_except_for_ties():
    """Where a pixel comes from the middle between two, the last bit of a float decides which of them it is.

    That is rare: of 12,000 random images, 2 differ, in 1 or 2 pixels.
    """
    images = torch.randint(1, 256, (4_000, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    differing = differing_pixels(images, seed=1)
    assert (differing > 0).sum() <= 4 and differing.max() <= 2


def test_augmentation_equals_torchvisions_on_real_images(sample):
    differing = differing_pixels(sample[0][:400], seed=0)
    assert (differing > 0).sum() <= 1 and differing.max() <= 2


@pytest.mark.parametrize("draw", [(4, 4, 1, 15), (-4, -4, 0, -15), (0, 0, 0, 0), (0, 0, 1, 0), (4, -4, 1, -15)])
def test_augmentation_at_its_bounds(draw):
    image = torch.arange(3 * 32 * 32).view(1, 3, 32, 32).remainder(251).add(1).to(torch.uint8)
    draws = torch.tensor([draw], dtype=torch.float32)
    assert torch.equal(common.augment(image, draws)[0], one_after_the_other(image[0], draws[0]))


def test_parameters_have_torchvisions_distributions():
    n = 20_000
    draws = common.sample_augmentation(n, torch.Generator().manual_seed(2))
    torch.manual_seed(2)
    image = torch.empty(3, 40, 40)
    crops = torch.tensor([RandomCrop.get_params(image, (32, 32))[:2] for _ in range(n)]) - 4
    angles = torch.tensor([RandomRotation.get_params([-15.0, 15.0]) for _ in range(n)])
    for ours, theirs in ((draws[:, 1], crops[:, 0]), (draws[:, 0], crops[:, 1])):
        assert set(ours.tolist()) == set(theirs.tolist()) == set(range(-4, 5))
        share = torch.stack([(values[:, None] == torch.arange(-4, 5)).float().mean(0) for values in (ours, theirs)])
        assert (share[0] - share[1]).abs().max() < 0.015  # 5 standard errors of the difference
    assert set(draws[:, 2].tolist()) == {0, 1}
    assert abs(draws[:, 2].mean() - 0.5) < 0.018
    grid = torch.linspace(-15, 15, 101)
    cumulative = [(values[:, None] <= grid).float().mean(0) for values in (draws[:, 3], angles)]
    assert (cumulative[0] - cumulative[1]).abs().max() < 0.02  # Kolmogorov-Smirnov, p = 0.001
    assert torch.corrcoef(draws.T).sub(torch.eye(4)).abs().max() < 0.035


def test_every_epoch_has_an_order_and_an_augmentation_of_its_own():
    task = task1_simplecnn
    run = commandline.parse(task.__file__, "", task.TASK, task.RECIPE, ["--dry-run"])
    train_set, _, _ = common.load_data(run)
    orders, augmentations = [], []
    for purpose, epoch in ((common.TRAINING, 1), (common.TRAINING, 2), (common.VALIDATION, 1)):
        order, augmentation = common.sample_epoch(train_set, run.settings, epoch, purpose)
        assert order.sort().values.tolist() == list(range(270)) and (order.diff() == 1).sum() < 10  # shuffled
        assert torch.unique(augmentation, dim=0).shape == (270, 4)
        orders.append(order.tolist())
        augmentations.append(augmentation.tolist())
    for drawn in (orders, augmentations):
        assert drawn[0] != drawn[1] and drawn[0] != drawn[2]


def test_every_image_has_parameters_of_its_own():
    image = torch.randint(256, (1, 3, 32, 32), dtype=torch.uint8).expand(50, -1, -1, -1)
    augmented = common.augment(image, common.sample_augmentation(50, torch.Generator().manual_seed(3)))
    assert len({tuple(image.flatten().tolist()) for image in augmented}) == 50
