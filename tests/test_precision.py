"""bfloat16 and float32: which device computes in which, and what of a run does. Both are forced on every machine."""

import copy
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from test_faster import full_gradient
from test_runs import assert_same_run, train, train_until
from torch import nn

import common
import task1_simplecnn
import task2_resnet18
from lab import commandline, faster, files, precision
from lab.learner import learner_for
from lab.settings import Settings
from task1_simplecnn import SimpleCNN
from task2_resnet18 import ResNet18

BOTH = pytest.mark.parametrize("task", [task1_simplecnn, task2_resnet18])
SHORT = ["--limit", "45", "--batch-size", "15"]  # of 15 images, a CPU without bfloat16 computes in no time, too


@pytest.fixture
def bfloat16(monkeypatch):
    """Let every device have bfloat16 itself."""
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: True)


# ---------------------------------------------------------------- which device computes in which


@pytest.mark.parametrize("native", [True, False])
def test_a_gpu_computes_in_bfloat16_if_it_has_it_itself(monkeypatch, native):
    of = {torch.device("cuda:0"): (7, 5), torch.device("cuda:1"): (8, 0) if native else (7, 0)}
    monkeypatch.setattr(torch.cuda, "get_device_capability", of.get)
    assert precision.has_bfloat16(torch.device("cuda:1")) is native
    assert not precision.has_bfloat16(torch.device("mps"))


CPUS = {  # whether it has the instructions, what PyTorch and oneDNN may use of it, and whether that is enough
    "Zen 4": (True, "AVX512", True, "", True),
    "Ice Lake": (False, "AVX512", True, "", False),
    "Zen 3": (False, "AVX2", False, "", False),
    "Zen 4, PyTorch told to do without": (True, "AVX2", True, "", False),
    "Zen 4, oneDNN told to do without": (True, "AVX512", False, "AVX2", False),
    "Zen 4, oneDNN told to do without the last ones": (True, "AVX512", True, "avx512_core", False),
    "Graviton 3": (False, "SVE256", True, "", False),
}


@pytest.mark.parametrize("onednn", ["available", "enabled", None])
@pytest.mark.parametrize("name", CPUS)
def test_a_cpu_computes_in_bfloat16_if_what_computes_there_has_it(monkeypatch, name, onednn):
    has, pytorchs, onednns, told, enough = CPUS[name]
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: pytorchs)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: onednn is not None)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: onednns, raising=False)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", told)
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", onednn == "enabled")
    assert precision.has_bfloat16(torch.device("cpu")) is (enough and onednn == "enabled")


