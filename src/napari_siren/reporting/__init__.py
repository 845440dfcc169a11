"""Reports of a fit: figures, thumbnails, pages."""
