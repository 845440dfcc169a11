"""Batches of images: planned, fitted on this machine or on a cluster, and recorded, so that they can be continued."""
