"""Entry point of `python -m plainloop` and of the plainloop command."""

import logging
import sys

from plainloop.cli.app import app
from plainloop.cli.exits import expected_errors_exit
from plainloop.cli.flags import run_app


def main() -> None:
    """Run the command line; exit with the code of an expected error."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    with expected_errors_exit():
        run_app(app, sys.argv[1:])


if __name__ == "__main__":
    main()
