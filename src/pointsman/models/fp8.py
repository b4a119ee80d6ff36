"""FP8: linear layers with weights in e4m3 and a scale for each block of 128 x 128.

Activations are rounded to e4m3 as they come, with a scale for every 128 values of a token. That is
the recipe of DeepSeek-V3 (arXiv 2412.19437, section 3.3), and of the checkpoints that Qwen
publishes. A scale is the largest absolute value over 448, the largest number of e4m3.

On CUDA the tensor cores multiply. Elsewhere the same rounded values are multiplied in float32, so
a CPU sees the same rounding; it saves no time there.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional

from pointsman.errors import ArtefactError, ConfigError
from pointsman.models.checkpoint import Dtype
from pointsman.models.cpu_kernels import linear

E4M3 = torch.float8_e4m3fn
BLOCK = 128
_CAPABILITY = (9, 0)
"""PyTorch has the product with such scales for this compute capability alone"""
_CUDA = (12, 9)
_SUFFIX = "_scale_inv"
"""Published checkpoints name a weight's scales so; despite the name, values are multiplied by it"""


class Fp8Linear(nn.Linear):
    """A frozen linear layer with FP8 weights.

    Args:
        weight: (N, K) e4m3.
        scale: as ``quantised`` returns it.
    """

    scale: Tensor

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        super().__init__(weight.shape[1], weight.shape[0], bias=False, device="meta")
        self.weight = nn.Parameter(weight, requires_grad=False)
        if bias is not None:
            self.bias = nn.Parameter(bias, requires_grad=False)
        self.register_buffer("scale", scale)

    def forward(self, input: Tensor) -> Tensor:
        return fp8_linear(input, self.weight, self.scale, self.bias)


