"""Alembic's environment: runs on the connection that the ledger hands over."""

from __future__ import annotations

import duckdb_sqlalchemy.alembic_impl  # noqa: F401  (teaches Alembic DuckDB)
from alembic import context

from appliance.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
