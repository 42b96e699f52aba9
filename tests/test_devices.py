"""What can be seen of a GPU without one: where tensors are, and what waits for the device."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from test_runs import parse
from torch._subclasses import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import common
import task1_simplecnn
import task2_resnet18
from lab import faster, precision
from lab.learner import learner_for
from task1_simplecnn import SimpleCNN
from task2_resnet18 import ResNet18

TASKS = pytest.mark.parametrize(("network", "task"), [(SimpleCNN, task1_simplecnn), (ResNet18, task2_resnet18)])


def fake_gpu():
    """Whether this PyTorch can pretend to have a GPU; 2.6 cannot."""
    try:
        with FakeTensorMode():
            return torch.zeros(1).to("cuda").is_cuda
    except (RuntimeError, AssertionError):
        return False


@pytest.mark.skipif(not fake_gpu(), reason="needs a newer PyTorch")
@TASKS
@pytest.mark.parametrize("words", [[], ["--no-aug", "--no-norm"], ["--recipe"]])
def test_every_tensor_is_on_the_gpu(network, task, words, monkeypatch, capsys):
    """Forward passes under PyTorch's fake tensors, which have a device, a shape, and no numbers to compare."""
    monkeypatch.setattr(torch, "allclose", lambda *tensors, atol: True)
    monkeypatch.setattr(FakeTensor, "tolist", lambda tensor: [0.0] * len(tensor))
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: True)
    run = replace(parse(task, "--dry-run", *words), device=torch.device("cuda"))
    settings = run.settings
    with FakeTensorMode():
        train_set, val_set, _ = common.load_data(run)
        with run.device:
            model = faster.rebuild(network(), (3, settings.image_size, settings.image_size)).train()
        order, draws = common.sample_epoch(train_set, settings, 1, common.TRAINING)
        for images, labels in common.batches(train_set, 64, order, draws):
            with precision.autocast(run.device, run.precision):
                loss = F.cross_entropy(model(images), labels)
            assert {images.device.type, labels.device.type, loss.device.type} == {"cuda"}
            assert images.is_contiguous(memory_format=torch.channels_last)
        _, draws = common.sample_epoch(val_set, settings, 1, common.VALIDATION)
        logits = common.predict_logits(model, val_set, draws)
        assert (logits.device.type, logits.dtype, tuple(logits.shape)) == ("cuda", torch.float32, (30, 10))


class Copies(TorchDispatchMode):
    """Counts the tensors that come from the GPU to the host."""

    count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = operation(*args, **(kwargs or {}))
        tensors = [tensor for tensor in (out, *args) if isinstance(tensor, torch.Tensor)]
        self.count += [tensor.is_cuda for tensor in tensors[:2]] == [False, True]
        return out


@pytest.mark.skipif(not fake_gpu(), reason="needs a newer PyTorch")
@TASKS
def test_no_step_of_an_epoch_copies_to_the_host(network, task, monkeypatch, capsys):
    """On a fake GPU, too, which has no backward pass."""
    monkeypatch.setattr(torch, "allclose", lambda *tensors, atol: True)
    monkeypatch.setattr(FakeTensor, "tolist", lambda tensor: [1.0] * len(tensor))
    monkeypatch.setattr(FakeTensor, "item", lambda tensor: 0.0)
    monkeypatch.setattr(torch.Tensor, "backward", lambda tensor: None)
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: True)
    run = replace(parse(task, "--dry-run", "--batch-size", "30"), device=torch.device("cuda"))
    with FakeTensorMode():
        train_set, _, _ = common.load_data(run)
        with run.device:
            model = faster.rebuild(network(), (3, 32, 32))
        learner = learner_for(model, run.settings, steps=9)
        with Copies() as copies:
            common.train_epoch(learner, train_set, run, 1)
            assert copies.count == 0
            train_set.labels.cpu()
            assert copies.count == 1  # it counts


class Waits(TorchDispatchMode):
    """Counts the operations that read a number back, for which the host waits until a GPU has done all its work."""

    count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        names = "_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_unique2"
        self.count += operation.overloadpacket.__name__ in names
        return operation(*args, **(kwargs or {}))


@TASKS
def test_a_longer_epoch_reads_no_more_numbers_back(network, task, monkeypatch, capsys):
    monkeypatch.setattr(common.time, "monotonic", lambda: 0.0)  # so that the look at the losses, once a second, is out
    run = parse(task, "--dry-run")
    train_set, _, _ = common.load_data(run)
    model = faster.rebuild(network(), (3, 32, 32))
    waits = []
    for batch_size, steps in ((135, 2), (30, 9)):
        settings = replace(run.settings, batch_size=batch_size)
        learner = learner_for(model, settings, steps)
        with Waits() as counter:
            common.train_epoch(learner, train_set, replace(run, settings=settings), 1)
        waits.append(counter.count)
    assert waits[0] == waits[1] > 0
