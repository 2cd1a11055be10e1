"""Community: repeated and unanswered questions, approved answers, corrections, live channels."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.execute(sa.schema.CreateSequence(sa.Sequence("answer_id_seq")))
    op.create_table(
        "channel_state",
        sa.Column("channel_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("is_cross", sa.Boolean, nullable=False),
        sa.Column("is_live", sa.Boolean, nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("changed_at", sa.DateTime, nullable=False),
    )
    op.create_table(
        "channel_request",
        sa.Column("username", sa.String(32), nullable=False),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("asked_at", sa.DateTime, nullable=False),
        sa.PrimaryKeyConstraint("username", "user_id"),
    )
    op.create_table(
        "album_part",
        sa.Column("channel_id", sa.BigInteger, nullable=False),
        sa.Column("message_id", sa.BigInteger, nullable=False),
        sa.Column("group_id", sa.String(64), nullable=False),
        sa.Column("part", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("channel_id", "message_id"),
    )
    op.create_table(
        "group_question",
        sa.Column("chat_id", sa.BigInteger, nullable=False),
        sa.Column("message_id", sa.BigInteger, nullable=False),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("asked_at", sa.DateTime, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("post_channel_id", sa.BigInteger),
        sa.Column("post_message_id", sa.BigInteger),
        sa.Column("repeat_of", sa.BigInteger),
        sa.Column("is_told", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("chat_id", "message_id"),
    )
    op.create_table(
        "member_answer",
        sa.Column("answer_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("corpus_id", sa.BigInteger, nullable=False),
        sa.Column("user_id", sa.BigInteger),
        sa.Column("asker_id", sa.BigInteger),
        sa.Column("question_id", sa.String(64)),
        sa.Column("answered_at", sa.DateTime, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
    )
    op.create_table(
        "closed_question",
        sa.Column("question_id", sa.String(64), primary_key=True),
        sa.Column("user_id", sa.BigInteger),
        sa.Column("reason", sa.String(16), nullable=False),
        sa.Column("closed_at", sa.DateTime, nullable=False),
    )
    op.create_table(
        "faq",
        sa.Column("question_id", sa.String(64), primary_key=True),
        sa.Column("user_id", sa.BigInteger),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("asked", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("found_at", sa.DateTime, nullable=False),
    )
    op.create_table(
        "correction",
        sa.Column("question_id", sa.String(64), primary_key=True),
        sa.Column("user_id", sa.BigInteger),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("made_at", sa.DateTime, nullable=False),
    )
