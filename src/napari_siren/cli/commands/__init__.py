"""The commands of `napari-siren`, one module for each kind."""