def test_what_onednn_may_not_use_is_not_used():
    """Its bfloat16 would be ten times slower than float32; in a process of its own, for it reads the variable once."""
    code = "import torch; from lab import precision; print(precision.has_bfloat16(torch.device('cpu')))"
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    run = subprocess.run([sys.executable, "-c", code], cwd=files.ROOT, env=environment, capture_output=True, text=True)
    assert (run.stdout, run.stderr) == ("False\n", "")


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="needs Linux")
def test_pytorch_says_of_this_cpu_what_linux_says():
    linux = re.search(r"^flags\s.*\bavx512_bf16\b", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    allowed = torch.backends.cpu.get_cpu_capability() == "AVX512"
    assert precision.has_bfloat16(torch.device("cpu")) == (bool(linux) and allowed)


# ---------------------------------------------------------------- what of a run computes in which


@BOTH
@pytest.mark.parametrize("words", [[], ["--float32"]])
def test_training_and_validation_may_be_in_bfloat16_the_test_is_not(
    task, words, made_up, bfloat16, monkeypatch, tmp_path, capsys
):
    real, convolutions, logits = F.conv2d, [], []
    cross_entropy = F.cross_entropy

    def seen(x, weight, *how):
        out = real(x, weight, *how)
        convolutions.append((len(x), out.dtype))
        return out

    monkeypatch.setattr(F, "conv2d", seen)
    monkeypatch.setattr(F, "cross_entropy", lambda x, y, **how: logits.append(x) or cross_entropy(x, y, **how))
    record, weights = train(tmp_path, "--epochs", "1", "--limit", "300", "--batch-size", "15", *words, script=task)
    run = commandline.parse(task.__file__, "", task.TASK, task.RECIPE, words)
    assert run.precision == record["environments"][0]["precision"]
    lower = torch.float32 if words else torch.bfloat16
    assert record["run"].endswith("_float32") == bool(words)
    assert {dtype for size, dtype in convolutions if size == 15} == {lower}
    assert {it.dtype for it in logits if len(it) > 2} == {torch.float32}  # two: the try before the training
    # 30 images are validated. With the best weights, the script's own network sees them once more, as they are, then 30
    # to test, and these in a mirror: all of that in float32, through each of its convolutions.
    evaluated = [dtype for size, dtype in convolutions if size == 30]
    network = SimpleCNN if task is task1_simplecnn else ResNet18
    last = 3 * sum(isinstance(layer, nn.Conv2d) for layer in network().modules())
    assert set(evaluated[-last:]) == {torch.float32} and set(evaluated[:-last]) == {lower}
    assert torch.bfloat16 not in {tensor.dtype for tensor in weights["model"].values()}
    assert f"\nDevice:  cpu, {record['environments'][0]['precision']}, " in capsys.readouterr().out
    words = ["--epochs", "1", "--limit", "300", "--batch-size", "15", *words, "--output-dir", str(tmp_path)]
    task.main(["--test", "--device", "cpu", "--data-dir", str(tmp_path), *words])
    assert "\nDevice:  cpu, float32, " in f"\n{capsys.readouterr().out}"


def rounded():
    """What is set for what is multiplied in float32, as far as this PyTorch lets one read it in any case."""
    of = torch.backends
    if hasattr(of.cudnn, "conv"):
        where = of.cudnn.conv, of.cudnn.rnn, of.cuda.matmul, of.mkldnn.conv, of.mkldnn.rnn, of.mkldnn.matmul
        return [it.fp32_precision for it in where]
    return [of.cudnn.allow_tf32, torch.get_float32_matmul_precision() != "highest"]


THEIRS = {
    "nothing": "",
    "cudnn": "torch.backends.cudnn.allow_tf32 = True",
    "products": "torch.set_float32_matmul_precision('medium')",
    "all": "torch.backends.fp32_precision = 'bf16'",
    "none": "torch.backends.fp32_precision = 'ieee'",
    "oneDNN": "torch.backends.mkldnn.conv.fp32_precision = torch.backends.mkldnn.matmul.fp32_precision = 'bf16'",
}


@pytest.mark.parametrize("theirs", THEIRS)
def test_float32_is_float32_and_everything_is_left_as_it_was(theirs):
    """Whatever somebody has set, by either of PyTorch's two ways; in a process of its own."""
    if "fp32_precision" in THEIRS[theirs] and not hasattr(torch.backends, "fp32_precision"):
        pytest.skip("needs a newer PyTorch")
    code = f"""
import torch
from lab.precision import torch_as_it_comes
{inspect.getsource(rounded)}
{THEIRS[theirs]}
before, x, y = rounded(), torch.randn(64, 64), torch.randn(16, 16, 8, 8)
for device, part in (("cpu", slice(3, 6)), ("cuda", slice(3))):
    with torch_as_it_comes(torch.device(device)):
        assert not {{*rounded()[part]}} - {{"ieee", False}}
        if device == "cpu":
            torch.testing.assert_close((x @ x).double(), x.double() @ x.double(), rtol=1e-4, atol=1e-4)
            convolutions = (torch.conv2d(it, it, padding=1).double() for it in (y, y.double()))
            torch.testing.assert_close(*convolutions, rtol=1e-4, atol=1e-3)
    assert rounded() == before
"""
    environment = os.environ | {"TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"}
    subprocess.run([sys.executable, "-c", FAKE_GPU + code], cwd=files.ROOT, env=environment, check=True)


FAKE_GPU = """
import torch
torch.cuda.get_rng_state = lambda device: None
torch.cuda.set_rng_state = lambda state, device: None
"""


@BOTH
def test_a_run_is_what_it_is_where_nobody_rounds(task, made_up, tmp_path):
    alone = train(tmp_path / "alone", "--epochs", "1", "--float32", *SHORT, script=task)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert_same_run(alone, train(tmp_path / "theirs", "--epochs", "1", "--float32", *SHORT, script=task))
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_rounding_that_pytorch_cannot_undo_is_told_and_kept(made_up, monkeypatch, tmp_path, capsys):
    words = ["--epochs", "2", "--float32", *SHORT]
    train_until(2, monkeypatch, tmp_path, *words)
    monkeypatch.setenv("DNNL_DEFAULT_FPMATH_MODE", "bf16")
    record, _ = train(tmp_path, *words, "--resume")
    now = "float32 (ONEDNN_DEFAULT_FPMATH_MODE=BF16)"
    assert f"may differ a little: precision float32 -> {now}\n" in capsys.readouterr().out
    assert [it["precision"] for it in record["environments"]] == ["float32", now]
    where = ["--device", "cpu", "--output-dir", str(tmp_path), "--data-dir", str(tmp_path)]
    task1_simplecnn.main([*words, *where, "--test"])
    assert f"Device:  cpu, {now}, " in capsys.readouterr().out
    task1_simplecnn.main([*words, *where, "--predict", str(files.ROOT / "lab" / "examples" / "cat.png")])
    assert capsys.readouterr().err == f"Computed in {now}\n"


def test_who_takes_denormal_numbers_for_zero_goes_on_to_do_so():
    torch.set_flush_denormal(True)
    try:
        with precision.torch_as_it_comes(torch.device("cpu")):
            assert not (torch.tensor([1e-38]) * 0.01).item()
        assert not (torch.tensor([1e-38]) * 0.01).item()
    finally:
        torch.set_flush_denormal(False)


@BOTH
def test_a_run_does_not_use_the_autocast_of_somebody_else(task, made_up, bfloat16, tmp_path):
    alone = train(tmp_path / "alone", "--epochs", "2", *SHORT, script=task)
    with torch.autocast("cpu", torch.bfloat16):
        assert_same_run(alone, train(tmp_path / "theirs", "--epochs", "2", *SHORT, script=task))


def test_autocast_inside_another_one_sees_what_a_step_has_changed():
    layer, x = nn.Linear(4, 4), torch.ones(1, 4)
    with torch.autocast("cpu", enabled=False):  # as in a run
        for weight in (1.0, 2.0):
            layer.weight.data.fill_(weight)
            with precision.autocast(torch.device("cpu"), "bfloat16"):
                out = layer(x) - layer.bias
            torch.testing.assert_close(out, torch.full((1, 4), 4 * weight), rtol=0.02, atol=0.02)


@BOTH
def test_a_run_in_bfloat16_resumes_bit_for_bit(task, made_up, bfloat16, monkeypatch, tmp_path):
    words = ["--epochs", "2", *SHORT]
    whole = train(tmp_path / "whole", *words, script=task)
    train_until(2, monkeypatch, tmp_path / "parts", *words, script=task)
    parts = train(tmp_path / "parts", *words, "--resume", script=task)
    assert_same_run(whole, parts)
    assert whole[0]["environments"][0]["precision"] == "bfloat16"


def test_resuming_in_another_precision_is_told(made_up, bfloat16, monkeypatch, tmp_path, capsys):
    words = ["--epochs", "2", *SHORT]
    train_until(2, monkeypatch, tmp_path, *words)
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: False)
    record, _ = train(tmp_path, *words, "--resume")
    assert "may differ a little: precision bfloat16 -> float32\n" in capsys.readouterr().out
    assert [(it["from_epoch"], it["precision"]) for it in record["environments"]] == [(1, "bfloat16"), (2, "float32")]


