"""The same services with snapdelta."""
