"""A project file, and copies of the session's folders that a test may spoil."""

import shutil
from pathlib import Path

import pytest

from pointsman.data.generate import generate_dataset
from pointsman.models.features import FeatureRecipe
from pointsman.models.text_encoder import load_encoder
from pointsman.project import Project
from pointsman.routing import feature_store
from pointsman.routing.train import TrainSettings, train_router
from support.encoders import make_encoder, write_texts
from support.inputs import write_config


@pytest.fixture
def config(tiny_project: Project, tmp_path: Path) -> Path:
    return write_config(tmp_path / "pointsman.toml", tiny_project)


@pytest.fixture
def dataset(tiny_dataset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_dataset, tmp_path / "dataset"))


@pytest.fixture
def features(tiny_features: feature_store.Features, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_features.path, tmp_path / "features"))


@pytest.fixture
def router(tiny_router: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_router, tmp_path / "router"))


@pytest.fixture(scope="session")
def tiny_text_router(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A router that reads text alone; its encoder lies beside it."""
    folder = tmp_path_factory.mktemp("text")
    encoder = make_encoder(folder / "encoder")
    sources = {
        name: [str(p) for p in paths] for name, paths in write_texts(folder / "sources").items()
    }
    data = generate_dataset(sources, folder / "data", val=0.25, test=0.25)
    recipe = FeatureRecipe((3,), ("mean",))
    features = feature_store.preprocess(
        data, load_encoder(str(encoder)), folder / "features", recipe
    )
    train_router(features, folder / "router", settings=TrainSettings(mlp_sizes=(0,)))
    return folder / "router"
