"""The library in C: kernels for the CPU, from the wheel or compiled on the user's machine."""
