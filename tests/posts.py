"""Small records for tests."""

from __future__ import annotations

from datetime import UTC, datetime

from appliance.links import post_link
from appliance.schema import Channel, FoundPost, Post

RIVER = Channel(id=1500000001, title="Мастерская на Речной", username="masterskaya_rechnaya")


def a_post(message_id: int, text: str, *, day: str = "2026-05-01", channel: Channel = RIVER, **fields: object) -> Post:
    date = datetime.fromisoformat(day).replace(tzinfo=UTC)
    return Post(channel_id=channel.id, message_id=message_id, date=date, text=text, **fields)  # type: ignore[arg-type]


def found(post: Post, *, relevance: float = 0.9, channel: Channel = RIVER) -> FoundPost:
    return FoundPost(
        post=post,
        channel=channel,
        score=relevance,
        relevance=relevance,
        dense=0.85,
        lexical=3.0,
        chunk_text=post.text,
        link=post_link(channel, post.message_id),
    )
