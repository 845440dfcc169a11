"""The logic of the panels, without Qt."""
