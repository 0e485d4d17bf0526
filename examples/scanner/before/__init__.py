"""The services with hand-written managers."""
