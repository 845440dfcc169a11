"""What the panels know and do, without Qt."""
