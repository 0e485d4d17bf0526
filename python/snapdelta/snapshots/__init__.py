"""Snapshots through Redis; public under `snapdelta.snapshot_manager`.

Imports point one way: manager -> writer -> store; reader -> subscription -> broadcast -> replica -> store.
"""
