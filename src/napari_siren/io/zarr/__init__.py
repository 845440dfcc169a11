"""Reading and writing of zarr arrays and OME-Zarr."""
