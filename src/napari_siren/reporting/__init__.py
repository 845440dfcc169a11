"""Reports of a fit: figures, thumbnails, and the files in a folder."""
