"""Many images: planned, fitted on this machine or on a cluster, and taken down so that a batch can go on."""
