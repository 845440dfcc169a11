"""Images: axes, samples, statistics and metrics."""
