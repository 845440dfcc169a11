"""Sine networks, their losses, and their optimiser."""
