"""Wraps: the functions of vLLM that this plugin extends, all in one place.

The functions on a decision's way are in ``transport``, those of the runner in ``selection``.
"""

import logging
from importlib.util import find_spec
from typing import Any

from vllm.config import CompilationConfig
from vllm.engine.arg_utils import EngineArgs
from vllm.entrypoints.openai.models.protocol import LoRAModulePath
from vllm.entrypoints.openai.models.serving import OpenAIServingModels, create_error_response
from vllm.model_executor.models import ModelRegistry
from vllm.v1.worker.lora_model_runner_mixin import LoRAModelRunnerMixin

from pointsman.adapters.load import open_sealed
from pointsman.errors import ConfigError, PointsmanError
from pointsman.labels import ROUTED
from pointsman.vllm import transport
from pointsman.vllm.compatibility import slots_taken, spare_slots, version
from pointsman.vllm.launch import PLAN, Launch, check_graphs, check_options, prepare, set_options
from pointsman.vllm.selection import Selection
from pointsman.vllm.settings import Settings

ARCHITECTURE = "Qwen3VLForConditionalGeneration"
MODEL = "pointsman.vllm.model:RoutedQwen3VL"
SPLITTING_OP = "vllm::pointsman_read"
_log = logging.getLogger("vllm.pointsman")  # vLLM configures its own loggers alone


def install(settings: Settings) -> None:
    """Registers the model and wraps vLLM's functions; a second call changes nothing."""
    if hasattr(EngineArgs.create_engine_config, "__wrapped__"):
        return
    _Installed(settings).install()
    if settings.reads_with_base:
        ModelRegistry.register_model(ARCHITECTURE, MODEL)
        transport.install()


class _Installed:
    """The wrappers, which share the settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loaded: set[str] = set()
        """Names of all adapters that were ever loaded: each keeps its slot"""

    def install(self) -> None:
        transport.wrap(EngineArgs, "create_engine_config", self._create_engine_config)
        transport.wrap(OpenAIServingModels, "init_static_loras", self._init_static_loras)
        transport.wrap(OpenAIServingModels, "load_lora_adapter", self._load_lora_adapter)
        transport.wrap(OpenAIServingModels, "unload_lora_adapter", self._unload_lora_adapter)
        transport.wrap(OpenAIServingModels, "show_available_models", self._show_models)
        if self._settings.reads_with_base:
            transport.wrap(LoRAModelRunnerMixin, "load_lora_model", self._load_lora_model)
            transport.wrap(CompilationConfig, "set_splitting_ops_for_v1", self._split)

    @property
    def _launch(self) -> Launch:
        return prepare(self._settings)

    def _create_engine_config(self, stock: Any, args: Any, *more: Any, **kwargs: Any) -> Any:
        """Before anything is started: checks the project, and sets vLLM's options."""
        launch = self._launch
        check_options(args, self._settings)
        set_options(args, launch, self._settings)
        _log.info("pointsman: plan %s: %s", launch.plan.name, launch.plan.why)
        config = stock(args, *more, **kwargs)
        check_graphs(config.compilation_config, self._settings)
        return config

    def _split(self, stock: Any, config: Any, *args: Any, **kwargs: Any) -> Any:
        """Has vLLM split its compiled graph where the router reads."""
        found = stock(config, *args, **kwargs)
        if config.splitting_ops and SPLITTING_OP not in config.splitting_ops:
            config.splitting_ops.append(SPLITTING_OP)
        return found

    def _load_lora_model(self, stock: Any, runner: Any, *args: Any, **kwargs: Any) -> Any:
        """In the worker: gives the model its selection."""
        model = stock(runner, *args, **kwargs)
        reads_first = runner.vllm_config.additional_config[PLAN] == "two-pass"
        model.selection = Selection(runner, self._settings, reads_first=reads_first)
        return model

    async def _init_static_loras(self, stock: Any, models: Any) -> Any:
        """In the API server: the project's adapters are there from the start."""
        if find_spec("vllm.plugins.endpoint_plugins") is None:
            raise ConfigError(
                f"vLLM {version()} has no endpoint plugins, which decisions need on their way into "
                "responses; install vLLM 0.32.0, or use this one as a library (vllm.LLM)"
            )
        given = models.static_lora_modules or []
        ours = self._launch.modules(self._settings)
        if not self._settings.reads_with_base:
            del ours[ROUTED]
        given = [one for one in given if ours.get(one.name) != one.path]
        if taken := [one.name for one in given if one.name in (*ours, ROUTED)]:
            raise ValueError(
                f"--lora-modules {taken[0]}: this name is one of the project's adapters"
            )
        models.static_lora_modules = [
            *(LoRAModulePath(name=name, path=path) for name, path in ours.items()),
            *given,
        ]
        return await stock(models)

    async def _load_lora_adapter(self, stock: Any, models: Any, request: Any, **kwargs: Any) -> Any:
        if (fault := self._fault(models, request.lora_name, request.lora_path)) is not None:
            return _refusal(fault)
        done = await stock(models, request, **kwargs)
        if isinstance(done, str):  # otherwise it is an error
            self._loaded.add(request.lora_name)
        return done

    def _fault(self, models: Any, name: str, path: str) -> str | None:
        """Why an adapter cannot be loaded while vLLM runs."""
        if name == ROUTED and name in models.lora_requests:
            return f"adapter {name!r} is the router's; choose another name"
        if name in self._settings.project.adapters:
            try:
                open_sealed(name, path, self._settings.router)
            except PointsmanError as error:
                return str(error)
        slots = models.engine_client.vllm_config.lora_config.max_loras
        if name not in self._loaded and len(self._loaded) >= slots - spare_slots():
            return slots_taken(name, slots)
        return None

    async def _unload_lora_adapter(self, stock: Any, models: Any, request: Any) -> Any:
        name = request.lora_name
        if name in (*self._settings.project.adapters, ROUTED):
            return _refusal(f"adapter {name!r}: {ROUTED} may choose it; it cannot be unloaded")
        return await stock(models, request)

    async def _show_models(self, stock: Any, models: Any) -> Any:
        """With a text router ``auto`` is no LoRA, and vLLM would not list it."""
        shown = await stock(models)
        if all(card.id != ROUTED for card in shown.data):
            card = shown.data[0]
            router = str(self._settings.project.router)
            shown.data.append(card.model_copy(update={"id": ROUTED, "root": router}))
        return shown


def _refusal(message: str) -> Any:
    return create_error_response(message, err_type="BadRequestError")
