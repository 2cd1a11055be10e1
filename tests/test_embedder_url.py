"""The appliance with its embedder on another server, which comes and goes."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from appliance import sample
from appliance.app import open_app
from appliance.errors import StartupError, StoreError
from appliance.schema import Asker, Filters
from models.ports import Embedder
from tests.conftest import config_for, copy_data
from tests.servers.uvicorn import serving


class Body(BaseModel):
    model: str
    input: list[str]


def server_of(embedder: Embedder) -> FastAPI:
    """The default embedder behind OpenAI's interface; what it gets is prefixed already."""
    api = FastAPI()

    @api.get("/v1/models")
    def models() -> dict[str, object]:
        return {"data": [{"id": embedder.info.card, "max_model_len": embedder.info.max_tokens}]}

    @api.post("/v1/embeddings")
    def embeddings(body: Body) -> dict[str, object]:
        texts = [text.removeprefix("query: ") for text in body.input]
        rows = np.ascontiguousarray(embedder.embed_queries(texts), "<f4")
        return {"data": [{"index": i, "embedding": base64.b64encode(row).decode()} for i, row in enumerate(rows)]}

    return api


async def test_questions_are_embedded_on_the_server_and_its_end_is_said(
    embedder: Embedder, sample_data: Path, tmp_path: Path
) -> None:
    copy_data(sample_data, tmp_path / "data")
    config = config_for(tmp_path / "data")
    everyone = Asker(sees_everything=True)
    question = sample.questions()[0]
    async with open_app(config) as here:
        expected = await here.verbs.search(question, asker=everyone, filters=Filters())
    with serving(server_of(embedder)) as url:
        remote = config.model_copy(update={"embedder_url": f"{url}/v1"})
        app = await (opened := open_app(remote)).__aenter__()
        found = await app.verbs.search(question, asker=everyone, filters=Filters())
    assert [hit.link for hit in found.found] == [hit.link for hit in expected.found]
    try:
        with pytest.raises(StoreError, match="embedder does not answer"):
            await app.verbs.search(sample.questions()[1], asker=everyone, filters=Filters())
    finally:
        await opened.__aexit__(None, None, None)
    with pytest.raises(StartupError, match="embedding server"):
        async with open_app(remote):
            pass
