"""Planted bugs: what every checker of derivatives should find, and how often each one does."""
