"""Scripts for the training of the published weights, by hand and on a GPU; not part of the package."""
