"""Programs that show how services use snapdelta."""
