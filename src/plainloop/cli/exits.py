"""Exit codes: print expected errors in one line and end the process."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from plainloop.cli.flags import parse_config
from plainloop.config.settings import TrainConfig
from plainloop.errors import PlainloopError, UserError
from plainloop.run.machine_limits import explain_training_errors
from plainloop.run.rank_failure import claim_report, wait_for_reporting_rank
from plainloop.run.signals import StopRequest

EXIT_CTRL_C = 130


@contextmanager
def expected_errors_exit() -> Iterator[None]:
    """Print expected errors in one line and exit with their code; bugs keep their traceback.

    Raises:
        SystemExit: with the error's `exit_code`, or 130 after Ctrl-C.
    """
    try:
        yield
    except PlainloopError as error:
        # With several ranks only one prints the error. A rank that raises the same UserError waits
        # for it, because the launcher kills all ranks as soon as one has exited.
        if claim_report(str(error)):
            for line in str(error).splitlines():
                print(f"error: {line}", file=sys.stderr)
        elif isinstance(error, UserError):
            wait_for_reporting_rank()
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        sys.exit(EXIT_CTRL_C)


def run_script(
    main: Callable[[TrainConfig, StopRequest], None],
    tokens: Sequence[str],
    *,
    program: str,
    description: str,
) -> None:
    """Run your own script with the flags of `plainloop train`.

    Args:
        main: called with the settings and the stop request that SIGINT and SIGTERM set.
        tokens: command line arguments, `sys.argv[1:]`.
        program: name of the script in `--help`.
        description: description of the script in `--help`.

    Raises:
        SystemExit: an expected error, Ctrl-C, or `--help` was given.
    """
    with expected_errors_exit(), StopRequest() as stop:
        config = parse_config(tokens, program=program, description=description)
        with explain_training_errors(config):
            main(config, stop)