# ---------------------------------------------------------------- what it does to the numbers


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_a_step_is_float32_whatever_the_last_layer(smoothing):
    """In bfloat16, the sum of an epoch's losses would stand still before its end."""
    model = nn.Sequential(nn.Conv2d(3, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    learner = learner_for(model, Settings(label_smoothing=smoothing), steps=1)
    images, labels = torch.rand(4, 3, 8, 8), torch.arange(4)
    loss, logits = common.train_step(learner, images, labels, precision.autocast(images.device, "bfloat16"))
    assert (loss.dtype, logits.dtype) == (torch.float32, torch.bfloat16)


@BOTH
def test_training_in_bfloat16_learns_what_float32_does(task, made_up, bfloat16, tmp_path):
    histories = []
    for words in (["--float32"], []):
        record, _ = train(tmp_path / "-".join(["run", *words]), "--epochs", "3", *SHORT, *words, script=task)
        histories.append([epoch["train_loss"] for epoch in record["history"]])
    single, half = histories
    assert single != half
    assert half[0] == pytest.approx(single[0], rel=0.1)  # after that, rounding has taken them apart
    assert half[-1] < 0.7 * half[0] and single[-1] < 0.7 * single[0]


def relative_error(ours, exact):
    return ((ours.double() - exact).norm() / exact.norm()).item()


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (1, 2), (2, 1), (2, 2), (4, 2)])
def test_a_small_map_convolution_in_bfloat16_is_right_within_its_rounding(size, stride):
    """Beside the same layer in double precision; bfloat16 rounds by up to 2^-9, a few times on the way."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(64, 32, 3, stride, 1, bias=False))
    rebuilt = faster.rebuild(plain, (64, size, size))
    exact = copy.deepcopy(rebuilt).double()
    x, grad = torch.randn(16, 64, size, size), torch.randn_like(plain(torch.randn(16, 64, size, size)))
    results = []
    for network, dtype in ((rebuilt, torch.float32), (exact, torch.float64)):
        images = x.detach().to(dtype, copy=True).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.float32):
            out = network(images)
        (out.to(dtype) * grad).sum().backward()
        results.append((out.detach(), images.grad, network[0].weight.grad))
    assert results[0][0].dtype == torch.bfloat16 and {it.dtype for it in results[0][1:]} == {torch.float32}
    for ours, expected in zip(*results, strict=True):
        assert 1e-4 < relative_error(ours, expected) < 2**-8


def test_the_last_layer_in_bfloat16_computes_in_float32():
    torch.manual_seed(0)
    layer = precision.LinearInFloat32(64, 10)
    exact, grad = copy.deepcopy(layer).double(), torch.randn(16, 10)
    x = torch.randn(16, 64).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    out.backward(grad)
    expected = exact(x.detach().double().requires_grad_())
    expected.backward(grad.double())
    assert out.dtype == torch.float32 and relative_error(out, expected) < 1e-6
    for ours, theirs in zip(layer.parameters(), exact.parameters(), strict=True):
        assert relative_error(ours.grad, theirs.grad) < 1e-6
    assert relative_error(x.grad, grad.double() @ exact.weight) < 2**-8


def test_dropout_in_bfloat16():
    torch.manual_seed(0)
    x = torch.randn(16, 64).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = faster.UniformDropout(0.2)(x)
    out.sum().backward()
    kept = (out != 0).double()
    assert 0.7 < kept.mean() < 0.9
    assert out.dtype == torch.bfloat16 and relative_error(out, x.double() * kept / 0.8) < 2**-8
    assert relative_error(x.grad, kept / 0.8) < 2**-8


@pytest.mark.parametrize("network", [SimpleCNN, ResNet18])
def test_the_gradients_of_both_networks_in_bfloat16(network):
    """Each is about as far from double precision as that of the plain network under PyTorch's own autocast."""
    torch.manual_seed(0)
    plain = network().eval()  # without dropout, and with batch norm that does not amplify
    rebuilt = faster.rebuild(plain, (3, 32, 32))
    images, labels = torch.randn(4, 3, 32, 32), torch.arange(4)
    gradients = []
    for model, bfloat16 in ((copy.deepcopy(plain).double(), False), (plain, True), (rebuilt, True)):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            logits = model(images.to(next(model.parameters()).dtype))
        F.cross_entropy(logits.to(next(model.parameters()).dtype), labels).backward()
        found = {name: full_gradient(name, parameter, model, plain) for name, parameter in model.named_parameters()}
        gradients.append({name: gradient.clone() for name, gradient in found.items()})
    exact, theirs, ours = gradients
    errors = {
        name: (relative_error(ours[name], exact[name]), relative_error(theirs[name], exact[name])) for name in exact
    }
    assert all(mine < 1.5 * their + 2**-8 for mine, their in errors.values()), errors


def test_logits_are_rarely_equal():
    """Of those with eight bits, every hundredth image or so has two largest ones."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
    images, labels = torch.randint(256, (2000, 3, 32, 32), dtype=torch.uint8), torch.zeros(2000, dtype=torch.int64)
    dataset = common.Dataset(images, labels, torch.zeros(3, 1, 1), torch.ones(3, 1, 1))
    ties = []
    for network in (model, faster.rebuild(model, (3, 32, 32))):
        with precision.autocast(torch.device("cpu"), "bfloat16"):
            two = common.predict_logits(network, dataset).topk(2).values
        ties.append((two[:, 0] == two[:, 1]).sum().item())
    assert ties[0] > 5 and ties[1] == 0
