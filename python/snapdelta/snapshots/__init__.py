"""Snapshots through Redis; public under `snapdelta.snapshot_manager`.

Imports point one way: manager -> writer -> store, and reader -> subscription -> broadcast -> replica -> store.
"""
