"""Fit SIRENs (sinusoidal implicit neural representations) to images, in napari or without it."""
