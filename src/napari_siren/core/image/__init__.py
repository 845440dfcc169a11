"""Images: axes, samples, noise, blur, statistics and metrics."""
