"""Blur of images: its estimate, and point spread functions of objectives and beads."""
