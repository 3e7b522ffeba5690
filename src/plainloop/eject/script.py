"""make_script(): write a run as a standalone script or notebook that trains the same model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from plainloop import __version__
from plainloop.config.settings import TrainConfig
from plainloop.config.tasks import Task
from plainloop.data.batches.tokenize import check_tokenizer, create_tokenize
from plainloop.eject.branches import render, space
from plainloop.eject.inline_metadata import inline_metadata
from plainloop.eject.notebook import to_notebook
from plainloop.eject.refusals import check_settings, check_targets, check_task_and_model
from plainloop.eject.rows import rows_of_files, rows_of_task
from plainloop.eject.settings import NOTEBOOK_SUFFIX, settings_of
from plainloop.model.pretrained import DEMO_MODEL, DEMO_PACKAGE
from plainloop.model.tokenizer import load_tokenizer
from plainloop.run.output_file import check_output, make_output_folder, open_output
from plainloop.training.optim import check_schedule
from plainloop.training.prepare import Inputs, load_inputs


@dataclass(frozen=True)
class Script:
    """A generated script, not yet written.

    Attributes:
        path: file to write.
        metadata: the comment above it that names its packages; see `inline_metadata`.
        title: the script's docstring.
        parts: part name -> source, in order; the imports come first.
        data_files: path relative to the script's folder -> file to copy, or text or bytes to write there.
    """

    path: Path
    metadata: str
    title: str
    parts: Mapping[str, str]
    data_files: Mapping[str, Path | str | bytes]

    @property
    def source(self) -> str:
        """Source of the script."""
        return space("\n\n".join([f'{self.metadata}"""{self.title}"""', *self.parts.values()]))

    @property
    def data_paths(self) -> list[Path]:
        """Paths of the data files that are written with the script."""
        return [self.path.parent / name for name in self.data_files]

    def write(self, *, overwrite: bool = False, inputs: Sequence[Path] = ()) -> None:
        """Write the data files, then the script or notebook, each file atomically.

        Args:
            overwrite: whether existing files may be replaced.
            inputs: files that may not be replaced, since the script was made from them.

        Raises:
            UserError: the folder does not exist, or a file exists already; nothing is written.
        """
        check_output(self.path, "--script", inputs)
        check_targets([self.path, *self.data_paths], overwrite=overwrite)
        is_notebook = self.path.suffix == NOTEBOOK_SUFFIX
        text = to_notebook(self.title, self.parts) if is_notebook else self.source
        for name, content in {**self.data_files, self.path.name: text}.items():
            target = self.path.parent / name
            make_output_folder(target.parent, "--script")
            check_output(target, "--script", inputs)
            data = content.read_bytes() if isinstance(content, Path) else content
            with open_output(target, "--script") as file:
                file.write(data.encode() if isinstance(data, str) else data)


def make_script(config: TrainConfig, path: Path, inputs: Inputs | None = None) -> Script:
    """Generate a run's script, which does not import plainloop.

    On one process, on the same machine with the same threads, it gives the losses and
    the weights of `plainloop train` with these settings and padded batches, bit for bit.

    Args:
        config: settings of the run; the data and the model's config are read, nothing is trained.
        path: file to write; .ipynb for a notebook. Relative paths in the settings stay relative to
            the working directory of the script. In a notebook they become relative to its folder.
        inputs: result of `load_inputs` for these settings in a dry run; None loads them here.

    Returns:
        The script; call `write` to write it.

    Raises:
        UserError: every setting that is invalid or not supported, by flag.
    """
    check_settings(config)
    inputs = inputs or load_inputs(replace(config, dry_run=True))
    check_schedule(config)
    check_task_and_model(config, inputs.task, inputs.pretrained)
    tokenizer, columns = load_tokenizer(inputs.pretrained), inputs.task.text_columns
    check_tokenizer(tokenizer, len(columns), config.max_length)
    create_tokenize(tokenizer, columns, config.max_length, config.stride)  # checks the stride
    rows = rows_of_task(config, inputs.task) if config.task else rows_of_files(inputs)
    data_files: dict[str, Path | str | bytes] = {
        f"{path.stem}-data/{name}": file for name, file in rows.copied.items()
    }
    if rows.validation_rows is not None:
        data_files[f"{path.stem}-validation-rows.txt"] = "".join(
            f"{n}\n" for n in rows.validation_rows
        )
    parts = render(settings_of(inputs, rows, path))
    metadata = inline_metadata(
        "\n".join(parts.values()), [DEMO_PACKAGE] if config.model == DEMO_MODEL else []
    )
    return Script(path, metadata, _title(inputs.task, path), parts, data_files)


def _title(task: Task, path: Path) -> str:
    # The name goes into the script's docstring, which quotes or line breaks would end.
    name = path.name if path.stem.isidentifier() else "train.py"
    of_what = f"the task {task.name}" if task.layout else "own files"
    return f"""Fine-tune a text classifier on {of_what}: a run of plainloop, without plainloop.

    uv run {name}
    python {name}
    accelerate launch {name}

Ejected by plainloop {__version__}. On one process it gives the losses and weights of `plainloop
train` with padded batches, bit for bit, with the same versions, device and threads. It runs padded,
without checkpoints or resume, and trusts its data. On several processes the last batches of an
epoch are filled up with rows of its beginning, which then count once more.
"""
