"""Preprocessing of images before the fit: images from their derivatives."""
