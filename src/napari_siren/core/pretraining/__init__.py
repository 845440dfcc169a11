"""Pretraining: a network for enlarging and denoising, trained on photographs before it is used on images."""
