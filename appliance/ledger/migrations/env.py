"""Alembic's environment: runs on the connection the ledger hands over, or writes SQL for another database.

``alembic.command.upgrade(config, "head", sql=True)`` with ``config.attributes["dialect"] = "postgresql"`` prints the
steps for PostgreSQL.
"""

from __future__ import annotations

import duckdb_sqlalchemy.alembic_impl  # noqa: F401  (teaches Alembic DuckDB)
from alembic import context

from appliance.ledger.tables import metadata

if context.is_offline_mode():
    context.configure(dialect_name=context.config.attributes["dialect"], target_metadata=metadata, literal_binds=True)
else:
    context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
