"""Frames of released formats, and what they hold."""
