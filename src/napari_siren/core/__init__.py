"""The computations, headless: this package never imports napari or Qt."""
