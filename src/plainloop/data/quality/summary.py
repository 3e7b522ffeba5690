"""Data check: summary of the splits, problems in the rows, and baseline scores."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from plainloop.config.tasks import Task
from plainloop.console import progress_bar
from plainloop.data.quality import findings
from plainloop.data.quality.baselines import score_baselines
from plainloop.data.quality.findings import (
    MOST_SHOWN,
    Finding,
    Severity,
    ShowRows,
    Split,
    count_labels,
)
from plainloop.errors import UserError, printable
from plainloop.metrics.scorer import Scores

if TYPE_CHECKING:
    from datasets import DatasetDict

TOKENIZED_TOGETHER = 1000
LARGE_TARGET, LARGEST_TARGET = 1000, 1e18  # the square of 2e19 is infinite in float32
FIXES = {
    "no_rows": "give a file with rows",
    "no_labels": "give a labelled file",
    "only_empty_texts": "name another --text-column",
    "one_label": "give rows of other labels (--max-train-samples takes the first rows)",
    "target_scale": "write the standardised targets into the file",
}
NO_LIMIT = 10**9  # a tokenizer without a limit gives 1e30
MOST_LABELS_SHOWN = 20
Embed = Callable[[], dict[str, Scores]]
Distribution = dict[str, float]  # min, median, mean, percentile_95, max; empty without a value


@dataclass(frozen=True)
class SplitSummary:
    """What one split holds.

    Attributes:
        rows: how many.
        labels: rows of each label, and their share; None for regression and without labels.
        target: the values of a regression.
        characters: lengths of each text column.
        tokens: lengths of the rows as the model gets them but not cut, special tokens included.
        truncated: share of the rows that are longer than max_length.
    """

    rows: int
    labels: dict[str, dict[str, float]] | None
    target: Distribution | None
    characters: dict[str, Distribution]
    tokens: Distribution | None = None
    truncated: float | None = None


@dataclass(frozen=True)
class Findings:
    """What `check_data` found, as plain values.

    Attributes:
        max_length: tokens kept of a row; None where nothing was tokenized, or nothing is cut.
        baselines: the scores on validation of models that need only seconds.
        found: the findings, errors first.
    """

    task: str
    problem_type: str
    max_length: int | None
    splits: dict[str, SplitSummary]
    baselines: dict[str, Scores]
    found: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Findings that make training impossible."""
        return tuple(finding for finding in self.found if finding.severity == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Findings that are probably mistakes in the data."""
        return tuple(finding for finding in self.found if finding.severity == "warning")

    def to_dict(self) -> dict[str, Any]:
        """For check.json: `rows` of a finding count from 0, `shown` is how the summary names them."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """The summary; a line for each finding begins with its severity."""
        yield f"{printable(self.task)}: {self.problem_type.replace('_', ' ')}"
        yield from _lines_of_labels(self.splits)
        yield from _lines_of_lengths(self.splits, self.max_length)
        for name, scores in self.baselines.items():
            shown = ", ".join(f"{metric} {value:.4f}" for metric, value in scores.items())
            yield f"baseline  {name:<39}  {shown}"
        for finding in self.found:
            yield f"{finding.severity:<8}  {finding}"


def _lines_of_labels(splits: dict[str, SplitSummary]) -> Iterator[str]:
    yield f"{'':<22}" + "".join(f"{printable(name):>18}" for name in splits)
    yield f"{'rows':<22}" + "".join(f"{split.rows:>18}" for split in splits.values())
    names = next((list(split.labels) for split in splits.values() if split.labels), [])
    for label in names[:MOST_LABELS_SHOWN]:
        found = [split.labels[label] if split.labels else None for split in splits.values()]
        cells = [f"{cell['rows']} {cell['share']:>7.1%}" if cell else "-" for cell in found]
        yield f"  {printable(label, most=15):<20}" + "".join(f"{cell:>18}" for cell in cells)
    if len(names) > MOST_LABELS_SHOWN:
        yield f"  (+{len(names) - MOST_LABELS_SHOWN} more labels)"


def _lines_of_lengths(splits: dict[str, SplitSummary], max_length: int | None) -> Iterator[str]:
    heads = ("min", "median", "mean", "95 %", "max")
    yield f"{'':<40}" + "".join(f"{head:>10}" for head in heads)
    for name, split in splits.items():
        parts = {f"{column} (characters)": found for column, found in split.characters.items()}
        for what, found in {**parts, "tokens": split.tokens, "label": split.target}.items():
            if found:
                cells = "".join(f"{value:>10.6g}" for value in found.values())
                yield f"{printable(name + ' ' + what, most=36):<40}{cells}"
    cut = [f"{name} {s.truncated:.1%}" for name, s in splits.items() if s.truncated is not None]
    if cut:
        yield f"cut at {max_length} tokens: {', '.join(cut)}"


def show_rows(_split: str, rows: Sequence[int]) -> str:
    """Rows from 0 as "rows 1, 5 (+3 more)", counted from 1."""
    more = f" (+{len(rows) - MOST_SHOWN} more)" if len(rows) > MOST_SHOWN else ""
    shown = ", ".join(str(row + 1) for row in rows[:MOST_SHOWN])
    return f"row{'s' * (len(rows) > 1)} {shown}{more}"


def check_data(
    raw: "DatasetDict",
    task: Task,
    *,
    tokenizer: Any = None,
    max_length: int | None = None,
    quick: bool = False,
    embed: Embed | None = None,
    show: ShowRows = show_rows,
    pair: Sequence[str] = (),
) -> Findings:
    """Find problems in a data set before a model is trained on it.

    Args:
        raw: the splits as read.
        task: its text columns, label names and problem type.
        tokenizer: called as those of transformers are; without it no tokens are counted.
        max_length: tokens kept of a row; None: the tokenizer's own limit.
        quick: leave out tokens, characters of a wrong encoding, and baselines.
        embed: computes a further baseline; None: it is left out.
        show: split and row numbers (from 0, all of a finding) -> the rows as a user finds them.
        pair: the text columns of a file that plainloop split, without regard to groups.
    """
    splits = findings.read_arrays(raw, task)
    found = [
        *find_impossible(splits, task),
        *findings.find_in_texts(splits, task, show),
        *findings.find_in_labels(splits, task, show),
        *findings.find_shared_side(splits, pair, show),
    ]
    summaries = {split.name: _summarize(split, task) for split in splits}
    first = Findings(task.name, task.problem_type, None, summaries, {}, _by_severity(found))
    if quick:
        return first
    if tokenizer is not None:
        most = min(max_length or NO_LIMIT, tokenizer.model_max_length)
        limit = most if most < NO_LIMIT else None
        for split in splits:
            lengths = count_tokens(split, tokenizer)
            cut = float((lengths > limit).mean()) if limit and len(lengths) else None
            summary = summaries[split.name]
            summaries[split.name] = replace(summary, tokens=describe(lengths), truncated=cut)
        first = replace(first, max_length=limit, splits=summaries)
    return _add_slow_findings(first, splits, task, show, embed)


def _add_slow_findings(
    first: Findings,
    splits: Sequence[Split],
    task: Task,
    show: ShowRows,
    embed: Embed | None,
    *,
    baselines: bool = True,
) -> Findings:
    """Add what takes longer: characters of a wrong encoding, and the baselines if wanted."""
    found = list(first.found)
    for split in splits:
        found += findings.find_in_characters(split, task, show)
    scores: dict[str, Scores] = {}
    if baselines and not first.errors:
        by_name = {split.name: split for split in splits}
        scores, notes = score_baselines(by_name["train"], by_name["validation"], task)
        found += notes
        if embed:
            scores |= embed()
    return replace(first, baselines=scores, found=_by_severity(found))


def _by_severity(found: list[Finding]) -> tuple[Finding, ...]:
    order = ("error", "warning", "note")
    return tuple(sorted(found, key=lambda finding: order.index(finding.severity)))


@dataclass(frozen=True)
class DataCheck:
    """The findings in the rows of a run, each part computed when it is first asked for, and once.

    The seeds of a run share one, so that the baselines are fitted once for the same rows.

    Attributes:
        raw: the splits as read.
        task: see `check_data`.
        show: see `check_data`.
        baselines: whether to fit the baselines.
        embed: see `check_data`.
        pair: see `check_data`.
    """

    raw: "DatasetDict"
    task: Task
    show: ShowRows = show_rows
    baselines: bool = True
    embed: Embed | None = None
    pair: tuple[str, ...] = ()

    @cached_property
    def quick(self) -> Findings:
        """The findings to be shown before training."""
        return check_data(self.raw, self.task, quick=True, show=self.show, pair=self.pair)

    @cached_property
    def complete(self) -> Findings:
        """All findings, for metrics.json."""
        splits = findings.read_arrays(self.raw, self.task)
        return _add_slow_findings(
            self.quick, splits, self.task, self.show, self.embed, baselines=self.baselines
        )


def find_impossible(splits: Sequence[Split], task: Task) -> Iterator[Finding]:
    """What makes training impossible."""
    for split in splits:
        if not len(split.idx) and split.name in {"train", "validation"}:
            yield Finding("no_rows", "error", "no rows", split.name)
        elif split.labels is None and split.name in {"train", "validation"}:
            yield Finding("no_labels", "error", "no labels", split.name)
        elif split.name == "train" and split.labels is not None:
            if split.empty.all():
                yield Finding("only_empty_texts", "error", "every text is empty", split.name)
            if (split.labels == split.labels[0]).all():
                name = ""
                if task.problem_type == "single_label_classification":
                    name = f" '{printable(task.label_names[split.labels[0]], most=40)}'"
                message = f"every row has the same label{name}: there is nothing to learn"
                yield Finding("one_label", "error", message, split.name)
            elif task.problem_type == "regression":
                yield from _find_scale(split.labels)


def refuse_impossible(found: Iterable[Finding]) -> None:
    """Raise the findings that make training impossible.

    Raises:
        UserError: there are such findings; a line for each.
    """
    errors = [finding for finding in found if finding.severity == "error"]
    if errors:
        raise UserError.together([UserError(str(one), fix=FIXES[one.kind]) for one in errors])


def _find_scale(targets: NDArray[Any]) -> Iterator[Finding]:
    """Targets whose squares overflow float32, or that are far from where a new head begins."""
    mean, deviation = float(np.mean(targets, dtype=float)), float(np.std(targets, dtype=float))
    largest = float(np.abs(targets).max())
    if largest > LARGE_TARGET:
        what = (
            f"targets of up to {largest:.3g} (mean {mean:.6g}, standard deviation {deviation:.6g})"
        )
        severity: Severity = "error" if largest > LARGEST_TARGET else "warning"
        lines = (
            f"mean, deviation = {mean:.6g}, {deviation:.6g}; target = (target - mean) / deviation"
        )
        why = f"{what} are far from a new head's outputs near 0; standardise them: {lines}"
        yield Finding("target_scale", severity, why, "train")


def describe(values: ArrayLike) -> Distribution:
    """Minimum, median, mean, 95th percentile and maximum; empty without a value."""
    found = np.asarray(values, np.float64)
    if not found.size:
        return {}
    low, mid, high, top = np.percentile(found, [0, 50, 95, 100]).tolist()
    mean = float(found.mean())
    return {"min": low, "median": mid, "mean": mean, "percentile_95": high, "max": top}


def _summarize(split: Split, task: Task) -> SplitSummary:
    labels = target = None
    if split.labels is not None and task.problem_type == "regression":
        target = describe(split.labels)
    elif split.labels is not None:
        labels = {
            name: {"rows": int(rows), "share": int(rows) / max(1, len(split.idx))}
            for name, rows in zip(task.label_names, count_labels(split, task), strict=True)
        }
    lengths = [describe(pc.utf8_length(texts).to_numpy()) for texts in split.texts]
    characters = dict(zip(task.text_columns, lengths, strict=True))
    return SplitSummary(len(split.idx), labels, target, characters)


def count_tokens(split: Split, tokenizer: Any) -> NDArray[np.int64]:
    """Tokens of each row, special ones included, nothing cut; holds the ids of one batch."""
    lengths = np.zeros(len(split.idx), np.int64)
    with progress_bar(total=len(lengths), desc=f"Tokens of {split.name}", delay=1) as bar:
        for start in range(0, len(lengths), TOKENIZED_TOGETHER):
            texts = [text.slice(start, TOKENIZED_TOGETHER).to_pylist() for text in split.texts]
            ids = tokenizer(*texts, truncation=False, verbose=False)["input_ids"]
            lengths[start : start + len(ids)] = [len(row) for row in ids]
            bar.update(len(ids))
    return lengths
