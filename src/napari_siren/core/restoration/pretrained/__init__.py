"""Restoration by networks that were trained on other images."""
