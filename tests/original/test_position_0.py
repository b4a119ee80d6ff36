"""A head notices features that it was not trained on, and lets through those that it was."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pointsman.adapters.peft import load_base_with_loras
from pointsman.conversation import Prompt, Turn, make_prompt, user_turn
from pointsman.engine.peft_backend import route_and_generate
from pointsman.errors import ConfigError, LabelError, MismatchError, RequestError
from pointsman.evaluation.demo import demo_samples
from pointsman.models.base import Base, load_base
from pointsman.models.features import FeatureRecipe, extract
from pointsman.pocket import pocket_folder
from pointsman.project import Project
from pointsman.routing.head import build_router_head
from pointsman.routing.legacy_pt import load_router_head, reads_of, write_pt
from pointsman.routing.router import Router
from support.engines import MIXED, ask, make_router

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8))
ODD = (
    make_prompt(None, "Hello"),
    make_prompt(None, "Write a poem about autumn, in four stanzas, and rhyme it. " * 8),
    make_prompt(Image.new("RGB", (320, 240), "white"), "Click"),
    make_prompt(Image.new("RGB", (64, 900), "black"), "请点击第二个选项"),
    make_prompt(NOISE, "Pick March 14"),
    Prompt(
        (
            Turn("system", ("You click.",)),
            user_turn("Open it", 1),
            Turn("assistant", ("Done.",)),
            user_turn("And now the next one", 0),
        ),
        (NOISE,),
    ),
)
"""Requests unlike all that the router was trained on."""


@pytest.fixture(scope="module")
def pocket() -> tuple[Base, Router]:
    with pocket_folder() as folder:
        return load_base(str(folder / "base")), Router.load(folder / "router")


def test_no_right_feature_is_refused(pocket: tuple[Base, Router]) -> None:
    """Also those of requests out of scope: to abstain on them is the router's business."""
    base, router = pocket
    head = router.head
    with demo_samples() as samples:
        prompts = [make_prompt(s.images[0], s.instruction) for s in samples if s.images]
    reads = reads_of(router)
    for prompt in (*prompts, *ODD):
        with torch.inference_mode():
            features = extract(base, base.encode([prompt]), router.recipe).flatten(1)
        reads.check(features, head.hidden_size)


@pytest.mark.filterwarnings("error")
def test_the_same_features_again_and_again_are_warned_of(tmp_path: Path) -> None:
    """Of an old checkpoint nothing is known, but position 0 is the same whatever is asked."""
    path = tmp_path / "old.pt"
    torch.save({"state_dict": nn.Linear(8, 2).state_dict(), "adapters": ["a", "b"]}, path)
    head, _ = load_router_head(path, 8)
    torch.manual_seed(0)
    constant = torch.randn(1, 8)
    for _ in range(3):
        head(constant)
    head(torch.randn(3, 8))
    for _ in range(3):
        head(constant * 1.001)
    with pytest.warns(UserWarning, match="states of position 0"):
        head(constant)
    with pytest.warns(UserWarning, match="4 requests in a row"):
        build_with(nn.Linear(8, 2).state_dict())(constant.expand(4, 8))
    with pytest.raises(MismatchError, match="4 features for a head of 8"):
        head(torch.zeros(1, 4))
    assert head(torch.zeros(0, 8)).shape == (0, 2)


def build_with(state: dict[str, torch.Tensor]) -> nn.Module:
    head = build_router_head(8, num_labels=2)
    head.load_state_dict({f"0.{name}": tensor for name, tensor in state.items()})
    return head


def test_training_and_the_engine_are_not_checked(tiny_router: Path) -> None:
    router = Router.load(tiny_router)
    assert router.head.reads is None
    assert build_router_head(8, 2).reads is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        router.head(torch.zeros(9, router.head.hidden_size))