def fp8_linear(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    """The product of activations (..., K) with FP8 weights; output (..., N) in their dtype.

    Values that are not finite stay so: their token's output is NaN or infinite.

    Args:
        weight: (N, K) e4m3; N and K are multiples of 128.
        scale: as ``quantised`` returns it.
        bias: (N,)
    """
    if x.is_cuda:
        output = _by_tensor_cores(x, weight, scale)
    else:
        values, scales = _quantised_tokens(x)
        read = values.float() * scales.repeat_interleave(BLOCK, -1)
        output = linear(read, dequantised(weight, scale)).to(x.dtype)
    return output if bias is None else output + bias


def quantised(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A weight (N, K) as e4m3 values (N, K), and their scales (N / 128, K / 128), as ``padded``.

    Values are rounded to the nearest, a relative error of at most 1/16 except for those that are
    tiny beside their block's largest. N and K are multiples of 128.
    """
    n, k = weight.shape
    blocks = weight.float().view(n // BLOCK, BLOCK, k // BLOCK, BLOCK)
    scale = _scale_of(blocks.abs().amax((1, 3)))
    # Nothing needs to be cut off: 448 is exceeded by a rounding at most, and rounds back to it.
    values = (blocks / scale[:, None, :, None]).to(E4M3)
    return values.view(n, k), padded(scale)


def padded(scale: Tensor) -> Tensor:
    """Scales (rows, K / 128), the columns padded with zeros to a multiple of 4.

    cuBLASLt reads them so; it gives wrong answers otherwise (pytorch/pytorch#166752).
    """
    return functional.pad(scale.float(), (0, -scale.shape[1] % 4))


def dequantised(weight: Tensor, scale: Tensor) -> Tensor:
    """The float32 numbers (N, K) that values and scales stand for.

    Args:
        weight: (N, K) of any dtype; the last blocks may be cut off.
        scale: one for each block, columns may be padded.
    """
    n, k = weight.shape
    each = scale.float()[:, : -(-k // BLOCK)]
    return weight.float() * each.repeat_interleave(BLOCK, 0)[:n].repeat_interleave(BLOCK, 1)[:, :k]


def wants_fp8(dtype: Dtype | None, is_stored: bool, device: torch.device) -> bool:
    """Whether a base's decoder is to run in FP8.

    Args:
        is_stored: whether the checkpoint is in FP8: then it is the default where it is fast.

    Raises:
        ConfigError: it is asked for, and the device cannot do it.
    """
    obstacle = _obstacle(device)
    if dtype is None:
        return is_stored and device.type == "cuda" and obstacle is None
    if dtype != "fp8":
        return False
    if obstacle is not None:
        raise ConfigError(f"dtype fp8: {obstacle}; give dtype bfloat16 or another device")
    return True


def is_in_fp8(config: Mapping[str, Any], base_model_id: str) -> bool:
    """Whether a checkpoint's ``config.json`` says that it is in FP8, in blocks of 128 x 128.

    Raises:
        ConfigError: it is quantised in any other way.
    """
    settings = config.get("quantization_config")
    if not settings:
        return False
    if not isinstance(settings, Mapping):
        settings = {"quant_method": settings}
    expected: dict[str, Any] = {
        "quant_method": "fp8",
        "fmt": "e4m3",
        "activation_scheme": "dynamic",
        "weight_block_size": [BLOCK, BLOCK],
    }
    defaults = {"fmt": "e4m3", "activation_scheme": "dynamic"}
    for key, value in expected.items():
        if (found := settings.get(key, defaults.get(key))) != value:
            raise ConfigError(
                f"{base_model_id}: a quantised checkpoint with {key} {found!r}, not {value!r}; "
                "give the original one, or Qwen's in FP8"
            )
    return True


def stored_scales(folder: Path) -> dict[str, Tensor]:
    """The scales of a checkpoint's FP8 weights, by the weights' names.

    Raises:
        ArtefactError: an FP8 weight has none.
    """
    scales, weights = {}, set()
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                if name.endswith(_SUFFIX):
                    scales[name.removesuffix(_SUFFIX)] = file.get_tensor(name)
                elif file.get_slice(name).get_dtype() == "F8_E4M3":
                    weights.add(name)
    if missing := sorted(weights - scales.keys()):
        raise ArtefactError(f"{folder}: {missing[0]} is in FP8 without scales; fetch it again")
    return scales


def restore(model: nn.Module, scales: Mapping[str, Tensor]) -> None:
    """Multiplies weights that were read as bare FP8 values by their scales, save those in FP8."""
    for name, scale in scales.items():
        weight = model.get_parameter(name)
        if weight.dtype != E4M3:
            _check_shape(name, weight, scale)
            weight.data = dequantised(weight, scale.to(weight.device)).to(weight.dtype)


def use_fp8(model: Any, device: torch.device, scales: Mapping[str, Tensor] | None = None) -> None:
    """Replaces the linear layers of a Qwen3-VL's decoder by layers in FP8 on ``device``.

    Args:
        scales: by a weight's name, if the model holds the bare FP8 values of its checkpoint: they
            and their scales stay as they are. Other layers are quantised.

    Raises:
        ConfigError: a layer's sides are not multiples of 128.
    """
    decoder = model.model.language_model.layers
    linears = [(path, m) for path, m in decoder.named_modules() if isinstance(m, nn.Linear)]
    for path, module in linears:
        n, k = module.weight.shape
        if n % BLOCK or k % BLOCK:
            raise ConfigError(
                f"dtype fp8: the base's layers.{path} is {n} x {k}, and both must be multiples of "
                f"{BLOCK}; give another dtype"
            )
    for path, module in linears:
        name = f"model.language_model.layers.{path}.weight"
        weight, bias = module.weight.detach().to(device), module.bias
        scale = (scales or {}).get(name)
        if scale is None:
            weight, scale = quantised(weight)
        else:
            _check_shape(name, weight, scale)
            weight, scale = weight.to(E4M3), padded(scale).to(device)
        decoder.set_submodule(path, Fp8Linear(weight, scale, bias))


def _obstacle(device: torch.device) -> str | None:
    """Why there are no FP8 products on a device; None if there are."""
    if device.type == "cpu":
        return None
    if device.type != "cuda":
        return f"it is for CUDA and CPUs, not for {device}"
    version = torch.version.cuda
    if not hasattr(functional, "scaled_mm"):
        return f"PyTorch {torch.__version__} has no torch.nn.functional.scaled_mm, which 2.11 has"
    if version is None or tuple(map(int, version.split(".")[:2])) < _CUDA:
        return f"PyTorch was built for CUDA {version}, and it needs {'.'.join(map(str, _CUDA))}"
    if (found := torch.cuda.get_device_capability(device)) != _CAPABILITY:
        name = torch.cuda.get_device_name(device)
        return f"{device} is {name} of compute capability {'.'.join(map(str, found))}, not 9.0"
    return None


def _check_shape(name: str, weight: Tensor, scale: Tensor) -> None:
    expected = tuple(-(-side // BLOCK) for side in weight.shape)
    if tuple(scale.shape) != expected:
        raise ArtefactError(
            f"{name} has scales of shape {tuple(scale.shape)}, not {expected}; fetch it again"
        )


def _scale_of(largest: Tensor) -> Tensor:
    # Blocks of zeros have a scale too, for 0 over 0 would be NaN; 2**-126 is the smallest that no
    # device takes for 0. These are not names: compilers would take those for values that change.
    return largest.clamp(min=448.0 * 2.0**-126) / 448.0


def _quantised_tokens(x: Tensor) -> tuple[Tensor, Tensor]:
    """Activations (..., K) as e4m3 values (..., K), and their scales (..., K / 128)."""
    groups = x.float().reshape(*x.shape[:-1], -1, BLOCK)
    scales = _scale_of(groups.abs().amax(-1))
    return (groups / scales[..., None]).to(E4M3).flatten(-2), scales


def _by_tensor_cores(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    tokens = x.flatten(0, -2)
    # The number of tokens must be a multiple of 4 for cuBLASLt.
    values, scales = _quantised_tokens(functional.pad(tokens, (0, 0, 0, -tokens.shape[0] % 4)))
    output: Tensor = _product(values, scales.t().contiguous(), weight, scale)
    return output[: tokens.shape[0]].view(*x.shape[:-1], -1).to(x.dtype)


@torch.library.custom_op("pointsman::fp8_product", mutates_args=(), device_types="cuda")
def _product(values: Tensor, scales: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Tokens (M, K) times a weight (N, K), as (M, N) bfloat16.

    It is an operator of its own, which compilers call as it is. PyTorch 2.13's Inductor would put
    ``_scaled_mm`` in place of ``scaled_mm``, and that guesses from shapes what the scales are of.

    Args:
        scales: (K / 128, M); M is a multiple of 4.
    """
    kinds = functional.ScalingType
    return functional.scaled_mm(
        values,
        weight.t(),
        scales.t(),
        kinds.BlockWise1x128,
        scale.t(),
        kinds.BlockWise128x128,
        output_dtype=torch.bfloat16,
    )


@_product.register_fake
def _(values: Tensor, scales: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    return values.new_empty((values.shape[0], weight.shape[0]), dtype=torch.bfloat16)
