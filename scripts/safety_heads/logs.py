"""What every program in scripts/ shares: one way to start, to report and to fail."""

import argparse
import logging
import sys
from collections.abc import Callable

from safety_heads.errors import UserError


def main(run: Callable[[argparse.Namespace], None], parser: argparse.ArgumentParser) -> None:
    """Parse the command line and `run` it. A UserError becomes one line and exit code 1, without a traceback."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    for noisy in ("transformers", "httpx", "httpx2", "huggingface_hub", "filelock", "fontTools"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        run(parser.parse_args())
    except UserError as error:
        sys.exit(f"error: {error}")
