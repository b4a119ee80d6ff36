"""Which versions of vLLM this plugin runs in, and the internals of vLLM that it touches.

vLLM guarantees the interfaces of its plugins, but not the classes below. They are looked at when
vLLM starts, so that another version is refused in one line instead of giving wrong answers.
"""

import inspect
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

from pointsman.errors import ConfigError, MissingDependency

TESTED = ("0.23.0", "0.32.0")
"""0.32.0 on a CPU, 0.23.0 on a GPU; see docs/guide/vllm.md"""


class Internal(NamedTuple):
    """A function of vLLM that is wrapped or called, and the parameters that are relied on."""

    module: str
    name: str
    parameters: tuple[str, ...]


RUNNER = "vllm.v1.worker.lora_model_runner_mixin"
BATCH = "vllm.v1.worker.gpu_input_batch"
FRONT_END = "vllm.entrypoints.openai.models.serving"
MODEL = "vllm.model_executor.models.qwen3_vl"
INTERNALS = (
    Internal(RUNNER, "LoRAModelRunnerMixin.load_lora_model", ("self", "model")),
    Internal(
        RUNNER, "LoRAModelRunnerMixin.set_active_loras", ("input_batch", "num_scheduled_tokens")
    ),
    Internal("vllm.v1.worker.gpu_model_runner", "GPUModelRunner.sample_tokens", ("self",)),
    Internal(BATCH, "InputBatch.make_lora_inputs", ("num_scheduled_tokens",)),
    Internal("vllm.lora.worker_manager", "WorkerLoRAManager._load_adapter", ("lora_request",)),
    Internal("vllm.lora.model_manager", "LoRAModelManager.create_dummy_lora", ("lora_id", "rank")),
    Internal("vllm.lora.model_manager", "LoRAModelManager._get_punica_wrapper", ("module_name",)),
    Internal(MODEL, "Qwen3LLMModel._maybe_add_hidden_state", ("hidden_states", "residual")),
    Internal(MODEL, "Qwen3VLForConditionalGeneration.forward", ("positions", "inputs_embeds")),
    Internal("vllm.v1.core.kv_cache_utils", "_gen_lora_extra_hash_keys", ("request",)),
    Internal(
        "vllm.v1.core.sched.scheduler",
        "Scheduler.update_from_output",
        ("scheduler_output", "model_runner_output"),
    ),
    Internal("vllm.v1.core.sched.scheduler", "Scheduler.finish_requests", ("request_ids",)),
    Internal(
        "vllm.v1.core.sched.scheduler",
        "Scheduler._try_schedule_encoder_inputs",
        ("request", "num_computed_tokens", "num_new_tokens", "encoder_compute_budget"),
    ),
    Internal("vllm.v1.engine.output_processor", "OutputProcessor.add_request", ("request",)),
    Internal(
        "vllm.v1.engine.output_processor",
        "OutputProcessor.process_outputs",
        ("engine_core_outputs",),
    ),
    Internal("vllm.engine.arg_utils", "EngineArgs.create_engine_config", ("self",)),
    Internal("vllm.config", "CompilationConfig.set_splitting_ops_for_v1", ("self",)),
    Internal(FRONT_END, "OpenAIServingModels.init_static_loras", ("self",)),
    Internal(FRONT_END, "OpenAIServingModels.load_lora_adapter", ("request",)),
    Internal(FRONT_END, "OpenAIServingModels.unload_lora_adapter", ("request",)),
    Internal(FRONT_END, "OpenAIServingModels.show_available_models", ("self",)),
)


def version() -> str:
    """The version of vLLM in this environment, without its build.

    Raises:
        MissingDependency: there is none.
    """
    found = find_spec("vllm")
    if found is None or found.origin is None:  # a folder of this name is no package
        raise MissingDependency("vLLM is not installed; run: pip install 'pointsman[vllm]'")
    return str(import_module("vllm").__version__).partition("+")[0]


def check_vllm_version() -> None:
    """Checks that this vLLM is one that the plugin was tested in.

    Raises:
        MissingDependency: vLLM is not installed.
        ConfigError: it is another version, or a changed one.
    """
    found = version()
    if found not in TESTED:
        raise ConfigError(
            f"vLLM {found}: this version of pointsman routes inside vLLM {' and '.join(TESTED)}; "
            "install one of them, or unset POINTSMAN_CONFIG to serve without auto"
        )
    for internal in INTERNALS:
        _check(internal, found)


def spare_slots() -> int:
    """LoRA slots that must stay empty.

    On a CPU, vLLM computes requests without a LoRA with the matrices of the last slot
    (``lora/ops/torch_ops``, where the index -1 is that of the last).
    """
    return int(import_module("vllm.platforms").current_platform.is_cpu())


def slots_taken(name: str, slots: int) -> str:
    """Why an adapter cannot be loaded: none may lose its slot, since ``auto`` may need any."""
    return (
        f"adapter {name!r}: every slot is taken, and none is given to another adapter; start vLLM "
        f"with --max-loras {slots + 1} or more"
    )


def _check(internal: Internal, found: str) -> None:
    place: Any = import_module(internal.module)
    for part in internal.name.split("."):
        place = getattr(place, part, None)
    known = inspect.signature(place).parameters if callable(place) else {}
    if missing := [name for name in internal.parameters if name not in known]:
        raise ConfigError(
            f"vLLM {found}: {internal.module}.{internal.name} has no {missing[0]!r}, so this is a "
            f"changed vLLM; install an unchanged {' or '.join(TESTED)}"
        )
