"""Networks, plain and rebuilt, against PyTorch's plain layers and torchvision's ResNet-18, in double precision."""

import copy
import json

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

import common
import task2_resnet18
from lab import checkpoint, commandline, faster, precision
from lab.learner import Learner, learner_for
from task1_simplecnn import SimpleCNN
from task2_resnet18 import ResNet18

IMAGE = (3, 32, 32)
FLOAT32 = precision.autocast(torch.device("cpu"), "float32")  # or whatever the weights are: no autocast


def torchvisions_resnet18():
    model = torchvision.models.resnet18(num_classes=10).double()
    with torch.no_grad():
        model(torch.randn(8, *IMAGE, dtype=torch.float64))  # running statistics that are not 0 and 1
    return model


def full_gradient(name, parameter, rebuilt, model):
    """The gradient of a rebuilt convolution, in the shape of the whole one; and that of any other layer."""
    layer = rebuilt.get_submodule(name.rpartition(".")[0])
    if not isinstance(layer, faster.SmallMapConv2d):
        return parameter.grad
    gradient = torch.zeros_like(model.get_parameter(name))
    gradient[layer.taps] = parameter.grad.permute(0, 3, 1, 2)
    return gradient


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [
        ((1, 1), 3, 1, 1),
        ((2, 2), 3, 1, 1),
        ((2, 2), 3, 2, 1),
        ((4, 4), 3, 2, 1),
        ((2, 2), 1, 2, 0),
        ((4, 4), 1, 2, 0),
        ((1, 2), 3, 1, 1),
        ((4, 1), 3, 1, 1),
        ((3, 2), 3, 2, 1),
        ((1, 1), 7, 2, 3),
        ((3, 3), 7, 2, 3),
        ((2, 2), 5, 1, 2),
        ((3, 4), 3, 1, 0),
        ((1, 1), (3, 5), 1, (1, 2)),
        ((2, 2), (1, 3), 1, (0, 1)),
    ],
)
def test_small_map_convolution_is_the_plain_one(size, kernel, stride, padding, memory_format):
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(5, 6, kernel, stride, padding, bias=False)).double().to(memory_format=memory_format)
    rebuilt = faster.rebuild(plain, (5, *size))
    assert isinstance(rebuilt[0], faster.SmallMapConv2d)
    x = torch.randn(4, 5, *size, dtype=torch.float64).to(memory_format=memory_format)
    results = []
    for network in (plain, rebuilt):
        images = x.clone().requires_grad_()
        out = network(images)
        torch.manual_seed(1)
        (out * torch.randn(out.shape, dtype=torch.float64)).sum().backward()
        weight = full_gradient("0.weight", network[0].weight, network, plain)
        results.append((out.detach(), images.grad, weight))
    for theirs, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_small_map_convolution_has_the_gradient_of_what_it_computes():
    for size, stride in (((2, 2), 1), ((4, 4), 2)):
        layer = faster.SmallMapConv2d(nn.Conv2d(2, 3, 3, stride, 1, bias=False).double(), size)
        assert torch.autograd.gradcheck(layer, torch.randn(2, 2, *size, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (17, 17), (33, 47)])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("rebuild", [lambda model, image_shape: model, faster.rebuild], ids=["plain", "rebuilt"])
def test_resnet18_computes_what_torchvisions_does(rebuild, size, training):
    torch.manual_seed(0)
    theirs = torchvisions_resnet18()
    model = ResNet18().double()
    model.load_state_dict(theirs.state_dict())
    ours = rebuild(model, (3, *size))
    assert any(isinstance(layer, faster.SmallMapConv2d) for layer in ours.modules()) == (rebuild is faster.rebuild)
    images, labels = torch.randn(8, 3, *size, dtype=torch.float64), torch.randint(10, (8,))
    logits = []
    for network in (ours, theirs):
        logits.append(network.train(training)(images))
        F.cross_entropy(logits[-1], labels).backward()
    torch.testing.assert_close(*logits, rtol=1e-9, atol=1e-9)
    expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        gradient = full_gradient(name, parameter, ours, model)
        torch.testing.assert_close(gradient, expected.pop(name), rtol=1e-9, atol=1e-9)
    assert not expected
    for mine, their in zip(model.buffers(), theirs.buffers(), strict=True):  # which a rebuilt network shares
        torch.testing.assert_close(mine, their, rtol=1e-9, atol=1e-9)


