"""The first schema: people, channels, posts, questions, feedback, settings, events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every table."""
    for name in ("user_id_seq", "type_id_seq", "subscription_id_seq", "event_id_seq"):
        op.execute(sa.schema.CreateSequence(sa.Sequence(name)))
    op.create_table(
        "user",
        sa.Column("user_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("telegram_id", sa.BigInteger, nullable=False),
        sa.Column("username", sa.Text),
        sa.Column("first_name", sa.Text, nullable=False),
        sa.Column("last_name", sa.Text),
        sa.Column("registered_at", sa.DateTime, nullable=False),
        sa.Column("seen_at", sa.DateTime, nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("language", sa.String(8), nullable=False),
        sa.UniqueConstraint("telegram_id", name="user_telegram_id_key"),
    )

    op.create_table(
        "subscription_type",
        sa.Column("type_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("type_name", sa.Text, nullable=False),
        sa.Column("monthly_price", sa.Numeric(12, 2), nullable=False),
        sa.UniqueConstraint("type_name", name="subscription_type_type_name_key"),
    )

    op.create_table(
        "user_subscription",
        sa.Column("subscription_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("type_id", sa.BigInteger, nullable=False),
        sa.Column("valid_from", sa.DateTime, nullable=False),
        sa.Column("valid_to", sa.DateTime),
    )

    op.create_table(
        "membership",
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("channel_id", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "channel_id"),
    )

    op.create_table(
        "channel",
        sa.Column("channel_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("username", sa.Text),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("is_open", sa.Boolean, nullable=False),
        sa.Column("added_at", sa.DateTime, nullable=False),
    )

    op.create_table(
        "post",
        sa.Column("channel_id", sa.BigInteger, nullable=False),
        sa.Column("message_id", sa.BigInteger, nullable=False),
        sa.Column("posted_at", sa.DateTime, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("edited_at", sa.DateTime),
        sa.Column("author", sa.Text),
        sa.Column("author_id", sa.Text),
        sa.Column("topic_id", sa.BigInteger),
        sa.Column("reply_to_id", sa.BigInteger),
        sa.Column("forwarded_from", sa.Text),
        sa.Column("media", sa.Text),
        sa.Column("album_ids", sa.JSON, nullable=False),
        sa.Column("links", sa.JSON, nullable=False),
        sa.Column("reactions", sa.Integer, nullable=False),
        sa.Column("content_hash", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("channel_id", "message_id"),
    )

    op.create_table(
        "unindexed",
        sa.Column("channel_id", sa.BigInteger, nullable=False),
        sa.Column("message_id", sa.BigInteger, nullable=False),
    )

    op.create_table(
        "question",
        sa.Column("question_id", sa.String(64), primary_key=True),
        sa.Column("dialogue_id", sa.String(64), nullable=False),
        sa.Column("user_id", sa.BigInteger),
        sa.Column("door", sa.String(16), nullable=False),
        sa.Column("asked_at", sa.DateTime, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("query", sa.Text, nullable=False),
        sa.Column("language", sa.String(8), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("posts", sa.JSON, nullable=False),
        sa.Column("answer_text", sa.Text, nullable=False),
        sa.Column("relevance", sa.Float(53), nullable=False),
        sa.Column("tokens", sa.Integer, nullable=False),
        sa.Column("times_ms", sa.JSON, nullable=False),
    )

    op.create_table(
        "feedback",
        sa.Column("question_id", sa.String(64), nullable=False),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("vote", sa.String(8), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("rated_at", sa.DateTime, nullable=False),
        sa.PrimaryKeyConstraint("question_id", "user_id"),
    )

    op.create_table(
        "setting",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("value", sa.JSON, nullable=False),
        sa.Column("updated_at", sa.DateTime, nullable=False),
    )

    op.create_table(
        "event",
        sa.Column("event_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("happened_at", sa.DateTime, nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("actor_id", sa.BigInteger),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
    )
    op.create_index("question_dialogue_id", "question", ["dialogue_id"])
