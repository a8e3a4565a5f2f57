"""Run the command line as `python -m keras_messi`."""

import sys

from keras_messi.cli import main

sys.exit(main())
