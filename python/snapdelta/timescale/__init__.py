"""The TimescaleDB migration from Python: run it, revert it, check the database.

A table of contents. psycopg (the extra `timescale`) is loaded when a database is first opened; `plan` needs
none.
"""

from __future__ import annotations

from snapdelta.timescale.checks import verify
from snapdelta.timescale.files import migrations_directory
from snapdelta.timescale.findings import Finding, Severity
from snapdelta.timescale.migrate import MigrationState, down, render, rewrite, status, up
from snapdelta.timescale.planning import plan
from snapdelta.timescale.settings import Settings
from snapdelta.timescale.tables import Tables, load_tables

__all__ = [
    "Finding",
    "MigrationState",
    "Settings",
    "Severity",
    "Tables",
    "down",
    "load_tables",
    "migrations_directory",
    "plan",
    "render",
    "rewrite",
    "status",
    "up",
    "verify",
]
