"""The parts of `snapdelta.snapshots.manager`: keys, scripts, settings; writer and reader."""
