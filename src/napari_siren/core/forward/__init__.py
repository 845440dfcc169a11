"""How pixels see a field: sampling, pixel areas, point spread functions, and their adjoints."""
