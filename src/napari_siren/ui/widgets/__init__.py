"""Small widgets for the panels."""
