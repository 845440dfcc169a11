"""Noise of images: its model, estimated from the image or known, and its record in results."""
