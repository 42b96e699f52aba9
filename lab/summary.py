"""What a network looks like: its summary table, FLOPs and parameters, and its picture.

Every function looks at a copy, so that weights, batch-norm statistics, mode and random numbers stay as they are.
"""

import contextlib
import copy
import io
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import thop
import torch
import torchsummary
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from lab.drawing import PAGE_WIDTH, only_told

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Shortcut = tuple[int, list[fx.Node], int]  # where on the main path it leaves, its layers, and where it comes back


def print_summary(model: nn.Module, size: int = 32) -> None:
    """Print FLOPs, parameters and the table of layers for images [3, size, size] (lab report, questions 1 and 4).

    The FLOPs are thop's, as there: multiply-accumulates for one image, and 4 for each batch-norm output.
    """
    text, missing = io.StringIO(), f"There is no table of {type(model).__name__}"
    with only_told(missing), contextlib.redirect_stdout(text), torch.random.fork_rng([]):
        parameters = sum(parameter.numel() for parameter in model.parameters())
        flops, _ = thop.profile(copy.deepcopy(model).cpu(), (torch.zeros(1, 3, size, size),), verbose=False)
        print(f"FLOPs: {flops} Params: {float(parameters)}")
        torchsummary.summary(copy.deepcopy(model).cpu(), (3, size, size), device="cpu")
        if f"Total params: {parameters:,}\n" not in text.getvalue():
            print(f"In all: {parameters:,}. The table has the parameters of layers only, once for each of their calls.")
    print(text.getvalue(), end="")


WIDTH, HEIGHT, ROW = 1.1, 0.18, 0.24  # inches on paper, as all lengths: of a box; from a box to the next
NAME, SHAPE = 0.17, 0.72  # room above a block for its name, and left of a box for the shape of what it gives
SIDE, EDGE = 0.12, 0.05  # from a box to what stands right of it, and to the frame around it
COLOURS = {nn.Conv2d: "#9ecae1", nn.BatchNorm2d: "#fdd0a2", nn.ReLU: "#c7e9c0", nn.Linear: "#fcbba1"}
COLOURS |= {nn.MaxPool2d: "#dadaeb", nn.AdaptiveAvgPool2d: "#dadaeb", nn.Dropout: "#e5e5e5"}
SUM, OTHER, FRAME, LINE, SHORTCUT = "#ffeda0", "white", "#f7f7f7", "#333333", "#c0392b"


def draw_network(figure: "Figure", model: nn.Module, size: int = 32) -> None:
    """Draw ``model`` on ``figure``, layer by layer, with the shape of an image [3, size, size] wherever it changes.

    The main path runs down, in as many columns as the page is wide; a block has a frame, and its shortcut is red.
    """
    traced = fx.symbolic_trace(copy.deepcopy(model).cpu().eval())
    ShapeProp(traced).propagate(torch.zeros(1, 3, size, size))
    main, blocks, shortcuts = read_graph(traced)
    for most in itertools.count(4):
        x, y, right = place(blocks, shortcuts, columns_of(blocks, most))
        if right <= PAGE_WIDTH:
            break

    top, bottom = 0.62, min(y) - ROW
    figure.set(figheight=top - bottom, layout_engine="none")
    axes = figure.add_axes((0, 0, 1, 1))
    for block in dict.fromkeys(filter(None, blocks)):
        rows = [i for i, name in enumerate(blocks) if name == block]
        left, foot = x[rows[0]] - WIDTH / 2 - EDGE, y[rows[-1]] - 0.12
        width, height = WIDTH + room_beside(shortcuts, rows) + 2 * EDGE, y[rows[0]] + HEIGHT / 2 + NAME - foot
        draw_rounded(axes, left, foot, width, height, 0.05, fc=FRAME, ec="0.75")
        axes.text(left + EDGE, foot + height - 0.02, block, ha="left", va="top", color="0.35")
    shapes = ["×".join(map(str, node.meta["tensor_meta"].shape[1:])) for node in main]
    for i, node in enumerate(main):
        draw_box(axes, x[i], y[i], traced, node)
        if i == 0 or shapes[i] != shapes[i - 1]:
            axes.text(x[i] - WIDTH / 2 - EDGE - 0.02, y[i], shapes[i], ha="right", va="center", color="0.35")
    for i in range(1, len(main)):
        above, between, below = (x[i - 1], y[i - 1] - HEIGHT / 2), [], (x[i], y[i] + HEIGHT / 2)
        if x[i] != x[i - 1]:  # from the foot of a column over to the head of the next
            foot, head, gutter = above[1] - ROW / 2, ROW, x[i] - WIDTH / 2 - SHAPE
            between = [(above[0], foot), (gutter, foot), (gutter, head), (x[i], head)]
        draw_arrow(axes, [above, *between, below], LINE)
    for start, layers, end in shortcuts:
        leaves = (x[end], y[start + 1] + HEIGHT / 2 + 0.06)
        lane = x[end] + WIDTH / 2 + (SIDE + WIDTH / 2 if layers else SIDE)
        points = [leaves, (lane, leaves[1])]
        for layer, row in zip(layers, y[end - len(layers) : end], strict=True):
            draw_arrow(axes, [*points, (lane, row + HEIGHT / 2)], SHORTCUT)
            draw_box(axes, lane, row, traced, layer)
            points = [(lane, row - HEIGHT / 2)]
        draw_arrow(axes, [*points, (lane, y[end]), (x[end] + WIDTH / 2, y[end])], SHORTCUT)
        axes.plot(*leaves, "o", color=SHORTCUT, markersize=3)
    title = f"{type(model).__name__}, {sum(parameter.numel() for parameter in model.parameters()):,} parameters"
    legend = f"{title}\nleft of a box: channels × height × width from here on; /2: stride 2"
    axes.text(right / 2, top - 0.05, legend, ha="center", va="top")
    axes.set(xlim=((right - PAGE_WIDTH) / 2, (right + PAGE_WIDTH) / 2), ylim=(bottom, top))
    axes.axis("off")


