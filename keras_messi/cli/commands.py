"""The command line: parse, call the library, print."""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from keras_messi.cli.arguments import main_parser

if TYPE_CHECKING:
    from keras_messi.configs import Config


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `keras-messi` and return its exit status."""
    options = main_parser().parse_args(arguments)
    try:
        print(COMMANDS[options.command](options))
    except (ImportError, OSError, ValueError) as error:
        print(f"keras-messi: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("keras-messi: interrupted", file=sys.stderr)
        return 130
    return 0


def run_inspect(options: argparse.Namespace) -> str:
    """List the layers of a model."""
    from keras_messi.cli.inspection import describe_layers
    from keras_messi.configs import MessiConfig
    from keras_messi.models.adapter import family_at

    config = MessiConfig(options.rate, options.num_clusters)
    return describe_layers(family_at(options.model).load(options.model), config)


def run_compress(options: argparse.Namespace) -> str:
    """Factor layers, or fit the model into so many bytes."""
    from keras_messi.configs import BudgetConfig, MessiConfig

    if options.rate is None:
        budget = BudgetConfig(
            options.max_size, options.times_smaller, options.seed, options.target
        )
        return _compress(options, budget)
    config = MessiConfig(
        options.rate,
        options.num_clusters,
        scope=options.scope,
        quantization=options.quantization,
        seed=options.seed,
        sequential=options.sequential,
        max_clusters=options.max_clusters,
    )
    return _compress(options, config)


def run_code(options: argparse.Namespace) -> str:
    """Put codes in place of layers."""
    from keras_messi.configs import PQConfig

    config = PQConfig(
        options.block_size, options.num_codewords, options.num_codebooks, options.seed
    )
    return _compress(options, config)


def _compress(options: argparse.Namespace, config: "Config") -> str:
    """Compress a model into another of its kind, and return the report."""
    from keras_messi.cli.calibration_files import read_calibration
    from keras_messi.compression import compress
    from keras_messi.files import check_target, save_text
    from keras_messi.models.adapter import family_at

    force, family = options.force, family_at(options.input)
    family.check_target(options.output, force)
    if options.report:
        check_target(options.report, ".json", overwrite=force)
    data = None
    if options.calibration:
        data = read_calibration(options.calibration, options.input)
    model = family.load(options.input)
    small, report = compress(
        model, config, options.filters, calibration_data=data, verbose=True
    )
    family.save(small, options.output, options.input, force)
    if options.report:
        save_text(report.to_json(), options.report, overwrite=force)
    return str(report)


def run_curve(options: argparse.Namespace) -> str:
    """Search for the best number of subspaces at some rates, and draw the curve."""
    from keras_messi.configs import MessiConfig
    from keras_messi.files import save_text
    from keras_messi.models.adapter import family_at
    from keras_messi.searching import search
    from keras_messi.searching.curves import save_search_curve

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
    from keras_messi.models.adapter import family_at

    model = family_at(options.input).load(options.input)
    export(
        model,
        options.output,
        overwrite=options.force,
        activations=options.activations,
        tables=options.tables,
    )
    return f"wrote {options.output}"


def run_demo(options: argparse.Namespace) -> str:
    """Train, compress, fine-tune, compare; return the comparison."""
    from keras_messi.cli.demo import load_mnist, load_sklearn_digits, run_demo

    data = load_mnist(options.data) if options.data else load_sklearn_digits()
    return run_demo(data, options.output, overwrite=options.force)


COMMANDS = {
    "inspect": run_inspect,
    "compress": run_compress,
    "code": run_code,
    "curve": run_curve,
    "export": run_export,
    "demo": run_demo,
}
