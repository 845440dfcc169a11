"""What the compiler says of the Triton engine's kernels, for GPUs that need not be there.

    python -m benchmarks.gpu.compiled [--capability 80 90] [--only NAME ...] [--json FILE]

Registers of a thread, bytes of the stack that it spills to, shared memory of a program, and programs that a
multiprocessor holds at once. Needs Triton, which brings NVIDIA's assembler, and no GPU.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from napari_siren.core.engines.triton import engine as triton_engine
from napari_siren.core.engines.triton import kernels as triton_kernels
from napari_siren.core.engines.triton import update as triton_update
from napari_siren.core.engines.triton.engine import Tuning
from napari_siren.core.network.siren import NetworkSpec

INTEGERS = {"samples", "x_stride", "share", "tiles"}
REALS = {
    *("omega", "learning_rate", "decay", "averaging"),
    *("beta1", "beta2", "log2_beta1", "log2_beta2", "epsilon"),
}
# Of the GPUs that have least: bytes of shared memory of a program. Of a multiprocessor of all: registers.
SHARED_BYTES, REGISTERS = 99 * 1024, 65536
THREADS_OF_WARP = 32
SHAPES = {"faithful": NetworkSpec(2, 3, 3, 32), "upscale": NetworkSpec(2, 3, 4, 32), "stack": NetworkSpec(3, 1, 3, 32)}


def kernels(tuning: Tuning) -> Iterator[tuple[str, Any, dict[str, object]]]:
    """Give the name of each kernel, the kernel, and what it is compiled for."""
    for name, shape in SHAPES.items():
        for precision, low_precision in (("float32", False), ("bfloat16", True)):
            sizes = triton_engine._sizes(shape, tuning, low_precision)
            squared = name != "upscale"
            unused = {} if squared else {"weight": None, "factor": None, "losses": None}
            constants = {**sizes, **unused, "SQUARED": squared, "BACKWARD": True}
            yield f"gradient, {name}, {precision}", triton_kernels.gradient_kernel, constants
        yield f"values, {name}", triton_kernels.forward_kernel, triton_engine._sizes(shape, tuning, False)
    matrix = triton_engine._matrix_sizes(32, tuning)
    yield "orthogonalisation", triton_update.orthogonalise_kernel, matrix
    yield "Muon's step", triton_update.muon_kernel, {"START": 100, "PARAMETERS": 2148, "MATRICES": 2, **matrix}
    yield "Adam's step", triton_update.adam_kernel, {"COLUMNS": 100, "PARAMETERS": 2148, "BLOCK": 1024, "num_warps": 4}


def report(kernel: Any, constants: dict[str, object], capability: int) -> dict[str, Any]:
    """Compile a kernel, and give what the compiler says of it."""
    sizes = dict(constants)
    warps = int(str(sizes.pop("num_warps")))

    def kind(argument: str) -> str:
        if argument in sizes:
            return "constexpr"
        return "i32" if argument in INTEGERS else "fp32" if argument in REALS else "*fp32"

    source = ASTSource(fn=kernel, signature={a: kind(a) for a in kernel.arg_names}, constexprs=sizes)
    target = GPUTarget("cuda", capability, THREADS_OF_WARP)
    compiled = triton.compile(source, target=target, options={**triton_engine._OPTIONS, "num_warps": warps})
    told = assemble(compiled.asm["ptx"], capability)
    threads = warps * THREADS_OF_WARP
    return {
        "warps": warps,
        "shared_bytes": compiled.metadata.shared,
        **told,
        "programs_by_registers": REGISTERS // (threads * max(1, told["registers"])),
    }


def assemble(ptx: str, capability: int) -> dict[str, int]:
    """Give the registers and the spilled bytes of a thread, from the report of NVIDIA's assembler."""
    # Hopper's matrix instructions are of sm_90a only.
    architecture = f"sm_{capability}{'a' if capability >= 90 else ''}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.ptx"
        path.write_text(ptx)
        command = [_assembler(), "-v", f"-arch={architecture}", str(path), "-o", str(path.with_suffix(".cubin"))]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    numbers = [int(n) for n in re.findall(r"(\d+) bytes (?:stack frame|spill stores|spill loads)", done.stderr)]
    registers = re.search(r"Used (\d+) registers", done.stderr)
    assert registers is not None
    stack, stores, loads = numbers[-3:]
    return {"registers": int(registers[1]), "stack_bytes": stack, "spill_stores": stores, "spill_loads": loads}


def _assembler() -> str:
    found = sorted((Path(triton.__file__).parent / "backends" / "nvidia" / "bin").glob("ptxas*"))
    return str(found[0])


def main(options: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capability", type=int, nargs="+", default=[80, 90])
    parser.add_argument("--block", type=int, default=Tuning.block)
    parser.add_argument("--low-precision-block", type=int, default=Tuning.low_precision_block)
    parser.add_argument("--warps", type=int, default=Tuning.warps)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="names of the kernels to compile (default: all)")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(options)
    tuning = Tuning(arguments.block, arguments.low_precision_block, arguments.warps)
    rows = {
        f"sm_{capability}": {
            name: report(kernel, constants, capability)
            for name, kernel, constants in kernels(tuning)
            if arguments.only is None or name in arguments.only
        }
        for capability in arguments.capability
    }
    for target, found in rows.items():
        for name, row in found.items():
            print(
                f"{target} | {name} | {row['warps']} warps | {row['registers']} registers | {row['stack_bytes']} bytes "
                f"spilled to | {row['shared_bytes']} bytes shared | {row['programs_by_registers']} programs"
            )
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps({"triton": triton.__version__, **rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
