"""The pretrained network: its layers, and the files of its weights."""
