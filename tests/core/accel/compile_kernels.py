"""Compiles the Triton engine's kernels for a GPU that need not be there; prints each one's name and shared memory."""

from __future__ import annotations

from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from napari_siren.core.accel import triton_engine, triton_kernels, triton_update
from napari_siren.core.model import SirenShape

AMPERE = GPUTarget("cuda", 80, 32)
INTEGERS = {"samples", "x_stride", "share", "tiles"}
REALS = {
    *("omega", "learning_rate", "decay", "averaging"),
    *("beta1", "beta2", "log2_beta1", "log2_beta2", "epsilon"),
}


def compile_kernel(name: str, kernel: Any, num_warps: int = 4, **constants: object) -> None:
    def kind(argument: str) -> str:
        if argument in constants:
            return "constexpr"
        return "i32" if argument in INTEGERS else "fp32" if argument in REALS else "*fp32"

    signature = {argument: kind(argument) for argument in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    compiled = triton.compile(source, target=AMPERE, options={**triton_engine._OPTIONS, "num_warps": num_warps})
    print(name, compiled.metadata.shared)


def main() -> None:
    shape = SirenShape(2, 3, 2, 32)
    matrix = triton_engine._matrix_sizes(32)
    exact, rough = (triton_engine._sizes(shape, rough) for rough in (False, True))
    gradient = triton_kernels.gradient_kernel
    compile_kernel("forward", triton_kernels.forward_kernel, **exact)
    compile_kernel("squared", gradient, SQUARED=True, BACKWARD=True, **rough)
    unused = {"weight": None, "factor": None, "losses": None}
    compile_kernel("given", gradient, SQUARED=False, BACKWARD=True, **unused, **exact)
    compile_kernel("orthogonalise", triton_update.orthogonalise_kernel, **matrix)
    compile_kernel("muon", triton_update.muon_kernel, START=100, PARAMETERS=2148, MATRICES=2, **matrix)
    compile_kernel("adam", triton_update.adam_kernel, COLUMNS=100, PARAMETERS=2148, BLOCK=1024)


if __name__ == "__main__":
    main()
