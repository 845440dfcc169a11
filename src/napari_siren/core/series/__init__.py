"""Series of images: their frames or channels, and the fits of these one by one."""
