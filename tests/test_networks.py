"""The networks against the lab report's tables and against torchvision's ResNet-18."""

import re
from pathlib import Path

import pytest
import torch
import torchvision
from torch import fx

import model_summary
from task1_simplecnn import SimpleCNN
from task2_resnet18 import ResNet18

FIGURES = {  # the report's; it cuts off the last two sizes of ResNet-18 ("4" for 43.95)
    SimpleCNN: ("FLOPs: 10571776.0 Params: 114186.0", "114,186", ["0.01", "1.44", "0.44", "1.88"]),
    ResNet18: ("FLOPs: 37220352.0 Params: 11181642.0", "11,181,642", ["0.01", "1.29", "42.65", "43.95"]),
}


@pytest.mark.parametrize("network", [SimpleCNN, ResNet18])
def test_summary_is_the_reports(network, capsys):
    model_summary.print_summary(network())
    printed = capsys.readouterr().out
    table = Path(__file__).with_name(f"report_{network.__name__.lower()}.txt").read_text()
    row = re.compile(r"^ *([A-Za-z0-9]+-\d+) +(\[.*\]) +([\d,]+)$", re.MULTILINE)
    assert row.findall(printed) == row.findall(table)
    flops, params, sizes = FIGURES[network]
    assert printed.splitlines()[0] == flops
    assert re.findall(r"params: ([\d,]+)", printed) == [params, params, "0"]  # total, trainable, not trainable
    assert re.findall(r"\(MB\): ([\d.]+)", printed) == sizes


@pytest.mark.parametrize("network", [SimpleCNN, ResNet18])
@pytest.mark.parametrize("training", [True, False])
def test_looking_changes_nothing(network, training, tmp_path, capsys):
    model = network().train(training)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random = torch.get_rng_state()
    model_summary.print_summary(model)
    model_summary.draw_network(model, tmp_path / "model.png")
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(module.training == training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (33, 47)])
@pytest.mark.parametrize("training", [True, False])
def test_resnet18_computes_what_torchvisions_does(size, training):
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18(num_classes=10).double()
    ours = ResNet18().double()
    images, labels = torch.randn(8, 3, *size, dtype=torch.float64), torch.randint(10, (8,))
    with torch.no_grad():
        theirs(images)  # running statistics that are not 0 and 1
    ours.load_state_dict(theirs.state_dict())
    logits = []
    for model in (ours, theirs):
        model.train(training)
        logits.append(model(images))
        torch.nn.functional.cross_entropy(logits[-1], labels).backward()
    torch.testing.assert_close(*logits, rtol=1e-9, atol=1e-9)
    expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, expected.pop(name), rtol=1e-9, atol=1e-9)
    assert not expected
    for ours_, theirs_ in zip(ours.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(ours_, theirs_, rtol=1e-9, atol=1e-9)


def test_resnet18_starts_from_torchvisions_weights():
    models = []
    for network in (ResNet18, lambda: torchvision.models.resnet18(num_classes=10)):
        torch.manual_seed(3)
        models.append(network().state_dict())
    for name in models[0]:
        spreads = [weights[name].double().std(correction=0) for weights in models]
        torch.testing.assert_close(*spreads, rtol=0.05, atol=1e-9)


@pytest.mark.parametrize(("network", "projections"), [(SimpleCNN, []), (ResNet18, [0, 0, 2, 0, 2, 0, 2, 0])])
def test_picture_shows_every_layer_and_shortcut(network, projections):
    traced = fx.symbolic_trace(network())
    main, blocks, shortcuts = model_summary.read_graph(traced)
    assert [len(layers) for _, layers, _ in shortcuts] == projections
    drawn = [*main, *(layer for _, layers, _ in shortcuts for layer in layers)]
    assert sorted(node.name for node in drawn) == sorted(n.name for n in traced.graph.nodes if n.op != "output")
    columns = model_summary.columns_of(len(main), shortcuts)
    assert [i for column in columns for i in column] == list(range(len(main)))
    assert max(map(len, columns)) <= model_summary.MAX_ROWS
    for start, _, end in shortcuts:
        assert any(start + 1 in column and end in column for column in columns)
        assert len(set(blocks[start + 1 : end + 2])) == 1  # a block's frame is whole