@pytest.mark.parametrize("poolings", [("last",), ("mean",), ("last", "mean")], ids=str)
def test_a_head_reads_an_encoders_output(
    tiny_project: Project, tiny_router: Path, tmp_path: Path, poolings: tuple[str, ...]
) -> None:
    model = load_base_with_loras(str(tiny_project.base), tiny_project.adapters)
    recipe = FeatureRecipe((1, 2), poolings)  # type: ignore[arg-type]
    with model.disable_adapter():
        router = make_router(model, Router.load(tiny_router), recipe)
    write_pt(tmp_path / "head.pt", router)
    head, _ = load_router_head(tmp_path / "head.pt", model.hidden_size)
    prompt = ask("Pick day 3", 1)
    output = model.encoder(prompt.images[0], "Pick day 3")
    with torch.no_grad(), model.disable_adapter():
        expected = extract(model, model.encode([prompt]), recipe).flatten(1)
    assert torch.allclose(head(output), router.head(expected), atol=1e-5)
    scope = {
        "torch": torch,
        "outputs": output,
        "image_token_id": model.config.image_token_id,
        **model.make_inputs(prompt.images[0], "Pick day 3"),
    }
    exec(reads_of(router).line, scope)
    assert torch.allclose(scope["hidden"], expected, atol=1e-5)  # type: ignore[arg-type]
    if len(recipe.places) > 1:
        checkpoint = torch.load(tmp_path / "head.pt")
        with pytest.raises(MismatchError, match="build it with hidden_size="):
            build_router_head(model.hidden_size, 3).load_state_dict(checkpoint["state_dict"])


def test_an_old_head_and_the_last_layer_cannot_read_it(
    tiny_project: Project, tiny_router: Path, tmp_path: Path
) -> None:
    model = load_base_with_loras(str(tiny_project.base), tiny_project.adapters)
    output = model.encoder(None, "Hello")
    assert torch.equal(output.last_hidden_state, output.hidden_states[-1])
    with pytest.raises(ConfigError, match="does not say what it reads"):
        build_with(nn.Linear(8, 2).state_dict())(output)
    router = make_router(model, Router.load(tiny_router), FeatureRecipe((model.depth,)))
    write_pt(tmp_path / "head.pt", router)
    head, _ = load_router_head(tmp_path / "head.pt", model.hidden_size)
    with pytest.raises(ConfigError, match="before the final norm"):
        head(output)


@pytest.mark.parametrize("index", ["[:, 0, :]", "[:, 0]", "[:, :1]", "[..., 0, :]", "[0, 0]"])
def test_position_0_is_refused_however_it_is_written(tiny_project: Project, index: str) -> None:
    model = load_base_with_loras(str(tiny_project.base), tiny_project.adapters)
    states = model.encoder(None, "Hello").hidden_states[-1]
    with pytest.raises(ConfigError, match="position 0"):
        eval(f"states{index}")
    for right in ("[:, -1, :]", "[:, -1]", "[0]", "[:, 1:2]", "[..., 0]", "[states > 0]"):
        assert type(eval(f"states{right}")) is torch.Tensor
    assert type(states * 2) is torch.Tensor


def test_one_prompt_or_many_a_router_or_its_folder(
    tiny_project: Project, tiny_router: Path
) -> None:
    model = load_base_with_loras(str(tiny_project.base), tiny_project.adapters)
    router = replace(Router.load(tiny_router))
    many = route_and_generate(model, router, list(MIXED[:2]), max_new_tokens=3)
    assert route_and_generate(model, tiny_router, list(MIXED[:2]), max_new_tokens=3) == many
    alone = route_and_generate(model, str(tiny_router), MIXED[1], max_new_tokens=3)
    assert (alone.text, alone.adapter) == (many[1].text, many[1].adapter)
    named = route_and_generate(model, router, MIXED[1], adapters="calendar", max_new_tokens=3)
    assert named.adapter == "calendar"
    assert route_and_generate(model, router, []) == []
    with pytest.raises(LabelError, match="'date' is not loaded; loaded are: calendar"):
        route_and_generate(model, router, MIXED[1], adapters="date")
    with pytest.raises(RequestError, match="1 adapters for 2 prompts"):
        route_and_generate(model, router, MIXED[:2], adapters=["calendar"])
