"""The model, headless: it never imports napari or Qt."""
