"""The command line: parse, call the library, print."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


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
    _add_demo(commands)
    return parser


def _add_inspect(commands: argparse._SubParsersAction) -> None:
    inspect = commands.add_parser(
        "inspect", help="list the layers of a model and what they weigh"
    )
    inspect.add_argument("model", type=Path, help="a .keras file")
    inspect.set_defaults(run=run_inspect)


def _add_compress(commands: argparse._SubParsersAction) -> None:
    compress = commands.add_parser("compress", help="write a smaller model")
    compress.add_argument("input", type=Path, help="a .keras file")
    compress.add_argument("output", type=Path, help="the .keras file to write")
    compress.add_argument(
        "--rate",
        type=float,
        required=True,
        help="share of each layer's numbers to remove, between 0 and 1",
    )
    compress.add_argument(
        "--num-clusters",
        type=int,
        default=5,
        help="number of subspaces; 1 is the SVD (default: %(default)s)",
    )
    compress.add_argument(
        "--filters",
        nargs="+",
        metavar="REGEX",
        help="only layers with a path in which one of these is found",
    )
    compress.add_argument("--seed", type=int, default=0, help="seed of the clustering")
    compress.add_argument("--report", type=Path, help="JSON file for the report")
    _add_force(compress)
    compress.set_defaults(run=run_compress)


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


def _add_force(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--force", action="store_true", help="overwrite files that exist"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `keras-messi` and return its exit status."""
    options = main_parser().parse_args(arguments)
    try:
        print(options.run(options))
    except (ValueError, OSError) as error:
        print(f"keras-messi: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("keras-messi: interrupted", file=sys.stderr)
        return 130
    return 0


def run_inspect(options: argparse.Namespace) -> str:
    """List the layers of a model."""
    from keras_messi.inspection import describe_layers
    from keras_messi.saving import load_model

    return describe_layers(load_model(options.model))


def run_compress(options: argparse.Namespace) -> str:
    """Compress a file into another, and return the report."""
    from keras_messi.compression import compress
    from keras_messi.configs import MessiConfig
    from keras_messi.saving import check_target, load_model, save_model, save_text

    force = options.force
    config = MessiConfig(options.rate, options.num_clusters, seed=options.seed)
    check_target(options.output, ".keras", overwrite=force)
    if options.report:
        check_target(options.report, ".json", overwrite=force)
    model = load_model(options.input)
    small, report = compress(model, config, options.filters, verbose=True)
    save_model(small, options.output, overwrite=force)
    if options.report:
        save_text(report.to_json(), options.report, overwrite=force)
    return str(report)


def run_demo(options: argparse.Namespace) -> str:
    """Train, compress, fine-tune, compare; return the comparison."""
    from keras_messi.demo import load_mnist, load_sklearn_digits, run_demo

    data = load_mnist(options.data) if options.data else load_sklearn_digits()
    return run_demo(data, options.output, overwrite=options.force)
