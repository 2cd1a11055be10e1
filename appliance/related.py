"""Posts like a post: what else was written on its subject, and the post it replies to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np

from appliance.chunking import chunks_of
from appliance.hot import Scope
from appliance.ledger import Ledger
from appliance.links import post_link
from appliance.ranking import NEAR_BITS
from appliance.schema import Asker, Channel, FoundPost, Post, PostKey
from appliance.search import query_lemmas
from appliance.shelf import Pair
from appliance.text import distance, fingerprint

LOOKED_AT = 60  # chunks nearest by meaning, and as many by words
LIKE = 2.0  # spreads above the usual cosine from which a post is on the same subject
WORDS_WEIGHT = 0.5  # of a spread of the words' scores, against one of the cosines
WORDS = 24  # rarest lemmas of the post that are looked for


async def related(
    key: PostKey, *, asker: Asker, limit: int = 5, pair: Callable[[], Pair], ledger: Ledger
) -> tuple[FoundPost, ...] | None:
    """Find posts on the subject of a post, inside the asker's rights.

    Parameters
    ----------
    key : (int, int)
        Of the post.
    asker : Asker
    limit : int, optional
        Posts wanted, 1 to 20.
    pair : callable
        Returns the embedder and the index in service.
    ledger : Ledger

    Returns
    -------
    tuple of FoundPost or None
        The post that it replies to first, then the likest; copies of it and of each other are left out. None for a post
        that the asker may not see, or that is not there.
    """
    return await asyncio.to_thread(_related, key, asker, min(max(limit, 1), 20), pair(), ledger)


def _related(key: PostKey, asker: Asker, limit: int, pair: Pair, ledger: Ledger) -> tuple[FoundPost, ...] | None:
    channels: dict[int, Channel] = {status.channel.id: status.channel for status in ledger.channels(asker)}
    post = ledger.posts([key]).get(key) if key[0] in channels else None
    if post is None:
        return None
    chunks = chunks_of(post)
    scores: dict[PostKey, tuple[float, str]] = {}
    if chunks:
        vector = pair.embedder.embed_passages([chunks[0].text])[0]
        wanted = sorted(query_lemmas(post.text), key=pair.index.rarity, reverse=True)[:WORDS]
        found = pair.index.candidates(vector, wanted, scope=Scope(channels=frozenset(channels)), n=LOOKED_AT)
        lead = (found.dense - found.dense_mean) / max(found.dense_std, 1e-3)
        spread = max(float(found.rarity.std()), 1e-6) if len(found.rarity) else 1.0
        joined = lead + WORDS_WEIGHT * (found.rarity - found.rarity.mean()) / spread if len(lead) else lead
        for row in np.argsort(-joined, kind="stable").tolist():
            if lead[row] >= LIKE and found.posts[row] != key:
                scores.setdefault(found.posts[row], (float(joined[row]), found.texts[row]))
    asked = [(post.channel_id, post.reply_to_id)] if post.reply_to_id else []
    posts = ledger.posts([*asked, *list(scores)[: limit * 4]])
    chosen: list[Post] = []
    marks = [fingerprint(post.text)]
    for one in posts.values():
        mark = fingerprint(one.text)
        if one.key == key or not mark or any(distance(mark, other) <= NEAR_BITS for other in marks):
            continue
        marks.append(mark)
        chosen.append(one)
    return tuple(_found(one, channels, scores.get(one.key, (0.0, one.text))) for one in chosen[:limit])


def _found(post: Post, channels: dict[int, Channel], scored: tuple[float, str]) -> FoundPost:
    channel = channels[post.channel_id]
    link = post_link(channel, post.message_id, post.topic_id)
    score, text = scored
    return FoundPost(post, channel, score, 1.0, score, 0.0, text, link)
