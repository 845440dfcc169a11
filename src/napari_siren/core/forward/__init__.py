"""Forward operators from a field to pixels: sampling, pixel areas, point spread functions, and their adjoints."""
