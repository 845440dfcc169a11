"""Fits and batches as background tasks, without Qt."""
