"""A tiny real Qwen3-VL with adapters, dataset, features and router, made once a session."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pointsman.data.dataset import Dataset, read_dataset
from pointsman.data.generate import generate_dataset
from pointsman.engine.engine import Engine
from pointsman.models.base import Base, load_base
from pointsman.models.features import FeatureRecipe
from pointsman.project import Project
from pointsman.routing.feature_store import Features, preprocess
from pointsman.routing.router import Router
from pointsman.routing.train import TrainSettings, train_router
from support.tiny import ADAPTERS, SHARED, make_adapter, make_base, make_sources

# Tiny models: more threads only wait for each other.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def tiny_base(tiny_base_folder: Path) -> Base:
    """A base without adapters; tests leave it as it is."""
    return load_base(str(tiny_base_folder))


@pytest.fixture(scope="session")
def tiny_adapters(
    tiny_base_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("adapters")
    return {
        name: str(make_adapter(tiny_base_folder, folder / name, seed))
        for seed, name in enumerate(ADAPTERS, 1)
    }


@pytest.fixture(scope="session")
def tiny_sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    return make_sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="session")
def tiny_dataset(
    tiny_sources: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("data") / "dataset"
    generate_dataset(tiny_sources, out, val=0.25, test=0.25)
    return out


@pytest.fixture(scope="session")
def tiny_data(tiny_dataset: Path) -> Dataset:
    return read_dataset(tiny_dataset)


@pytest.fixture(scope="session")
def tiny_features(
    tiny_data: Dataset, tiny_base: Base, tmp_path_factory: pytest.TempPathFactory
) -> Features:
    out = tmp_path_factory.mktemp("features") / "features"
    return preprocess(tiny_data, tiny_base, out, FeatureRecipe((1, 2, 3)))


@pytest.fixture(scope="session")
def tiny_router(tiny_features: Features, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("router") / "router"
    train_router(tiny_features, out, settings=TrainSettings(mlp_sizes=(0,)))
    return out


@pytest.fixture(scope="session")
def router_folder(
    tiny_data: Dataset, tiny_base: Base, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A router that reads layer 2, below which the adapters of plan in-pass change nothing."""
    folder = tmp_path_factory.mktemp("layer-2")
    features = preprocess(tiny_data, tiny_base, folder / "features", FeatureRecipe((2,)))
    train_router(features, folder / "router", settings=TrainSettings(mlp_sizes=(0,)))
    return folder / "router"


@pytest.fixture(scope="session")
def tiny_project(
    tiny_base_folder: Path, tiny_adapters: dict[str, str], tiny_router: Path
) -> Project:
    return Project(str(tiny_base_folder), tiny_adapters, str(tiny_router))


@pytest.fixture(scope="session")
def tiny_engine(tiny_project: Project) -> Iterator[Engine]:
    base = load_base(str(tiny_project.base))
    router = Router.load(Path(str(tiny_project.router)))
    with Engine(base, router, tiny_project.adapters) as engine:
        yield engine


@pytest.fixture(scope="session")
def screens() -> Path:
    """Real screenshots beside the repository; tests that need them skip where they are absent."""
    path = SHARED / "screens"
    if not path.is_dir():
        pytest.skip(f"the real screenshots are no part of the repository: {path} is missing")
    return path
