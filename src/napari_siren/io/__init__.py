"""Image files: reading and writing."""
