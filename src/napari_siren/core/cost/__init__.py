"""Expected time and memory of a fit, from trials on this machine."""
