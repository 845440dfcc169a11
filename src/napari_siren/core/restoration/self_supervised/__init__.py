"""Restoration by networks that are trained on the image itself."""
