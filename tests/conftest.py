"""Shared by every room's tests."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import settings

from appliance import sample
from appliance.app import App, open_app
from appliance.config import Config
from models.load import load_embedder
from models.ports import Embedder

settings.register_profile("any machine", deadline=None)  # a busy one is slow, not wrong
settings.load_profile("any machine")

WEIGHTS = Path(__file__).parents[1] / "weights"


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    """The real default embedder; its graph is kept in ``weights``."""
    return load_embedder("multilingual-e5-small", weights_dir=WEIGHTS, threads=2)


@pytest.fixture(scope="session")
def sample_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the sample channel imported; copy it, never write to it."""
    folder = tmp_path_factory.mktemp("sample") / "data"

    async def fill() -> None:
        async with open_app(config_for(folder)) as opened:
            with sample.export() as path:
                async for _ in opened.verbs.import_export(path, username=sample.USERNAME):
                    pass

    asyncio.run(fill())
    return folder


@pytest.fixture
async def app(sample_data: Path, tmp_path: Path) -> AsyncIterator[App]:
    """The opened appliance on a copy of the sample's data folder."""
    copy_data(sample_data, tmp_path / "data")
    async with open_app(config_for(tmp_path / "data")) as opened:
        yield opened


def config_for(data_dir: Path) -> Config:
    """Settings of a test: nothing from the environment or ``.env``."""
    return Config(data_dir=data_dir, weights_dir=WEIGHTS, threads=2, _env_file=None)  # type: ignore[call-arg]


def copy_data(source: Path, target: Path) -> None:
    """Copy a data folder with the keys that open it."""
    shutil.copytree(source, target)
    shutil.copytree(source.with_name(f"{source.name}-keys"), target.with_name(f"{target.name}-keys"))
