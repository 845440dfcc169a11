"""Reading and writing of TIFF, OME-TIFF and ImageJ TIFF."""
