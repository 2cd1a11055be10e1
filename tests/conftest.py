"""Shared by every room's tests."""

from pathlib import Path

import pytest

from models.load import load_embedder
from models.ports import Embedder


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    """The real default embedder; its graph is kept in ``weights``."""
    return load_embedder("multilingual-e5-small", weights_dir=Path(__file__).parents[1] / "weights", threads=2)
