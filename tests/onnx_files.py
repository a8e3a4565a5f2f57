"""ONNX files of every form, written here and run by other versions of ONNX Runtime.

    python -m tests.onnx_files write folder
    python -m tests.onnx_files run folder

The second command needs onnxruntime and numpy only.
"""

import sys
from pathlib import Path

import numpy as np

# Greatest difference from what the version that is installed for tests computes, over
# the size: rounding of activations may fall out differently.
BOUNDS = {"in_floats": 1e-5, "in_integers": 0.01}


def write(folder: Path) -> None:
    """Write a file, its inputs and its outputs for each form and way to multiply."""
    from tests.keras_messi import test_onnx_forms as forms

    for kind in forms.KINDS:
        for multiply in (forms.in_floats, forms.in_integers):
            path = folder / f"{kind}-{multiply.__name__}.onnx"
            form, _ = forms.known(kind, is_dense=True)
            outputs = forms.with_form(path, form, multiply)
            inputs = {"ids": forms.IDS, "x": forms.X, "h": forms.H}
            named = {str(i): output for i, output in enumerate(outputs)}
            np.savez(path.with_suffix(".npz"), **inputs, **named)


def run(folder: Path) -> None:
    """Run all files, and raise ValueError if one computes something else."""
    import onnxruntime

    paths = sorted(folder.glob("*.onnx"))
    for path in paths:
        with np.load(path.with_suffix(".npz")) as arrays:
            session = onnxruntime.InferenceSession(
                str(path), providers=["CPUExecutionProvider"]
            )
            inputs = {x.name: arrays[x.name] for x in session.get_inputs()}
            bound = BOUNDS[path.stem.rpartition("-")[2]]
            for i, got in enumerate(session.run(None, inputs)):
                want = arrays[str(i)]
                if not np.linalg.norm(got - want) <= bound * np.linalg.norm(want):
                    raise ValueError(f"{path.name}, output {i}: {got} is not {want}")
    version = onnxruntime.__version__
    sys.stdout.write(f"{len(paths)} files run by ONNX Runtime {version}\n")


if __name__ == "__main__":
    {"write": write, "run": run}[sys.argv[1]](Path(sys.argv[2]))