def read_graph(traced: fx.GraphModule) -> tuple[list[fx.Node], list[str], list[Shortcut]]:
    """The main path (of first inputs: ``out`` in ``out + shortcut``), the block of each of its nodes, the shortcuts."""
    *_, output = traced.graph.nodes
    main, _ = path_to(output.args[0], [])
    blocks, shortcuts = [block_of(traced, node) for node in main], []
    for end, node in enumerate(main):
        for other in (it for it in node.all_input_nodes[1:] if "tensor_meta" in it.meta):  # but no x.size(0)
            layers, start = path_to(other, main)
            shortcuts.append((main.index(start), layers, end))
            blocks[end] = blocks[end - 1]  # a sum belongs to the layers above it
    return main, blocks, shortcuts


def place(blocks: list[str], shortcuts: list[Shortcut], columns: list[range]) -> tuple[list[float], list[float], float]:
    """The centre x, y of every box of the main path, and how far the picture reaches to the right."""
    x, y, right = [], [], 0.0
    for column in columns:
        left, row = right + SHAPE, 0.0
        for i in column:
            if i == column[0] or blocks[i] != blocks[i - 1]:  # a block begins, or one has ended
                row -= NAME if blocks[i] else NAME / 2 * (i != column[0])
            x.append(left + WIDTH / 2)
            y.append(row)
            row -= ROW
        right = left + WIDTH + room_beside(shortcuts, column) + 2 * EDGE
    return x, y, right


def room_beside(shortcuts: list[Shortcut], rows: Sequence[int]) -> float:
    """How far the shortcuts that end in these rows reach out to the right of the main path."""
    return max((SIDE + WIDTH if layers else SIDE for _, layers, end in shortcuts if end in rows), default=0)


def path_to(node: fx.Node, until: list[fx.Node]) -> tuple[list[fx.Node], fx.Node | None]:
    """Walk up from ``node`` along first inputs. Returns the path, top down, and the node of ``until`` that ended it."""
    path = []
    while node is not None and node not in until:
        path.insert(0, node)
        node = next(iter(node.all_input_nodes), None)
    return path, node


def block_of(traced: fx.GraphModule, node: fx.Node) -> str:
    """The block that ``node`` stands in: the outermost module around it with layers of its own, or ""."""
    parts = node.target.split(".") if node.op == "call_module" else []
    for depth in range(1, len(parts)):
        name = ".".join(parts[:depth])
        if any(not list(child.children()) for child in traced.get_submodule(name).children()):
            return name
    return ""


def columns_of(blocks: list[str], rows: int) -> list[range]:
    """Break a path into columns of at most ``rows`` boxes, if it can be done between blocks."""
    columns, first, possible = [], 0, 0
    ends = [i for i in range(1, len(blocks)) if not blocks[i] or blocks[i] != blocks[i - 1]]
    for end in [*ends, len(blocks)]:
        if end - first > rows and possible > first:
            columns.append(range(first, possible))
            first = possible
        possible = end
    return [*columns, range(first, len(blocks))]


def draw_box(axes: "Axes", x: float, y: float, traced: fx.GraphModule, node: fx.Node) -> None:
    layer = traced.get_submodule(node.target) if node.op == "call_module" else None
    match layer:
        case nn.Conv2d():
            text = "Conv {}×{}, {}".format(*layer.kernel_size, layer.out_channels)
            text += f", /{layer.stride[0]}" if layer.stride[0] > 1 else ""
        case nn.MaxPool2d():
            size, stride = (it if isinstance(it, tuple) else (it, it) for it in (layer.kernel_size, layer.stride))
            text = "MaxPool {}×{}, /{}".format(*size, stride[0])
        case nn.Linear():
            text = f"Linear {layer.in_features} → {layer.out_features}"
        case None:
            text = "Input" if node.op == "placeholder" else getattr(node.target, "__name__", node.target)
        case _:
            text = type(layer).__name__.removesuffix("2d").removeprefix("Adaptive")
    text = {"add": "+", "flatten": "Flatten"}.get(text, text)
    colour = SUM if text == "+" else COLOURS.get(type(layer), OTHER)
    draw_rounded(axes, x - WIDTH / 2, y - HEIGHT / 2, WIDTH, HEIGHT, 0.04, fc=colour, ec=LINE)
    axes.text(x, y, text, ha="center", va="center_baseline")


def draw_rounded(axes: "Axes", x: float, y: float, width: float, height: float, radius: float, **colours: str) -> None:
    from matplotlib.patches import FancyBboxPatch  # here: lab.drawing.matplotlib_as_it_comes says why

    axes.add_patch(FancyBboxPatch((x, y), width, height, f"round,pad=0,rounding_size={radius}", lw=0.8, **colours))


def draw_arrow(axes: "Axes", points: list[tuple[float, float]], colour: str) -> None:
    axes.plot(*zip(*points[:-1], strict=True), color=colour, linewidth=1)
    style = {"arrowstyle": "-|>", "color": colour, "linewidth": 1, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 5}
    axes.annotate("", points[-1], points[-2], arrowprops=style)