def test_training_the_rebuilt_network_trains_the_model():
    torch.manual_seed(0)
    theirs = torchvisions_resnet18().train()
    model = ResNet18().double()
    model.load_state_dict(theirs.state_dict())
    before = copy.deepcopy(model.state_dict())
    rebuilt = faster.rebuild(model, IMAGE).train()
    images, labels = torch.randn(3, 16, *IMAGE, dtype=torch.float64), torch.randint(10, (3, 16))
    for network in (rebuilt, theirs):
        optimizer = torch.optim.Adam(network.parameters(), lr=0.001, eps=1e-3)
        for batch in zip(images, labels, strict=True):
            common.train_step(Learner(network, optimizer, None, task2_resnet18.TASK, 3), *batch, FLOAT32)

    model.load_state_dict(rebuilt.state_dict())
    for name, trained in theirs.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], trained, rtol=1e-7, atol=1e-7)
    still = torch.eq(model.layer4[1].conv2.weight, before["layer4.1.conv2.weight"]).sum((0, 1))
    assert still.tolist() == [[512 * 512] * 3, [512 * 512, 0, 512 * 512], [512 * 512] * 3]
    assert not torch.eq(model.conv1.weight, before["conv1.weight"]).any()  # one of those that the networks share


@pytest.mark.parametrize("network", [SimpleCNN, ResNet18])
def test_a_rebuilt_network_saves_what_the_scripts_network_would(network):
    """Also the taps that it does not have."""
    model = network()
    assert_same_weights(faster.rebuild(model, IMAGE).state_dict(), model.state_dict())


def test_trained_weights_and_their_average_load_into_torchvisions_resnet18():
    """And into another rebuilt network, where they are the same to the bit."""
    torch.manual_seed(0)
    images, labels = torch.randn(4, 8, *IMAGE, dtype=torch.float64), torch.randint(10, (4, 8))
    learner, other = (learner_for(rebuilt_resnet18(), task2_resnet18.RECIPE, 3) for _ in range(2))
    for batch in zip(images[:3], labels, strict=False):
        common.train_step(learner, *batch, FLOAT32)
        learner.average.update_parameters(learner.model)
    logits = []
    for network in (learner.model, learner.validated):
        saved, theirs, again = checkpoint.copy_of_weights(network), torchvisions_resnet18(), rebuilt_resnet18()
        theirs.load_state_dict(saved)
        again.load_state_dict(saved)
        logits.append(network.eval()(images[3]))
        torch.testing.assert_close(logits[-1], theirs.eval()(images[3]), rtol=1e-9, atol=1e-9)
        assert torch.equal(logits[-1], again.eval()(images[3]))
        assert_same_weights(saved, again.state_dict())
    assert not torch.equal(*logits)
    other.average.load_state_dict(learner.average.state_dict())
    assert_same_weights(learner.average.state_dict(), other.average.state_dict())


def rebuilt_resnet18():
    return faster.rebuild(ResNet18().double(), IMAGE)


def assert_same_weights(ours, theirs):
    assert list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("change", ["missing", "unknown"])
def test_a_rebuilt_network_refuses_the_weights_of_another(change):
    model = ResNet18()
    weights, name = model.state_dict(), "layer4.1.conv2.weight"
    if change == "unknown":
        weights["layer4.1.conv2.bias"] = torch.zeros(512)
    else:
        del weights[name]
    for network in (model, faster.rebuild(model, IMAGE)):
        with pytest.raises(RuntimeError, match=r"layer4\.1\.conv2"):
            network.load_state_dict(weights)


@pytest.mark.parametrize("recipe", [[], ["--recipe"]])
def test_a_checkpoint_holds_the_weights_that_were_validated(made_up, tmp_path, recipe):
    """The plain network with the weights of a run's best epoch has that epoch's validation loss."""
    words = ["--device", "cpu", "--float32", "--epochs", "3", "--limit", "200", "--lr", "0.0003", *recipe]
    task = task2_resnet18
    task.main([*words, "--output-dir", str(tmp_path), "--data-dir", str(tmp_path)])
    (record,) = (json.loads(path.read_text()) for path in (tmp_path / "plots").glob("*.json"))
    (checkpoint,) = (torch.load(path) for path in (tmp_path / "checkpoints").glob("*.pt"))
    best = record["history"][record["best_epoch"] - 1]
    run = commandline.parse(task.__file__, "", task.TASK, task.RECIPE, words)
    _, val_set, _ = common.load_data(run)
    model = ResNet18()
    model.load_state_dict(checkpoint["model"])
    _, draws = common.sample_epoch(val_set, run.settings, best["epoch"], common.VALIDATION)
    loss, accuracy = common.score(common.predict_logits(model, val_set, draws), val_set.labels)
    assert loss == pytest.approx(best["val_loss"], rel=1e-3)
    assert accuracy == best["val_accuracy"]


def test_rebuilt_resnet18_leaves_out_the_taps_that_never_train():
    model = ResNet18()
    F.cross_entropy(model(torch.randn(4, *IMAGE)), torch.arange(4)).backward()
    kernels = [parameter for parameter in model.parameters() if parameter.dim() == 4]
    untrained = sum((w.grad == 0).flatten(0, 1).all(0).sum().item() * w[:, :, 0, 0].numel() for w in kernels)
    sizes = [sum(p.numel() for p in network.parameters()) for network in (model, faster.rebuild(model, IMAGE))]
    assert sizes[0] - sizes[1] == untrained == 6_946_816


