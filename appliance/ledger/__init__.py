"""The ledger, in DuckDB: the one place that knows SQL.

::

    ledger.py      what the rest of the appliance calls
    questions.py   the row of each question, ratings
    posts.py       which copy of a post counts, what a batch changes
    figures.py     counts, shares and percentiles, from the rows
    rows.py        records to rows and back
    hot_posts.py   posts kept in memory
    database.py    the file: owner, writer's thread, opening
    wal.py         its log, mended after a power cut
    tables.py      the tables; migrations/ brings older files up to them
"""

from appliance.ledger.ledger import Ledger
from appliance.ledger.posts import PostChanges

__all__ = ["Ledger", "PostChanges"]
