"""All that a machine with a GPU can tell, in one command: `python -m benchmarks.gpu`; see `benchmarks.gpu.__main__`."""
