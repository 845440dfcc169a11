"""The file of a fitted model: its format, and its header with the provenance."""
