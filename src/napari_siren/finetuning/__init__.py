"""Training of the pretrained networks on one's own images."""
