"""Training of the weights that enlarging begins with. Not part of the package: it is run by hand, on a GPU."""
