"""One file per step of the ledger's schema; a released step is never edited."""
