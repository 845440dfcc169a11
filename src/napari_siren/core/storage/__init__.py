"""Files that are written completely or not at all, their records and tensors, and the versions in them."""
