"""`--help` on one screen: the flags that most runs need, and examples. `--help-all` lists all flags."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cyclopts import App
from cyclopts.help import DefaultFormatter, HelpPanel

from plainloop.config.marks import COMMON
from plainloop.config.settings import MARKS, marked
from plainloop.config.validation import flag

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions

SCREEN = 15  # flags, of two lines each
SETTINGS = {flag(name) for name in MARKS}
RARE = {flag(name) for name in MARKS.keys() - marked(COMMON)} | {
    *("--seeds", "--cv", "--quiet", "--log-format"),
    *("--push-to-hub", "--hub-model-id", "--hub-private-repo"),
    *("--spreadsheet-safe", "--accept-changed-files"),
}
# `check` takes all settings, so that the flags of a training can be checked as they are.
OF_NO_USE = {"check": {"--epochs", "--batch-size", "--lr", "--output-dir", "--resume"}}


class _Collected(DefaultFormatter):
    """Keeps the panels of a command's flags until all are known; prints the others."""

    def __init__(self) -> None:
        super().__init__()
        self.panels: list[HelpPanel] = []

    def __call__(self, console: "Console", options: "ConsoleOptions", panel: HelpPanel) -> None:
        if panel.format == "parameter":
            self.panels.append(panel)
        else:
            super().__call__(console, options, panel)


@contextmanager
def short_help(app: App, words: list[str]) -> Iterator[None]:
    """Print the help of a command in this context on one screen, with its examples.

    Args:
        app: the commands.
        words: the command line without --help.
    """
    app.help_formatter = collected = _Collected()
    yield
    app.help_formatter = None
    panels, console = collected.panels, app.console
    flags = [entry for panel in panels for entry in panel.entries]
    hidden = RARE | OF_NO_USE.get(" ".join(words), set())
    common = [entry for entry in flags if hidden.isdisjoint(entry.names)]
    if len(flags) > SCREEN:
        if len(common) > SCREEN:  # `eject`, whose settings are those of `train`
            common = [entry for entry in common if SETTINGS.isdisjoint(entry.names)]
        # Each by its shortest name, so that most names fit on one line.
        entries = [
            entry.copy(positive_names=entry.positive_names[-1:], negative_names=())
            for entry in common
        ]
        panels = [HelpPanel(format="parameter", title="Common flags", entries=entries)]
    for panel in panels:
        DefaultFormatter()(console, console.options, panel)

    chain, apps, _ = app.parse_commands(words)
    _, has, after = (inspect.getdoc(apps[-1].default_command) or "").partition("Examples:\n")
    if has:
        examples = [line for line in after.partition("\nArgs:")[0].splitlines() if line.strip()]
        print("\nExamples:", *examples, sep="\n")
    if len(flags) > SCREEN:
        print(f"\n{' '.join([app.name[0], *chain])} --help-all lists all flags.")
