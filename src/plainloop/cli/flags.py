"""Parse flags and --config FILE into settings: flags override the file, the file the defaults."""

import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import fields
from pathlib import Path
from typing import Any

from cyclopts import App, CycloptsError, UnknownOptionError
from cyclopts.config import Dict

from plainloop.cli.expected_flags import nearest_flag
from plainloop.config.settings import TrainConfig
from plainloop.config.settings_file import read_settings_file
from plainloop.errors import UserError, nearest

config_files: ContextVar[tuple[Path, ...]] = ContextVar("config_files", default=())
"""The file of --config, for the commands that must not write over it."""


def run_app(app: App, tokens: Sequence[str]) -> Any:
    """Parse a command line and run its command; `--config FILE` may be anywhere in it.

    Args:
        app: the commands; their settings default to those of the file.
        tokens: command line arguments, `sys.argv[1:]`.

    Returns:
        The command's return value; None after `--help` or `--version`.

    Raises:
        UserError: a flag or value is invalid, or the file cannot be used.
    """
    tokens, path = _take_config_file(list(tokens))
    if path is not None:
        config_files.set((path,))
        app.config = [Dict(read_settings(path), source=str(path), use_commands_as_keys=False)]
    help_flags = {"--help", "-h"}
    shown: AbstractContextManager[None] = nullcontext()
    if help_flags.intersection(tokens):
        from plainloop.cli.short_help import short_help

        shown = short_help(app, [token for token in tokens if token not in help_flags])
    tokens = ["--help" if token == "--help-all" else token for token in tokens]
    try:
        with shown:
            return app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        # cyclopts says what is wrong, then how to fix it, over several lines. Split at the first
        # full stop, it becomes an error of one line as all others.
        command = " ".join([app.name[0], *(error.command_chain or ())])
        if isinstance(error, UnknownOptionError) and error.token.source == "cli":
            flags = [name for argument in error.argument_collection for name in argument.names]
            raise unknown_flag(error.token.keyword or error.token.value, flags, command) from None
        what, _, fix = " ".join(str(error).split()).partition(". ")
        fix = fix[:1].lower() + fix[1:].rstrip(".") or f"see {command} --help-all"
        raise UserError(what.rstrip("."), where=command, fix=fix) from None
    finally:
        app.config = ()


def unknown_flag(given: str, flags: Iterable[str], command: str) -> UserError:
    """The error for a flag that a command does not have, which names the nearest that it has."""
    fix = nearest_flag(given, list(flags)) or f"see {command} --help-all"
    return UserError(f"unknown flag {given}", where=command, fix=fix)


def parse_config(tokens: Sequence[str], *, program: str, description: str) -> TrainConfig:
    """Parse the command line of a script that takes the flags of `plainloop train`.

    Args:
        tokens: command line arguments, `sys.argv[1:]`.
        program: name of the script in `--help`.
        description: description of the script in `--help`; a part "Examples:" comes last there.

    Raises:
        UserError: as `run_app`.
        SystemExit: `--help` or `--version` was given.
    """
    text, has, examples = description.partition("Examples:\n")
    config_help = "--config FILE reads settings from a YAML file, which flags beat."
    app = App(name=program, help=f"{text}\n\n{config_help}")

    def settings(config: TrainConfig = TrainConfig()) -> TrainConfig:
        return config

    settings.__doc__ = f"\n{has}{examples}"  # the line break keeps the indentation
    app.default(settings)
    config: TrainConfig | None = run_app(app, tokens)
    if config is None:  # cyclopts has printed --help or --version
        sys.exit(0)
    return config


def read_settings(path: Path) -> dict[str, Any]:
    """Read settings from a YAML file such as a run's run.yaml.

    Returns:
        Field name of `TrainConfig` -> value; settings that are null or empty are left out.

    Raises:
        UserError: as `read_settings_file`, or a key is not a setting.
    """
    settings = read_settings_file(path)
    known = [field.name for field in fields(TrainConfig)]
    unknown = [key for key in settings if key not in known]
    if unknown:
        raise UserError.together(
            [
                UserError(f"unknown setting '{key}'", where=str(path), fix=nearest(str(key), known))
                for key in unknown
            ]
        )
    for key, value in settings.items():
        # What cyclopts cannot report: names that are numbers, lists in lists, a list in itself.
        names = list(value) if isinstance(value, dict) else []
        items = value.values() if names else value if isinstance(value, list) else ()
        if not all(isinstance(name, str) for name in names) or any(
            isinstance(item, (list, dict, set)) for item in items
        ):
            fix = "write one value, [several, values] or {name: value}"
            raise UserError(f"wrong value of '{key}'", where=str(path), fix=fix)
    return {key: value for key, value in settings.items() if value not in (None, [])}


def _take_config_file(tokens: list[str]) -> tuple[list[str], Path | None]:
    for position, token in enumerate(tokens):
        if token.startswith("--config="):
            return tokens[:position] + tokens[position + 1 :], Path(token.partition("=")[2])
        if token == "--config":
            if position + 1 == len(tokens):
                raise UserError("no file given", where="--config", fix="--config FILE")
            return tokens[:position] + tokens[position + 2 :], Path(tokens[position + 1])
    return tokens, None
