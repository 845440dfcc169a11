"""Settings of a fit: presets, tasks, and their checks."""
