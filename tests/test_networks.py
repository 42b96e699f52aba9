"""The networks against the lab report's tables; what ResNet-18 computes is compared in test_faster.py."""

import re
from pathlib import Path

import pytest
import torch
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Annotation
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from lab import drawing, summary
from task1_simplecnn import SimpleCNN
from task2_resnet18 import ResNet18

FIGURES = {  # the original's; it cuts off the last two sizes of ResNet-18 ("4" for 43.95)
    SimpleCNN: ("FLOPs: 10571776.0 Params: 114186.0", "114,186", ["0.01", "1.44", "0.44", "1.88"]),
    ResNet18: ("FLOPs: 37220352.0 Params: 11181642.0", "11,181,642", ["0.01", "1.29", "42.65", "43.95"]),
}


@pytest.mark.parametrize("network", [SimpleCNN, ResNet18])
def test_summary_is_the_originals(network, capsys):
    summary.print_summary(network())
    printed = capsys.readouterr().out
    table = Path(__file__).with_name(f"report_{network.__name__.lower()}.txt").read_text()
    row = re.compile(r"^ *([A-Za-z0-9]+-\d+) +(\[.*\]) +([\d,]+)$", re.MULTILINE)
    assert row.findall(printed) == row.findall(table)
    flops, params, sizes = FIGURES[network]
    assert printed.splitlines()[0] == flops
    assert re.findall(r"params: ([\d,]+)", printed) == [params, params, "0"]  # total, trainable, not trainable
    assert re.findall(r"\(MB\): ([\d.]+)", printed) == sizes


@pytest.mark.parametrize(("network", "arrows"), [(SimpleCNN, 0), (ResNet18, 8 + 3 * 2)])
def test_picture_tells_what_the_originals_table_does(network, arrows):
    """Channels of each convolution, sizes, the last layer; an arrow for each shortcut, two more where it has layers."""
    summary.draw_network(figure := Figure((drawing.PAGE_WIDTH, 1)), network())
    texts = [text.get_text() for text in figure.axes[0].texts]
    table = Path(__file__).with_name(f"report_{network.__name__.lower()}.txt").read_text()
    rows = re.findall(r"^ *([A-Za-z0-9]+)-\d+ +\[-1, (.*)\] +([\d,]+)$", table, re.MULTILINE)
    drawn = sorted(int(found[1]) for text in texts if (found := re.match(r"Conv \d×\d, (\d+)", text)))
    assert drawn == sorted(int(shape.split(",")[0]) for layer, shape, _ in rows if layer == "Conv2d")
    shapes = {text for text in texts if re.fullmatch(r"\d+(×\d+×\d+)?", text)}
    assert {shape.replace(", ", "×") for _, shape, _ in rows} | {"3×32×32"} == shapes - {"512", "2048"}
    (last,) = [re.fullmatch(r"Linear (\d+) → (\d+)", text) for text in texts if text.startswith("Linear")]
    given, made = map(int, last.groups())
    assert f"{given * made + made:,}" == next(size for layer, _, size in rows if layer == "Linear") and made == 10
    heads = [text.arrow_patch for text in figure.axes[0].texts if isinstance(text, Annotation)]
    assert sum(head.get_edgecolor() == to_rgba(summary.SHORTCUT) for head in heads) == arrows


@pytest.mark.parametrize("network", [SimpleCNN, ResNet18])
@pytest.mark.parametrize("training", [True, False])
def test_looking_changes_nothing(network, training, capsys):
    model = network().train(training)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random = torch.get_rng_state()
    summary.print_summary(model)
    summary.draw_network(Figure(), model)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(module.training == training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize(("network", "projections"), [(SimpleCNN, []), (ResNet18, [0, 0, 2, 0, 2, 0, 2, 0])])
def test_picture_shows_every_layer_and_shortcut(network, projections):
    traced = fx.symbolic_trace(network().eval())
    ShapeProp(traced).propagate(torch.zeros(1, 3, 32, 32))
    main, blocks, shortcuts = summary.read_graph(traced)
    assert [len(layers) for _, layers, _ in shortcuts] == projections
    drawn = [*main, *(layer for _, layers, _ in shortcuts for layer in layers)]
    assert sorted(node.name for node in drawn) == sorted(n.name for n in traced.graph.nodes if n.op != "output")
    for rows in (1, 8, 20, 1000):
        columns = summary.columns_of(blocks, rows)
        assert [i for column in columns for i in column] == list(range(len(main)))
        assert len(columns) == 1 or rows < 1000
        for start, _, end in shortcuts:
            assert any(start + 1 in column and end in column for column in columns)
            assert len(set(blocks[start + 1 : end + 2])) == 1  # a block's frame is whole


def test_a_pooling_is_drawn_with_its_height_width_and_stride():
    for pool in (nn.MaxPool2d(2), nn.MaxPool2d((2, 2), stride=(2, 2))):
        with drawing.matplotlib_as_it_comes():
            summary.draw_network(figure := Figure((drawing.PAGE_WIDTH, 1)), nn.Sequential(pool))
        assert "MaxPool 2×2, /2" in [text.get_text() for text in figure.axes[0].texts]


def test_a_size_is_no_layer():
    class Flat(nn.Module):
        def forward(self, x):
            return torch.relu(x.view(x.size(0), -1)) + x.reshape(x.shape[0], -1)

    with drawing.matplotlib_as_it_comes():
        summary.draw_network(figure := Figure((drawing.PAGE_WIDTH, 1)), Flat())
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert {"view", "relu", "reshape", "+"} < {*texts} and not {"size", "getattr", "getitem"} & {*texts}


@pytest.mark.parametrize(
    ("network", "size", "columns", "height"), [(SimpleCNN, 32, 3, 8), (ResNet18, 32, 2, 26), (ResNet18, 64, 2, 26)]
)
def test_picture_fits_a_page_and_can_be_read_there(network, size, columns, height):
    """No text is smaller than 8 points, wider than its box, or over the edge; A4 leaves 16 cm by 26 to print on."""
    with drawing.matplotlib_as_it_comes():
        summary.draw_network(figure := Figure((drawing.PAGE_WIDTH, 1)), network(), size)
        figure.draw_without_rendering()
        (axes,) = figure.axes
        boxes = [patch.get_window_extent() for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
        assert len({round(box.x0) for box in boxes if box.width == pytest.approx(110)}) >= columns
        assert figure.get_figwidth() * 2.54 == pytest.approx(16) and figure.get_figheight() * 2.54 <= height
        layers = [module for module in network().modules() if not list(module.children())]
        assert sum(box.height == pytest.approx(18) for box in boxes) >= len(layers)
        for text in axes.texts:
            extent = text.get_window_extent()
            assert text.get_fontsize() >= 8 and figure.bbox.contains(extent.x0, extent.y0)
            assert figure.bbox.contains(extent.x1, extent.y1)
            holds = [
                box
                for box in boxes
                if box.contains(*((extent.min + extent.max) / 2)) and box.height == pytest.approx(18)
            ]
            assert all(box.x0 <= extent.x0 and extent.x1 <= box.x1 for box in holds), text.get_text()
