"""Plans: limits, use, payments."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table, and give plans their limits."""
    op.add_column("subscription_type", sa.Column("per_day", sa.Integer))
    op.add_column("subscription_type", sa.Column("per_month", sa.Integer))
    op.add_column("subscription_type", sa.Column("retired_at", sa.DateTime))
    op.add_column("user_subscription", sa.Column("charge_id", sa.Text))
    op.add_column("user_subscription", sa.Column("renews", sa.Boolean))
    op.create_table(
        "payment",
        sa.Column("charge_id", sa.String(128), primary_key=True),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("type_id", sa.BigInteger),
        sa.Column("stars", sa.Integer, nullable=False),
        sa.Column("is_renewal", sa.Boolean, nullable=False),
        sa.Column("paid_at", sa.DateTime, nullable=False),
        sa.Column("refunded_at", sa.DateTime),
    )
