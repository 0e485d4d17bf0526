"""States as rows of Parquet files: `export_snapshots`. Needs the extra `export` (pyarrow).

Imports point one way: parquet -> columns.
"""
