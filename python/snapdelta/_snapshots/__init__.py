"""The parts of `snapdelta.snapshot_manager`: keys, scripts, settings; writer and reader."""
