"""The parts of `snapdelta.snapshot_manager`: keys, scripts and settings; the writer's side and the reader's."""
