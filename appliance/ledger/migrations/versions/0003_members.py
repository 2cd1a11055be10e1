"""Members: alerts, modes of chats, surveys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "chat_setting",
        sa.Column("chat_id", sa.BigInteger, nullable=False),
        sa.Column("topic_id", sa.BigInteger, nullable=False),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("value", sa.JSON, nullable=False),
        sa.Column("set_at", sa.DateTime, nullable=False),
        sa.PrimaryKeyConstraint("chat_id", "topic_id", "name"),
    )
    op.create_table(
        "person_setting",
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("value", sa.JSON, nullable=False),
        sa.Column("set_at", sa.DateTime, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "name"),
    )
    op.create_table(
        "talk",
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("topic_id", sa.BigInteger, nullable=False),
        sa.Column("dialogue_id", sa.String(64), nullable=False),
        sa.Column("began_at", sa.DateTime, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "topic_id"),
    )
    op.create_table(
        "held_answer",
        sa.Column("held_id", sa.String(32), primary_key=True),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("chat_id", sa.BigInteger, nullable=False),
        sa.Column("calls", sa.Text, nullable=False),
        sa.Column("held_at", sa.DateTime, nullable=False),
        sa.Column("decided_by", sa.BigInteger),
    )
    op.execute(sa.schema.CreateSequence(sa.Sequence("alert_id_seq")))
    op.create_table(
        "alert",
        sa.Column("alert_id", sa.BigInteger, sa.Sequence("alert_id_seq"), primary_key=True),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("above", sa.Float(53), nullable=False),
        sa.Column("made_at", sa.DateTime, nullable=False),
    )
    op.create_table(
        "fresh_post",
        sa.Column("channel_id", sa.BigInteger, nullable=False),
        sa.Column("message_id", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "notice",
        sa.Column("notice_id", sa.String(64), primary_key=True),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("not_before", sa.DateTime, nullable=False),
        sa.Column("made_at", sa.DateTime, nullable=False),
        sa.Column("queued_at", sa.DateTime),
    )
    op.create_table(
        "survey",
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("asked_at", sa.DateTime, nullable=False),
        sa.Column("score", sa.Integer),
        sa.Column("answered_at", sa.DateTime),
        sa.PrimaryKeyConstraint("user_id", "asked_at"),
    )
