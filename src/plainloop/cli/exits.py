"""Exit codes: print expected errors in one line and end the process."""

import os
import select
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from plainloop.cli.flags import parse_config
from plainloop.config.settings import TrainConfig
from plainloop.console import open_standard_streams, outliving_readers, print_line
from plainloop.errors import PlainloopError, UserError
from plainloop.run.machine_limits import explain_resource_errors, explain_training_errors
from plainloop.run.rank_failure import (
    claim_report,
    destroy_process_group,
    wait_for_reporting_rank,
)
from plainloop.run.signals import StopRequest

EXIT_CTRL_C = 130
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE, as shells report it


@contextmanager
def expected_errors_exit() -> Iterator[None]:
    """Print expected errors in one line and exit with their code; bugs keep their traceback.

    Raises:
        SystemExit: with the error's `exit_code`, 130 after Ctrl-C, or 141 if the reader of stdout has
            ended, as head does.
    """
    open_standard_streams()
    try:
        with explain_resource_errors():
            yield
            sys.stdout.flush()  # Python's own flush at exit would print a traceback
            destroy_process_group()
    except PlainloopError as error:
        # With several ranks only one prints the error. A rank that raises the same UserError waits
        # for it, because the launcher kills all ranks as soon as one has exited.
        if claim_report(str(error)):
            _exit(error.exit_code, [f"error: {line}" for line in error.lines()])
        elif isinstance(error, UserError):
            wait_for_reporting_rank()
        _exit(error.exit_code)
    except KeyboardInterrupt:
        _exit(EXIT_CTRL_C, ["stopped by Ctrl-C"])
    except BrokenPipeError:
        if not _reader_is_gone():  # another pipe, such as a library's
            raise
        _exit(EXIT_BROKEN_PIPE)


def _exit(code: int, lines: Sequence[str] = ()) -> NoReturn:
    """Print lines to stderr and exit, with stdout and stderr closed or not."""
    for stream, text in ((sys.stdout, ()), (sys.stderr, lines)):
        try:
            for line in text:
                print_line(line, stream)
            stream.flush()
        except OSError:  # what is left in it has nowhere to go
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(code)


def _reader_is_gone() -> bool:
    """Whether nothing reads the pipe that stdout is."""
    poll = select.poll()
    poll.register(sys.stdout, 0)  # errors are always reported
    return bool(poll.poll(0))


def run_script(
    main: Callable[[TrainConfig, StopRequest], None],
    tokens: Sequence[str],
    *,
    program: str,
    description: str,
) -> None:
    """Run your own script with the flags of `plainloop train`.

    Args:
        main: called with the settings and the stop request that SIGINT, SIGTERM and SIGHUP set.
        tokens: command line arguments, `sys.argv[1:]`.
        program: name of the script in `--help`.
        description: description of the script in `--help`.

    Raises:
        SystemExit: an expected error, Ctrl-C, or `--help` was given.
    """
    with expected_errors_exit(), outliving_readers(), StopRequest() as stop:
        config = parse_config(tokens, program=program, description=description)
        with explain_training_errors(config):
            main(config, stop)
