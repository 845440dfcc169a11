"""Resolution of images by Fourier ring correlation."""
