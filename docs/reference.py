"""Write the pages of docs/reference/ from the code (`make quotes`).

Run it after a flag, a setting or a public name has changed.
"""

import ast
import dataclasses
import importlib
import inspect
import types
import typing
from itertools import groupby, pairwise
from pathlib import Path

from cyclopts import Parameter

from plainloop.cli.app import app
from plainloop.config import settings
from plainloop.config.settings import MARKS, TrainConfig

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "reference"
CLI = """\
# Command line

`--help` shows the common flags of a command and examples, `--help-all` every flag. `--config FILE` reads settings
from a YAML file, such as the run.yaml of a run; flags override the file. A run.yaml is for train, check and eject,
which have all its settings. The words of a flag may be joined by
dashes or underscores.

| exit code | meaning |
|---|---|
| 0 | success |
| 1 | a bug: its traceback is printed |
| 2 | invalid input: a line for each problem says what is wrong, where, and how to fix it |
| 3 | a checkpoint or a run that cannot be used |
| 4 | out of memory or disk, or a lost process |
| 5 | a loss, weight or logit is not finite |
| 130, 143, 129 | stopped by Ctrl-C, SIGTERM, SIGHUP |
| 141 | the reader of stdout has ended |

"""
CONFIGURATION = """\
# Configuration

Every setting of a run is a field of `TrainConfig`: in Python `TrainConfig(learning_rate=3e-5)`, on the
command line `--learning-rate 3e-5`, in a YAML file for `--config` a line like this one:

```yaml
learning_rate: 3e-5
```

A run writes its settings into `run.yaml`. A setting that `transformers.TrainingArguments` has keeps its name, and its
default, too, if the numbers depend on it.

"""
API = """\
# Python

What `import plainloop` offers: first what most people need, then all other names, module by module. `train.py`
shows the pieces of a training in their order. A module is imported when one of its names is first used.

"""
FIRST = ("training.fine_tune", "predict.loaded_run", "config.settings", "training.loop")
"""Modules that the page of Python begins with: fine_tune, load_run, TrainConfig and train."""


def cli() -> str:
    """Every command with its arguments and flags."""
    page = app.generate_docs(recursive=True)
    page = page[page.index("**Commands**") :].replace("```console", "```text")
    return CLI + page.rstrip() + "\n"


def texts_of_fields() -> dict[str, str]:
    """The text under each field of TrainConfig."""
    tree = ast.parse(inspect.getsource(settings))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef))
    return {
        field.target.id: " ".join(ast.literal_eval(text.value).split())
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
    }


def type_of(annotation: object) -> str:
    """An annotation in short: str, or the words that may be chosen."""
    inner = typing.get_args(annotation)[0]  # of Annotated
    kinds = [kind for kind in typing.get_args(inner) if kind is not type(None)]
    if typing.get_origin(inner) in (typing.Union, types.UnionType):
        return " or ".join(type_of(typing.Annotated[kind, None]) for kind in kinds)
    if typing.get_origin(inner) is typing.Literal:
        return ", ".join(f"`{word}`" for word in kinds)
    if typing.get_origin(inner) is tuple:
        return type_of(typing.Annotated[kinds[0], None]) + ", any number"
    return f"`{inner.__name__}`"


def configuration() -> str:
    """A table of the settings under each heading of --help-all."""
    texts = texts_of_fields()
    hints = typing.get_type_hints(TrainConfig, include_extras=True)

    def heading_of(field: "dataclasses.Field[typing.Any]") -> str:
        flags = [mark for mark in MARKS[field.name] if isinstance(mark, Parameter)]
        return str(next(group for flag in flags for group in flag.group or ()).name)

    page = CONFIGURATION
    for heading, fields in groupby(dataclasses.fields(TrainConfig), heading_of):
        page += f"## {heading}\n\n| setting | type | default | |\n|---|---|---|---|\n"
        for field in fields:
            made = field.default_factory
            default = field.default if made is dataclasses.MISSING else made()
            shown = "" if default is None or default in ((), {}) else f"`{default}`"
            kind = type_of(hints[field.name])
            page += f"| `{field.name}` | {kind} | {shown} | {texts[field.name]} |\n"
        page += "\n"
    return page.rstrip() + "\n"


def api() -> str:
    """The public names, each under the module that it is in."""
    stub = ast.parse((ROOT / "src/plainloop/__init__.pyi").read_text(encoding="utf-8"))
    names = {
        node.module: [alias.name for alias in node.names]
        for node in stub.body
        if isinstance(node, ast.ImportFrom) and node.module
    }
    page = API
    for inner in dict.fromkeys([*FIRST, *names]):
        module = f"plainloop.{inner}"
        purpose = (importlib.import_module(module).__doc__ or "").partition("\n")[0]
        page += f"## {module}\n\n{purpose}\n\n"
        page += "".join(f"::: {module}.{name}\n\n" for name in names[inner])
    return page.rstrip() + "\n"


if __name__ == "__main__":
    PAGES.mkdir(exist_ok=True)
    for name, content in (("cli", cli()), ("configuration", configuration()), ("api", api())):
        (PAGES / f"{name}.md").write_text(content, encoding="utf-8")
