"""Images larger than memory, block by block."""