def test_rebuilding_leaves_the_model_alone():
    model = ResNet18().train()
    layers, weights = list(model.modules()), copy.deepcopy(model.state_dict())
    faster.rebuild(model, IMAGE)
    assert list(model.modules()) == layers and model.training
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert not any(layer._forward_hooks for layer in model.modules())


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.MaxPool2d(kernel_size=3, stride=2, padding=1)])
def test_relu_may_come_after_pooling(pool, memory_format):
    """In a network of the two, on numbers of which many are equal, also the largest ones of a window."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.ReLU(), pool)
    rebuilt = faster.rebuild(nn.Sequential(nn.Conv2d(1, 1, 1), *plain), (1, 8, 8))[1:]
    assert [type(layer) for layer in rebuilt] == [nn.MaxPool2d, nn.ReLU]
    x = torch.randint(-3, 3, (64, 8, 16, 16)).float().to(memory_format=memory_format)
    x[:4].clamp_(max=-1)
    x[4, 0, 0, :3] = torch.tensor([float("inf"), -float("inf"), float("nan")])
    results = []
    for network in (plain, rebuilt):
        images = x.clone().requires_grad_()
        out = network(images)
        out.backward(torch.arange(out.numel(), dtype=torch.float32).view_as(out))
        results.append((out.nan_to_num(7), images.grad))
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))


@pytest.mark.parametrize("network", [SimpleCNN, ResNet18])
def test_relu_comes_after_pooling_in_both_networks(network):
    calls = []
    rebuilt = faster.rebuild(network(), IMAGE)
    for layer in rebuilt.modules():
        layer.register_forward_hook(lambda layer, args, out: calls.append(type(layer)))
    rebuilt(torch.zeros(2, *IMAGE))
    pools = [i for i, layer in enumerate(calls) if layer is nn.MaxPool2d]
    assert pools and all(calls[i - 1] is nn.BatchNorm2d and calls[i + 1] is nn.ReLU for i in pools)


class ReLUFeedsTwo(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.relu, self.pool = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2)

    def forward(self, x):
        x = self.relu(self.conv(x))
        return self.pool(x).sum((2, 3)) + x.sum((2, 3))


class Tied(nn.Module):
    """A network that uses a layer twice, and looks at its weight."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(12, 12)

    def forward(self, x):
        return self.fc(self.fc(x.flatten(1))) @ self.fc.weight


def test_other_networks_with_linear_layers_are_rebuilt_too():
    torch.manual_seed(0)
    images, zero = torch.randn(4, 3, 2, 2), nn.Linear(2, 5)
    for weights in zero.parameters():  # as some networks begin, whose logits are all 0
        nn.init.zeros_(weights)
    for model in (Tied(), nn.Linear(2, 5), zero):
        rebuilt = faster.rebuild(faster.rebuild(model, (3, 2, 2)), (3, 2, 2))
        torch.testing.assert_close(rebuilt(images), model(images))
        assert [name for name, _ in rebuilt.named_parameters()] == [name for name, _ in model.named_parameters()]


def test_a_network_that_would_compute_something_else_is_refused():
    with pytest.raises(ValueError, match="does not know how to rebuild it"):
        faster.rebuild(ReLUFeedsTwo(), IMAGE)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 4, 3, padding=1),  # with a bias
        nn.Conv2d(4, 4, 3, padding=1, bias=False, groups=2),
        nn.Conv2d(4, 4, 3, padding=2, bias=False, dilation=2),
        nn.Conv2d(4, 4, 3, padding="same", bias=False),
        nn.Conv2d(4, 4, 1, padding="valid", bias=False),
        nn.Conv2d(4, 4, 3, padding=1, bias=False, padding_mode="circular"),
    ],
)
def test_other_convolutions_stay_as_they_are(conv):
    model = nn.Sequential(conv)
    x = torch.randn(2, 4, 2, 2)
    assert torch.equal(faster.rebuild(model, (4, 2, 2))(x), model(x))


@pytest.mark.parametrize("p", [0.5, 0.2])
def test_uniform_dropout_is_dropout(p):
    x = torch.linspace(1, 2, 200_000, requires_grad=True)
    layer = faster.UniformDropout(p)
    shares = []
    for dropout in (layer, nn.Dropout(p)):
        torch.manual_seed(0)
        out = dropout(x)
        (gradient,) = torch.autograd.grad(out.sum(), x)
        kept = out != 0
        torch.testing.assert_close(out, torch.where(kept, x / (1 - p), 0))
        torch.testing.assert_close(gradient, kept / (1 - p))
        shares.append(kept.float().mean())
        assert abs(torch.corrcoef(torch.stack([kept[1:], kept[:-1]]).float())[0, 1]) < 0.012  # 5 standard errors
    assert abs(shares[0] - (1 - p)) < 0.006 and abs(shares[0] - shares[1]) < 0.008  # 5 standard errors
    assert torch.equal(layer.eval()(x), x)
