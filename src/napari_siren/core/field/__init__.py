"""The field: sine networks on overlapping tiles, blended into one function of position."""
