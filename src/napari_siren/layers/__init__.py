"""Layers: what is read of them, and the layers that a fit gives back. Without Qt."""
