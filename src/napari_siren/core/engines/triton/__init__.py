"""The engine of CUDA GPUs: kernels in Triton, replayed as CUDA graphs."""
