"""The rows of the table: tasks and batch sizes, each measured on all sides that train."""

import hashlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plainloop.errors import UserError, nearest
from speed.alternate import alternate
from speed.child import Child
from speed.sides import AUTO, GROUPED, SIDES
from speed.work import Work

WARM_UP_STEPS = 5
LIMIT = "limit"


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        task, batch_size: what is trained.
        steps: optimizer steps of a block, unless `--steps` says otherwise.
    """

    task: str
    batch_size: int
    steps: int

    @property
    def name(self) -> str:
        """What `--rows` calls it."""
        return f"{self.task}-{self.batch_size}"


# In 5 repeats group_by_length goes through whole rounds, each from long rows to short ones: of 50
# batches at mrpc-8, cola, stsb-8 and demo-8, and of an epoch or two at the others.
GLUE_ROWS = (
    Row("mrpc", 8, 50),
    Row("mrpc", 32, 23),
    Row("cola", 8, 50),
    Row("cola", 32, 50),
    Row("stsb", 8, 50),
    Row("stsb", 32, 36),
)
EMBEDDED_ROWS = (Row("demo", 8, 100), Row("demo", 32, 33))


def choose_rows(data_dir: Path | None, names: tuple[str, ...]) -> tuple[Row, ...]:
    """The rows of these names, or all that the data have.

    Raises:
        UserError: there is no row of that name.
    """
    rows = EMBEDDED_ROWS if data_dir is None else GLUE_ROWS
    known = [row.name for row in rows]
    unknown = [name for name in names if name not in known]
    if unknown:
        fix = nearest(unknown[0], known) or f"choose from {', '.join(known)}"
        raise UserError(f"no row '{unknown[0]}'", where="--rows", fix=fix)
    return tuple(row for row in rows if not names or row.name in names)


def measure_row(
    row: Row, *, steps: int, data_dir: str | None, model: str, repeats: int, threads: int
) -> dict[str, Any]:
    """Train on all sides in turn, in blocks of so many optimizer steps.

    Returns:
        steps and repeats; gflops, of plain products, a number a repeat; rows_sha256, of the row
        numbers of all timed steps in their order, alike on all sides but group_by_length; and for
        each side, a number a repeat: seconds, samples, tokens (without padding) and flops (needed);
        and its peak_memory in bytes.

    Raises:
        RuntimeError: a side failed, or had other rows or threads than the others.
    """
    max_steps = WARM_UP_STEPS + repeats * steps
    work = Work(row.task, data_dir, model, row.batch_size, max_steps).dumps()
    limit = ("speed.limit", work)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        answers = alternate(
            {**{side: ("speed.training", side, work) for side in SIDES}, LIMIT: limit},
            warm_up={"steps": WARM_UP_STEPS},
            request={"steps": steps},
            repeats=repeats,
            folder=folder,
            threads=threads,
            title=row.name,
        )
        gflops = [answer["gflops"] for answer in answers.pop(LIMIT)]
        with Child(*limit, log=folder / "counts.log", threads=threads) as counter:
            sides = {
                side: summarize(blocks, [counter.ask(rows=block["rows"]) for block in blocks])
                for side, blocks in answers.items()
            }
    hashes = {side: hash_rows(blocks) for side, blocks in answers.items()}
    check_alike("rows", {side: value for side, value in hashes.items() if side != GROUPED})
    check_alike("threads", {side: blocks[-1]["threads"] for side, blocks in answers.items()})
    return {
        "steps": steps,
        "repeats": repeats,
        "batch_size": row.batch_size,
        "gflops": gflops,
        "rows_sha256": hashes,
        "sides": sides,
    }


def summarize(blocks: list[dict[str, Any]], counts: list[dict[str, int]]) -> dict[str, Any]:
    """What is kept of a side's blocks, with what was counted of their rows."""
    return {
        "seconds": [block["seconds"] for block in blocks],
        **{name: [count[name] for count in counts] for name in ("samples", "tokens", "flops")},
        "peak_memory": max(block["peak_memory"] for block in blocks),
    }


def hash_rows(blocks: list[dict[str, Any]]) -> str:
    """SHA-256 of the row numbers of every step, in their order."""
    rows = [step for block in blocks for step in block["rows"]]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def check_alike(what: str, values: dict[str, Any]) -> None:
    """Check that sides have the same of something.

    Raises:
        RuntimeError: one differs from plainloop's.
    """
    different = {side: value for side, value in values.items() if value != values[AUTO]}
    if different:
        raise RuntimeError(f"not the same {what}: {AUTO} has {values[AUTO]}, {different}")
