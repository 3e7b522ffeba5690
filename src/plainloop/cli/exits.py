"""Exit codes: expected errors are printed in one line and end the process."""

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
    """End the process where an expected error is raised; a bug of ours keeps its traceback."""
    try:
        yield
    except PlainloopError as error:
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
    """Run a script of one's own with the flags of `plainloop train`.

    Args:
        main: takes the settings, and what SIGINT and SIGTERM ask of it.
        tokens: `sys.argv[1:]`.
        program: what `--help` calls the script.
        description: what `--help` says it does.
    """
    with expected_errors_exit(), StopRequest() as stop:
        config = parse_config(tokens, program=program, description=description)
        with explain_training_errors(config):
            main(config, stop)
