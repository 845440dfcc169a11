"""The fit of the tiles: targets, plan, steps and evaluation."""
