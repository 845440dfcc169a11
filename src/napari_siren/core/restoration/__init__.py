"""Restoration of the whole image before the fit of the tiles: super-resolution, denoising, deconvolution, bursts."""
