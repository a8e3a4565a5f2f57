"""The command line: parse, call the library, print."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_MODEL = "a .keras file or a folder of Hugging Face transformers"
_RATE = "share of each layer's numbers to remove, between 0 and 1"


def main_parser() -> argparse.ArgumentParser:
    """Build the parser of `keras-messi`."""
    parser = argparse.ArgumentParser(
        prog="keras-messi",
        description="Make Keras models smaller by projective clustering.",
        epilog="Exit status: 0 done, 1 bad input or failure, 2 bad usage, 130 "
        "interrupted. Results go to stdout, messages to stderr.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    _add_inspect(commands)
    _add_compress(commands)
    _add_curve(commands)
    _add_export(commands)
    _add_demo(commands)
    return parser


def _add_inspect(commands: argparse._SubParsersAction) -> None:
    inspect = commands.add_parser(
        "inspect",
        help="list the layers of a model, what they weigh and what they could weigh",
    )
    inspect.add_argument("model", type=Path, help=_MODEL)
    inspect.add_argument(
        "--rate", type=float, default=0.5, help=f"{_RATE} (default: %(default)s)"
    )
    _add_num_clusters(inspect)
    inspect.set_defaults(run=run_inspect)


def _add_compress(commands: argparse._SubParsersAction) -> None:
    compress = commands.add_parser("compress", help="write a smaller model")
    compress.add_argument("input", type=Path, help=_MODEL)
    compress.add_argument("output", type=Path, help="the same kind, to be written")
    compress.add_argument("--rate", type=float, required=True, help=_RATE)
    compress.add_argument(
        "--num-clusters",
        type=_number_or_auto,
        default=5,
        help='number of subspaces, or "auto" (default: %(default)s)',
    )
    compress.add_argument(
        "--scope",
        choices=["layer", "model"],
        default="layer",
        help="remove the share from every layer, or from all of them together, where "
        "it does the least harm (default: %(default)s)",
    )
    compress.add_argument(
        "--quantization",
        choices=["int8", "int4"],
        help="store the numbers that are left as such integers",
    )
    compress.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE",
        help="inputs of the model to learn from: an array (.npy), or arrays by name "
        "(.npz)",
    )
    _add_filters(compress)
    _add_seed(compress)
    compress.add_argument("--report", type=Path, help="JSON file for the report")
    _add_force(compress)
    compress.set_defaults(run=run_compress)


def _add_curve(commands: argparse._SubParsersAction) -> None:
    curve = commands.add_parser(
        "curve",
        help="find the number of subspaces with the least error for some rates",
        description="Write the best model of each rate, the picture curve.png and the "
        "table curve.txt. The same command again goes on where it was interrupted.",
    )
    curve.add_argument("model", type=Path, help=_MODEL)
    curve.add_argument("--rates", type=float, nargs="+", required=True, help=_RATE)
    curve.add_argument("--output", type=Path, required=True, help="folder to write")
    curve.add_argument(
        "--max-clusters",
        type=int,
        default=32,
        help="largest number of subspaces (default: %(default)s)",
    )
    _add_filters(curve)
    _add_seed(curve)
    curve.set_defaults(run=run_curve)


def _add_export(commands: argparse._SubParsersAction) -> None:
    export = commands.add_parser(
        "export", help="write a model for LiteRT, ONNX Runtime or TensorFlow"
    )
    export.add_argument("input", type=Path, help=_MODEL)
    export.add_argument(
        "output",
        type=Path,
        help="a .tflite or .onnx file, or the folder of a SavedModel",
    )
    _add_force(export)
    export.set_defaults(run=run_export)


def _add_demo(commands: argparse._SubParsersAction) -> None:
    demo = commands.add_parser(
        "demo", help="train LeNet-300-100 on digits, compress it, compare with SVD"
    )
    demo.add_argument(
        "--data",
        type=Path,
        help="folder with the gzipped MNIST files (default: scikit-learn's digits)",
    )
    demo.add_argument(
        "--output",
        type=Path,
        default=Path("messi-demo"),
        help="folder for the best model, its report and the curves (default: "
        "%(default)s)",
    )
    _add_force(demo)
    demo.set_defaults(run=run_demo)


def _add_num_clusters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--num-clusters",
        type=int,
        default=5,
        help="number of subspaces; 1 is the SVD (default: %(default)s)",
    )


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--filters",
        nargs="+",
        metavar="REGEX",
        help="only layers with a path in which one of these is found",
    )


def _add_seed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0, help="seed of the clustering")


def _add_force(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--force", action="store_true", help="overwrite files that exist"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `keras-messi` and return its exit status."""
    options = main_parser().parse_args(arguments)
    try:
        print(options.run(options))
    except (ImportError, OSError, ValueError) as error:
        print(f"keras-messi: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("keras-messi: interrupted", file=sys.stderr)
        return 130
    return 0


def run_inspect(options: argparse.Namespace) -> str:
    """List the layers of a model."""
    from keras_messi.configs import MessiConfig
    from keras_messi.families import family_at
    from keras_messi.inspection import describe_layers

    config = MessiConfig(options.rate, options.num_clusters)
    return describe_layers(family_at(options.model).load(options.model), config)


def run_compress(options: argparse.Namespace) -> str:
    """Compress a model into another of its kind, and return the report."""
    from keras_messi.compression import compress
    from keras_messi.configs import MessiConfig
    from keras_messi.families import family_at
    from keras_messi.saving import check_target, save_text

    force, family = options.force, family_at(options.input)
    config = MessiConfig(
        options.rate,
        options.num_clusters,
        scope=options.scope,
        quantization=options.quantization,
        seed=options.seed,
    )
    family.check_target(options.output, force)
    if options.report:
        check_target(options.report, ".json", overwrite=force)
    data = _read_arrays(options.calibration) if options.calibration else None
    model = family.load(options.input)
    small, report = compress(
        model, config, options.filters, calibration_data=data, verbose=True
    )
    family.save(small, options.output, options.input, force)
    if options.report:
        save_text(report.to_json(), options.report, overwrite=force)
    return str(report)


def _number_or_auto(text: str) -> int | str:
    return text if text == "auto" else int(text)


def _read_arrays(path: Path) -> Any:
    """The array in a .npy file, or those in a .npz file by name.

    Raises:
        ValueError: The file holds no arrays of numbers.
    """
    import numpy as np

    try:
        found = np.load(path)
    except (EOFError, ValueError) as error:
        raise ValueError(
            f"`--calibration` must be a .npy or .npz file of numbers. Received: {path}"
        ) from error
    return found if isinstance(found, np.ndarray) else dict(found)


def run_curve(options: argparse.Namespace) -> str:
    """Search for the best number of subspaces at some rates, and draw the curve."""
    from keras_messi.configs import MessiConfig
    from keras_messi.families import family_at
    from keras_messi.plotting import save_search_curve
    from keras_messi.saving import save_text
    from keras_messi.searching import search

    result = search(
        family_at(options.model).load(options.model),
        MessiConfig(rate=options.rates[0], seed=options.seed),
        rates=options.rates,
        filters=options.filters,
        max_clusters=options.max_clusters,
        folder=options.output,
        verbose=True,
    )
    save_text(str(result), options.output / "curve.txt", overwrite=True)
    save_search_curve(
        result.trials,
        options.output / "curve.png",
        title=options.model.name,
        score_name="1 - mean relative error of the layers",
    )
    return f"{result}\n\nwrote {options.output}/"


def run_export(options: argparse.Namespace) -> str:
    """Export a model in the format that the output path stands for."""
    from keras_messi.exporting import export
    from keras_messi.families import family_at

    model = family_at(options.input).load(options.input)
    export(model, options.output, overwrite=options.force)
    return f"wrote {options.output}"


def run_demo(options: argparse.Namespace) -> str:
    """Train, compress, fine-tune, compare; return the comparison."""
    from keras_messi.demo import load_mnist, load_sklearn_digits, run_demo

    data = load_mnist(options.data) if options.data else load_sklearn_digits()
    return run_demo(data, options.output, overwrite=options.force)
