"""The compiled engine: C kernels, built on the user's machine at the first use."""
