"""The fit of images larger than memory, block by block."""
