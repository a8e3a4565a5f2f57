"""The arguments of the command line."""

import argparse
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

_MODEL = "a .keras file or a folder of Hugging Face transformers"
_UNITS = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "b": 1}
_RATE = "share of each layer's numbers to remove, between 0 and 1"


def main_parser() -> argparse.ArgumentParser:
    """Build the parser of `keras-messi`."""
    parser = argparse.ArgumentParser(
        prog="keras-messi",
        description="Make Keras models smaller by projective clustering.",
        epilog="Exit status: 0 done, 1 bad input or failure, 2 bad usage, 130 "
        "interrupted. Results go to stdout, messages to stderr.",
    )
    parser.add_argument("--version", action="version", version=version("kprojclust"))
    commands = parser.add_subparsers(dest="command", required=True)
    _add_inspect(commands)
    _add_compress(commands)
    _add_code(commands)
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


def _add_compress(commands: argparse._SubParsersAction) -> None:
    compress = commands.add_parser("compress", help="write a smaller model")
    _add_files(compress)
    goal = compress.add_mutually_exclusive_group(required=True)
    goal.add_argument("--rate", type=float, help=_RATE)
    goal.add_argument(
        "--max-size",
        type=_size,
        metavar="SIZE",
        help="largest size of what is written, such as 7MB; how each matrix is stored "
        "is found by trying",
    )
    goal.add_argument(
        "--times-smaller", type=float, metavar="N", help="the same as a share: 13"
    )
    compress.add_argument(
        "--target",
        choices=["onnx", "litert"],
        help="with a size, only what exported files hold as well, and their runtime is "
        "fast with",
    )
    compress.add_argument(
        "--num-clusters",
        type=_number_or("auto"),
        default=5,
        help='number of subspaces, or "auto" (default: %(default)s)',
    )
    _add_max_clusters(compress)
    compress.add_argument(
        "--scope",
        choices=["auto", "layer", "model"],
        default="auto",
        help="remove the share from every layer, or from all of them together, where "
        "it does the least harm; auto: of the large ones only (default: %(default)s)",
    )
    compress.add_argument(
        "--quantization",
        choices=["int8", "int4"],
        help="store the numbers that are left as such integers",
    )
    compress.add_argument(
        "--sequential",
        action="store_true",
        help="with --calibration, fit each layer on what it gets from those before it",
    )
    _add_common(compress)


def _add_code(commands: argparse._SubParsersAction) -> None:
    code = commands.add_parser(
        "code",
        help="write a smaller model, of codebooks and codes (product quantization)",
    )
    _add_files(code)
    code.add_argument(
        "--block-size",
        type=int,
        default=8,
        help="numbers that a codeword stands for (default: %(default)s)",
    )
    code.add_argument(
        "--num-codewords",
        type=int,
        default=256,
        help="codewords in each codebook (default: %(default)s)",
    )
    code.add_argument(
        "--num-codebooks",
        type=_number_or("all"),
        default=1,
        help='codebooks of a layer, or "all" for one for each block of a row '
        "(default: %(default)s)",
    )
    _add_common(code)


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
    _add_max_clusters(curve)
    _add_filters(curve)
    _add_seed(curve)


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
    export.add_argument(
        "--activations",
        choices=["int8", "float32"],
        default="int8",
        help="how an .onnx file multiplies by integers: in integers, or in floats, "
        "exactly as the model and as slowly (default: %(default)s)",
    )
    export.add_argument(
        "--tables",
        choices=["auto", "stored", "decoded"],
        default="auto",
        help="how an .onnx file looks rows up: in the smaller form, or in a table of "
        "floats that it makes when it is loaded, by default in one of up to 8 MiB",
    )
    _add_force(export)


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


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", type=Path, help=_MODEL)
    parser.add_argument("output", type=Path, help="the same kind, to be written")


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE",
        help="inputs of the model to learn from: an array (.npy), arrays by name "
        "(.npz), or a text on each line (.txt) for a folder with a tokenizer",
    )
    _add_filters(parser)
    _add_seed(parser)
    parser.add_argument("--report", type=Path, help="JSON file for the report")
    _add_force(parser)


def _add_num_clusters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--num-clusters",
        type=int,
        default=5,
        help="number of subspaces; 1 is the SVD (default: %(default)s)",
    )


def _add_max_clusters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-clusters",
        type=int,
        default=32,
        help="largest number of subspaces that is chosen (default: %(default)s)",
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


def _number_or(word: str) -> Callable[[str], int | str]:
    """An argument that is a whole number, or that word."""

    def number(text: str) -> int | str:  # which argparse has in its messages
        return text if text == word else int(text)

    return number


def _size(text: str) -> int:
    """Bytes, as a number with or without a unit."""
    number, factor = text, 1
    for unit, worth in _UNITS.items():
        if text.lower().endswith(unit):
            number, factor = text[: -len(unit)], worth
            break
    try:
        return int(float(number) * factor)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"must be a size such as 7MB or 7000000. Received: {text}"
        ) from None
