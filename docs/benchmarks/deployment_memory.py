"""Memory of a process that loads one file, and runs it once.

    python docs/benchmarks/deployment_memory.py model.onnx inputs.npz

Prints how much larger the resident size is then, in MB of 10^6 bytes, than with the
runtime alone.
"""

import argparse
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path

import numpy as np
from deployment_runtimes import RUNTIMES, Batch

from measurements.processes import status_mb


def memory_mb(path: Path, inputs: Batch) -> float:
    """What a file takes in a process of its own, in MB."""
    with tempfile.TemporaryDirectory() as folder:
        arrays = Path(folder) / "inputs.npz"
        np.savez(arrays, **inputs)
        done = subprocess.run(
            [sys.executable, __file__, path, arrays],
            capture_output=True,
            text=True,
            check=True,
        )
    return float(done.stdout)


def main() -> None:
    """Load, run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("inputs", type=Path)
    arguments = parser.parse_args()
    with np.load(arguments.inputs) as arrays:
        inputs = dict(arrays)
    runtime = RUNTIMES[arguments.file.suffix]
    import_module(runtime.module)
    alone = status_mb("VmRSS")
    run = runtime.open(arguments.file, 1)
    run(inputs)
    print(status_mb("VmRSS") - alone)


if __name__ == "__main__":
    main()
