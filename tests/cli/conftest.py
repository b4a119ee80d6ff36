"""A project file, and copies of the session's folders that a test may spoil."""

import shutil
from pathlib import Path

import pytest

from pointsman.project import Project
from pointsman.routing import feature_store as features_module
from support.inputs import write_config


@pytest.fixture
def config(tiny_project: Project, tmp_path: Path) -> Path:
    return write_config(tmp_path / "pointsman.toml", tiny_project)


@pytest.fixture
def dataset(tiny_dataset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_dataset, tmp_path / "dataset"))


@pytest.fixture
def features(tiny_features: features_module.Features, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_features.path, tmp_path / "features"))


@pytest.fixture
def router(tiny_router: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_router, tmp_path / "router"))
