"""FP8 weights: the rounding, the product, bases that run in it, checkpoints that hold it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from pointsman.conversation import Prompt
from pointsman.errors import ArtefactError, ConfigError, MismatchError
from pointsman.models.base import Base, load_base, load_skeleton
from pointsman.models.checkpoint import pick_dtype
from pointsman.models.cpu_kernels import use_onednn_linears
from pointsman.models.features import FeatureRecipe, extract
from pointsman.models.fp8 import (
    E4M3,
    Fp8Linear,
    _by_tensor_cores,
    dequantised,
    fp8_linear,
    padded,
    quantised,
    wants_fp8,
)
from support.engines import MIXED
from support.tiny import make_base

SCHEME = {
    "activation_scheme": "dynamic",
    "fmt": "e4m3",
    "quant_method": "fp8",
    "weight_block_size": [128, 128],
    "modules_to_not_convert": ["lm_head"],
}
"""As Qwen/Qwen3-VL-8B-Instruct-FP8 has it"""


@pytest.fixture(scope="module")
def wide_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("wide"), is_wide=True)


@pytest.fixture(scope="module")
def wide(wide_folder: Path) -> Base:
    return load_base(str(wide_folder))


@pytest.fixture(scope="module")
def fp8(wide_folder: Path) -> Base:
    return load_base(str(wide_folder), dtype="fp8")


def is_projection(name: str) -> bool:
    return ".language_model.layers." in name and name.endswith("_proj.weight")


@pytest.fixture(scope="module")
def published(wide_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wide base as Qwen publishes FP8; many of its blocks do not reach 448."""
    folder = Path(shutil.copytree(wide_folder, tmp_path_factory.mktemp("published") / "base"))
    path, tensors = folder / "model.safetensors", {}
    generator = torch.Generator().manual_seed(5)
    for name, weight in load_file(path).items():
        tensors[name] = weight
        if is_projection(name):
            values, scale = quantised(weight)
            rows, columns = (side // 128 for side in weight.shape)
            looser = 1 + torch.rand(rows, columns, generator=generator)
            looser[0, 0] = 1
            scale = (scale[:, :columns] * looser).bfloat16()
            blocks = weight.view(rows, 128, columns, 128) / scale.float()[:, None, :, None]
            values = blocks.clamp(-448, 448).to(E4M3).view(weight.shape)
            tensors |= {name: values, f"{name}_scale_inv": scale}
    save_file(tensors, path, {"format": "pt"})
    write_config(folder, quantization_config=SCHEME)
    return folder


def write_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def changed(folder: Path, to: Path, change: Callable[[dict[str, Tensor]], Any]) -> Path:
    """A copy of a checkpoint with other weights."""
    shutil.copytree(folder, to)
    tensors = load_file(to / "model.safetensors")
    change(tensors)
    save_file(tensors, to / "model.safetensors", {"format": "pt"})
    return to


def features(base: Base, prompt: Prompt = MIXED[0]) -> Tensor:
    with torch.inference_mode():
        return extract(base, base.encode([prompt]), FeatureRecipe((1, 2, 3, 4))).float()


def distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Values whose size differs by a factor of a million, from block to block."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(*shape, generator=generator)
    return values * torch.logspace(-3, 3, shape[-1] // 128).repeat_interleave(128)


def test_rounding_is_within_half_a_step() -> None:
    weight = noise(256, 640)
    values, scale = quantised(weight)
    assert values.dtype == E4M3
    assert scale.shape == (2, 8)  # of 5 columns
    each = scale.repeat_interleave(128, 0).repeat_interleave(128, 1)[:, :640]
    # Steps are 1/8 of a power of two, and below 2**-6 times the scale all the same.
    bound = torch.maximum(weight.abs() / 16, each * 2**-10)
    error = (dequantised(values, scale) - weight).abs()
    assert bool((error <= bound * 1.0001).all())
    largest = values.float().abs().view(2, 128, 5, 128).amax((1, 3))
    assert bool((largest == 448).all())


def test_rounding_is_a_naive_loops() -> None:
    weight, x = noise(128, 256), noise(3, 256, seed=1)
    values, scale = quantised(weight)
    expected = torch.zeros(3, 128)
    for column in range(2):
        part = slice(128 * column, 128 * (column + 1))
        step = weight[:, part].abs().max() / 448
        assert scale[0, column] == step
        rounded = (weight[:, part] / step).to(E4M3).float()
        assert torch.equal(values[:, part].float(), rounded)
        for row in range(3):
            size = x[row, part].abs().max() / 448
            read = (x[row, part] / size).to(E4M3).float()
            for output in range(128):
                expected[row, output] += (read @ rounded[output]) * size * step
    assert distance(fp8_linear(x, values, scale), expected) < 1e-6
    shift = torch.arange(128.0) * 1e4
    assert distance(fp8_linear(x, values, scale, shift), expected + shift) < 1e-6


def test_a_product_keeps_shape_and_dtype_and_is_a_few_percent_off() -> None:
    weight, x = noise(384, 256), noise(2, 3, 256, seed=1).bfloat16()
    output = fp8_linear(x, *quantised(weight))
    assert (output.shape, output.dtype) == ((2, 3, 384), torch.bfloat16)
    assert distance(output.float(), x.float() @ weight.mT) < 0.05


def test_tokens_do_not_change_one_another() -> None:
    """Unlike with one scale for the whole batch."""
    weight, x = quantised(noise(256, 256)), noise(5, 256, seed=1)
    alone = torch.cat([fp8_linear(row[None], *weight) for row in x * 1e3])
    assert distance(fp8_linear(x * 1e3, *weight), alone) < 1e-6


def test_zeros_are_zeros() -> None:
    weight, x = noise(256, 256), noise(2, 256)
    weight[:128, :128] = 0
    x[0, 128:] = 0
    x[1] = 0
    values, scale = quantised(weight)
    assert not dequantised(values, scale)[:128, :128].any()
    output = fp8_linear(x, values, scale)
    assert not output[0, :128].any()
    assert output[0, 128:].all()
    assert not output[1].any()


@pytest.mark.parametrize("tiny", [1e-37, 1e-44])
def test_numbers_near_the_smallest_are_finite(tiny: float) -> None:
    output = fp8_linear(torch.full((2, 128), tiny), *quantised(torch.full((128, 128), tiny)))
    assert bool((output.isfinite() & (output.abs() < 1e-30)).all())


@pytest.mark.parametrize("fault", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_stays_so(fault: float) -> None:
    weight, x = noise(128, 256), noise(3, 256, seed=1)
    x[1, 130] = fault
    finite = fp8_linear(x, *quantised(weight)).isfinite()
    assert finite.all(-1).tolist() == [True, False, True]
    assert not finite[1].any()
    weight[7, 9] = fault
    assert not fp8_linear(x, *quantised(weight)).isfinite().any()


def test_large_numbers_do_not_overflow() -> None:
    x = torch.full((1, 128), torch.finfo(torch.bfloat16).max).bfloat16()
    assert bool(fp8_linear(x, *quantised(torch.eye(128))).isfinite().all())


def test_one_graph_for_any_number_of_tokens() -> None:
    weight, graphs = quantised(noise(256, 384)), []

    def keeping(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    product = torch.compile(fp8_linear, backend=keeping, fullgraph=True, dynamic=True)
    for tokens in (7, 2, 8, 65):
        x = noise(tokens, 5, 384)
        assert distance(product(x, *weight), fp8_linear(x, *weight)) < 1e-6
    assert len(graphs) == 1


def test_the_tensor_cores_product_is_one_graph_for_any_number_of_tokens() -> None:
    """No CUDA is needed to trace it; compilers see its operator as a whole."""
    (values, scale), graphs = quantised(noise(256, 384)), []

    def keeping(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(graph)
        return lambda *_: (torch.zeros(1),)  # the operator has no kernel for a CPU

    product = torch.compile(_by_tensor_cores, backend=keeping, fullgraph=True, dynamic=True)
    for tokens in (7, 2, 8, 65):
        product(noise(tokens, 5, 384).bfloat16(), values, scale)
    [graph] = graphs
    called = [node for node in graph.graph.nodes if "fp8_product" in str(node.target)]
    assert len(called) == 1
    assert called[0].meta["example_value"].dtype == torch.bfloat16
    assert ".item()" not in graph.code


def test_the_tensor_cores_are_given_what_they_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens in fours, their scales column by column, a weight's rows padded to four."""
    seen: list[Tensor] = []

    def product(values: Tensor, scales: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
        seen.extend([values, scales, scale])
        each = scales.t().repeat_interleave(128, -1)
        read = values.float() * each
        return functional.linear(read, dequantised(weight, scale)).bfloat16()

    monkeypatch.setattr("pointsman.models.fp8._product", product)
    values, scale = quantised(noise(256, 640))
    x = noise(3, 2, 640, seed=1).bfloat16()
    expected = fp8_linear(x, values, scale).float()
    assert distance(_by_tensor_cores(x, values, scale).float(), expected) < 1e-4
    read, scales, own = seen
    assert read.shape == (8, 640)
    assert read.is_contiguous()
    assert (scales.shape, scales.t().stride()) == ((5, 8), (1, 8))
    assert (own.t().shape, own.t().stride()) == ((8, 2), (1, 8))


@pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.get_device_capability() != (9, 0),
    reason="PyTorch has this product for compute capability 9.0 alone",
)
@pytest.mark.parametrize("sides", [(512, 128), (384, 640), (4096, 4096)])
@pytest.mark.parametrize("tokens", [1, 4, 63, 300])
def test_the_tensor_cores_compute_as_the_cpu(tokens: int, sides: tuple[int, int]) -> None:
    weight, x = quantised(torch.randn(sides)), torch.randn(tokens, sides[1]).bfloat16()
    x[-1, :64] = 0
    expected = fp8_linear(x, *weight).float()
    on_cuda = [tensor.cuda() for tensor in (x, *weight)]
    assert distance(fp8_linear(*on_cuda).cpu().float(), expected) < 0.01
    compiled = torch.compile(fp8_linear, fullgraph=True, dynamic=True)
    assert distance(compiled(*on_cuda).cpu().float(), expected) < 0.01


def test_the_decoder_alone_is_in_fp8(fp8: Base) -> None:
    for name, module in fp8.model.named_modules():
        if isinstance(module, nn.Linear):
            assert isinstance(module, Fp8Linear) == is_projection(f"{name}.weight"), name
    others = [p.dtype for n, p in fp8.model.named_parameters() if not is_projection(n)]
    assert {*others} == {torch.float32}
    assert (fp8.dtype, fp8.precision) == (torch.float32, "fp8")
    assert not any(p.requires_grad for p in fp8.model.parameters())


def test_states_are_a_few_percent_off(fp8: Base, wide: Base) -> None:
    assert wide.precision == "float32"
    for prompt in MIXED:
        # Each product is 3% off; random weights have four of them in a row for a layer.
        assert 0.01 < distance(features(fp8, prompt), features(wide, prompt)) < 0.15


def test_kernels_for_other_layers_leave_these_alone(fp8: Base) -> None:
    before = features(fp8)
    use_onednn_linears(fp8.model)
    assert torch.equal(features(fp8), before)


def test_a_published_checkpoint_is_loaded_exactly(published: Path) -> None:
    stored, base = (
        load_file(published / "model.safetensors"),
        load_base(str(published), dtype="fp8"),
    )
    compared = 0
    for name, module in base.model.named_modules():
        if isinstance(module, Fp8Linear):
            values, scale = stored[f"{name}.weight"], stored[f"{name}.weight_scale_inv"]
            assert torch.equal(module.weight.view(torch.uint8), values.view(torch.uint8))
            assert torch.equal(module.scale, padded(scale))
            compared += 1
    assert compared == 28
    whole = [name for name in stored if is_projection(name)]
    again = [quantised(dequantised(stored[n], stored[f"{n}_scale_inv"]))[0] for n in whole]
    assert any(
        not torch.equal(new.float(), stored[name].float())
        for new, name in zip(again, whole, strict=True)
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", None])
def test_a_published_checkpoint_is_dequantised(published: Path, dtype: Any) -> None:
    stored, base = (
        load_file(published / "model.safetensors"),
        load_base(str(published), dtype=dtype),
    )
    expected = torch.bfloat16 if dtype == "bfloat16" else torch.float32
    assert (base.dtype, base.precision) == (expected, str(expected).removeprefix("torch."))
    for name, weight in base.model.named_parameters():
        if is_projection(name):
            own = dequantised(stored[name], stored[f"{name}_scale_inv"])
            assert torch.equal(weight, own.to(expected)), name
        elif name in stored:
            assert torch.equal(weight, stored[name].to(expected)), name
    assert not any(isinstance(module, Fp8Linear) for module in base.model.modules())


def test_a_published_checkpoint_computes_as_its_numbers(published: Path, wide: Base) -> None:
    for dtype in ("fp8", "float32"):
        base = load_base(str(published), dtype=dtype)  # type: ignore[arg-type]
        assert distance(features(base), features(wide)) < 0.15
    assert load_skeleton(str(published)).depth == 4


def test_layers_that_a_checkpoint_left_out_are_quantised(published: Path, tmp_path: Path) -> None:
    """And those in FP8 beside the decoder are dequantised, with blocks that are cut off."""
    left, tower = (
        "model.language_model.layers.1.mlp.down_proj.weight",
        "model.visual.blocks.0.mlp.linear_fc1.weight",
    )

    def change(tensors: dict[str, Tensor]) -> None:
        scale = tensors.pop(f"{left}_scale_inv")
        tensors[left] = dequantised(tensors[left], scale)
        tensors[tower] = tensors[tower].to(E4M3)
        tensors[f"{tower}_scale_inv"] = torch.tensor([[3.0]])

    folder = changed(published, tmp_path / "other", change)
    stored, base = load_file(folder / "model.safetensors"), load_base(str(folder), dtype="fp8")
    module = base.model.get_submodule(left.removesuffix(".weight"))
    values, scale = quantised(stored[left])
    assert torch.equal(module.weight.float(), values.float())
    assert torch.equal(module.scale, scale)
    assert torch.equal(base.model.get_parameter(tower), stored[tower].float() * 3)


def test_scales_that_are_missing_or_of_another_shape(published: Path, tmp_path: Path) -> None:
    name = "model.language_model.layers.1.mlp.down_proj.weight_scale_inv"
    folder = changed(published, tmp_path / "a", lambda tensors: tensors.pop(name))
    for dtype in ("fp8", "float32"):
        with pytest.raises(ArtefactError, match=r"down_proj\.weight is in FP8 without scales"):
            load_base(str(folder), dtype=dtype)  # type: ignore[arg-type]
    wrong = {name: torch.ones(2, 2)}
    folder = changed(published, tmp_path / "b", lambda tensors: tensors.update(wrong))
    for dtype in ("fp8", "float32"):
        with pytest.raises(ArtefactError, match=r"shape \(2, 2\), not \(1, 2\)"):
            load_base(str(folder), dtype=dtype)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"quant_method": "gptq", "bits": 4}, "quant_method 'gptq', not 'fp8'"),
        ({"quant_method": "awq"}, "quant_method 'awq'"),
        ({"quant_method": "bitsandbytes"}, "quant_method 'bitsandbytes'"),
        ({"quant_method": "compressed-tensors"}, "quant_method 'compressed-tensors'"),
        ({"weight_block_size": [64, 64]}, r"weight_block_size \[64, 64\], not \[128, 128\]"),
        ({"weight_block_size": None}, "weight_block_size None"),
        ({"activation_scheme": "static"}, "activation_scheme 'static'"),
        ({"fmt": "e5m2"}, "fmt 'e5m2'"),
        ("int4", "quant_method 'int4'"),
    ],
)
def test_other_quantised_checkpoints_are_refused(
    wide_folder: Path, tmp_path: Path, change: dict[str, Any] | str, named: str
) -> None:
    folder = Path(shutil.copytree(wide_folder, tmp_path / "base"))
    write_config(
        folder, quantization_config=SCHEME | change if isinstance(change, dict) else change
    )
    for dtype in (None, "fp8", "float32"):
        with pytest.raises(ConfigError, match=named):
            load_base(str(folder), dtype=dtype)  # type: ignore[arg-type]


def test_a_base_whose_sides_do_not_fit(tiny_base_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"layers\.0\.self_attn\.q_proj is 32 x 32.*128.*dtype"):
        load_base(str(tiny_base_folder), dtype="fp8")


CUDA = torch.device("cuda")


def pretend(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], version: str) -> None:
    monkeypatch.setattr(torch.version, "cuda", version)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA X")


@pytest.mark.parametrize(
    ("capability", "version", "named"),
    [
        ((8, 9), "13.0", "cuda is NVIDIA X of compute capability 8.9, not 9.0"),
        ((10, 0), "12.9", "compute capability 10.0, not 9.0"),
        ((9, 0), "12.8", "built for CUDA 12.8, and it needs 12.9"),
    ],
)
def test_a_device_without_these_products(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], version: str, named: str
) -> None:
    pretend(monkeypatch, capability, version)
    with pytest.raises(ConfigError, match=f"^dtype fp8: .*{named}; give dtype bfloat16"):
        wants_fp8("fp8", True, CUDA)
    assert not wants_fp8(None, True, CUDA)  # it is dequantised
    with pytest.raises(ConfigError, match="not for mps"):
        wants_fp8("fp8", True, torch.device("mps"))


def test_a_pytorch_without_these_products(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, (9, 0), "13.0")
    monkeypatch.delattr(functional, "scaled_mm")
    with pytest.raises(ConfigError, match=r"has no torch\.nn\.functional\.scaled_mm"):
        wants_fp8("fp8", False, CUDA)


def test_fp8_is_the_default_where_it_is_fast_and_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, (9, 0), "12.9")
    assert wants_fp8(None, True, CUDA)
    assert not wants_fp8(None, False, CUDA)
    assert not wants_fp8("bfloat16", True, CUDA)
    assert wants_fp8("fp8", False, CUDA)
    cpu = torch.device("cpu")
    assert not wants_fp8(None, True, cpu)
    assert wants_fp8("fp8", True, cpu)
    assert (pick_dtype("fp8", CUDA), pick_dtype("fp8", cpu)) == (torch.bfloat16, torch.float32)


def test_checkpoints_of_one_base_in_two_precisions_are_two_bases(
    published: Path, wide: Base
) -> None:
    with pytest.raises(MismatchError, match="differ in their weights"):
        wide.fingerprint.check_same(load_base(str(published)).fingerprint, "a", "b", "fix it")
