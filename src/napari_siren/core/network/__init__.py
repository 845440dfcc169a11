"""Sine networks, what they minimise, and the optimiser that moves them."""
