"""The command line: parse arguments, call the library, print. May import everything."""

from keras_messi.cli.commands import main

__all__ = ["main"]
