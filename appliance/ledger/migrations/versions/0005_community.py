"""Community: repeated and unanswered questions, approved answers, corrections, live channels."""

from __future__ import annotations

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
