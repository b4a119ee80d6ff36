"""NOT RUN: written from the documentation of Ray Serve LLM.

vLLM with the model auto on Ray. Pointsman and the project's folder must be on every node. With
direct streaming, Ray serves vLLM's own API; its default ingress does not know auto.

export RAY_SERVE_ENABLE_HA_PROXY=1 RAY_SERVE_LLM_ENABLE_DIRECT_STREAMING=1
python examples/vllm/ray_serve_llm.py
"""

from ray import serve
from ray.serve.llm import LLMConfig, build_openai_app

PROJECT = "/project/pointsman.toml"

config = LLMConfig(
    model_loading_config={"model_id": "base", "model_source": "Qwen/Qwen3-VL-8B-Instruct"},
    # The plugin sets the options that the project needs.
    engine_kwargs={"max_model_len": 16384},
    runtime_env={"env_vars": {"POINTSMAN_CONFIG": PROJECT, "VLLM_USE_V2_MODEL_RUNNER": "0"}},
    deployment_config={"autoscaling_config": {"min_replicas": 1, "max_replicas": 2}},
    accelerator_type="H100",
)
app = build_openai_app({"llm_configs": [config]})

if __name__ == "__main__":
    serve.run(app, blocking=True)
