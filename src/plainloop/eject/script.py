"""make_script(): settings -> one plain script that trains the same model, or a notebook of it."""

import ast
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from plainloop import __version__
from plainloop.atomic_file import atomic_file, write_text
from plainloop.config.settings import TrainConfig
from plainloop.config.tasks import Task
from plainloop.data.batches.tokenize import check_tokenizer
from plainloop.eject.context import context_of, token_limits
from plainloop.eject.imports import imports_for, names_in
from plainloop.eject.notebook import to_notebook
from plainloop.eject.refusals import check_settings, check_targets, check_task_and_model
from plainloop.eject.rows import rows_of_files, rows_of_task
from plainloop.eject.settings import NOTEBOOK_SUFFIX, settings_of
from plainloop.model.load import load_tokenizer
from plainloop.training.optim import check_schedule
from plainloop.training.prepare import Inputs, load_inputs

PARTS = (
    "accelerator",
    "data",
    "tokenize",
    "loaders",
    "model",
    "optimizer",
    "loss",
    "evaluation",
    "loop",
    "save",
)
"""The parts of a script after imports and settings, in their order: each a template of that name."""
SETTINGS_TITLE = (
    "# The settings of this run, under the names that plainloop and the Trainer give them."
)


@dataclass(frozen=True)
class Script:
    """A script, not yet written.

    Attributes:
        path: where it is to stand.
        title: its docstring.
        parts: part -> its source, in their order; the imports come first.
        beside: name -> a file to copy, or the text of one, to stand in the same folder.
    """

    path: Path
    title: str
    parts: Mapping[str, str]
    beside: Mapping[str, Path | str]

    @property
    def source(self) -> str:
        """The whole script."""
        text = f'"""{self.title}"""\n'
        before = ""
        for part in self.parts.values():
            text += "\n" * (1 + (_ends_in_function(before) or _begins_with_function(part))) + part
            before = part
        return text

    @property
    def paths_beside(self) -> list[Path]:
        """Where the files beside the script are to stand."""
        return [self.path.parent / name for name in self.beside]

    def write(self, *, overwrite: bool = False) -> None:
        """Write what stands beside the script, then the script: as Python, or as a notebook.

        Args:
            overwrite: whether files that are there may be replaced.

        Raises:
            UserError: there is no such folder, or a file is there already; nothing is written.
        """
        check_targets([self.path, *self.paths_beside], overwrite=overwrite)
        for name, content in self.beside.items():
            target = self.path.parent / name
            target.parent.mkdir(exist_ok=True)
            if isinstance(content, Path):
                with content.open("rb") as source, atomic_file(target) as file:
                    shutil.copyfileobj(source, file)
            else:
                write_text(target, content)
        is_notebook = self.path.suffix == NOTEBOOK_SUFFIX
        text = to_notebook(self.title, self.parts) if is_notebook else self.source
        write_text(self.path, text)


def make_script(config: TrainConfig, path: Path, inputs: Inputs | None = None) -> Script:
    """Make a run's script: torch, transformers, accelerate and datasets, and no plainloop.

    On one process in float32, on the same machine with the same threads, it gives the losses and
    the weights of `plainloop train` with these settings and padded batches, bit for bit.

    Args:
        config: the settings; data and model are looked at, and nothing is trained.
        path: where the script is to stand; a notebook's name ends in .ipynb. Relative paths of the
            settings stay relative to the folder that the script is run in; in a notebook they are
            relative to its own folder.
        inputs: what `load_inputs` gave for these settings in a dry run, where it was called before.

    Returns:
        The script; its `write` writes it.

    Raises:
        UserError: all that is wrong with the settings, or cannot be ejected, by flag.
    """
    check_settings(config)
    inputs = inputs or load_inputs(replace(config, dry_run=True))
    check_schedule(config)
    check_task_and_model(config, inputs.task, inputs.pretrained)
    check_tokenizer(
        load_tokenizer(inputs.pretrained), len(inputs.task.text_columns), config.max_length
    )
    rows = rows_of_task(config, inputs.task) if config.task else rows_of_files(inputs)
    beside: dict[str, Path | str] = {
        f"{path.stem}-data/{name}": file for name, file in rows.copied.items()
    }
    if rows.validation_rows is not None:
        beside[f"{path.stem}-validation-rows.txt"] = "".join(f"{n}\n" for n in rows.validation_rows)
    limits = token_limits(inputs)
    parts = render(context_of(inputs, rows, limits))
    used = names_in("\n".join(parts.values()))
    settings = [
        line for name, line in settings_of(inputs, rows, limits, path).items() if name in used
    ]
    parts = {"settings": "\n".join([SETTINGS_TITLE, *settings, ""]), **parts}
    parts = {"imports": imports_for("\n".join(parts.values())) + "\n", **parts}
    return Script(path, _title(inputs.task, path), parts, beside)


def render(context: Mapping[str, object]) -> dict[str, str]:
    """Fill the templates; a part of which nothing is left is left out."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader("plainloop.eject", "parts"),
        autoescape=False,  # noqa: S701 - Python and not HTML; texts of a person's go through literal()
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    parts = {name: templates.get_template(f"{name}.jinja").render(context) for name in PARTS}
    return {name: text.strip("\n") + "\n" for name, text in parts.items() if text.strip()}


def _begins_with_function(part: str) -> bool:
    return isinstance(ast.parse(part).body[0], ast.FunctionDef)


def _ends_in_function(part: str) -> bool:
    return bool(part) and isinstance(ast.parse(part).body[-1], ast.FunctionDef)


def _title(task: Task, path: Path) -> str:
    # It stands in a docstring: a name with quotes or line breaks would end it.
    name = path.name if path.stem.isidentifier() else "train.py"
    of_what = f"the task {task.name}" if task.layout else "own files"
    return f"""Fine-tune a text classifier on {of_what}: a run of plainloop, without plainloop.

    python {name}
    accelerate launch {name}

Ejected by plainloop {__version__}. On one process in float32 it gives the losses and weights of `plainloop
train` with padded batches, bit for bit, with the same versions, device and threads. It runs padded,
without checkpoints or resume, and trusts its data. On several processes the last batches of an
epoch are filled up with rows of its beginning, which then count once more.
"""
