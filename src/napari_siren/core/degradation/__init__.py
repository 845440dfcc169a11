"""Degradations of photographs and micrographs to the inputs of a training."""
