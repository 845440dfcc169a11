"""napari layers: reading of image layers, and layers made from a fit. Without Qt."""
