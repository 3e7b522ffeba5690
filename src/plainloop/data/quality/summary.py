"""The data doctor: what a data set holds, what is wrong with it, and how far simple models get."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from plainloop.config.tasks import Task
from plainloop.console import progress_bar
from plainloop.data.quality import findings
from plainloop.data.quality.findings import MOST_SHOWN, Finding, ShowRows, Split, count_labels
from plainloop.errors import printable
from plainloop.metrics.task_metric import METRICS, Scores

if TYPE_CHECKING:
    from datasets import DatasetDict

MOST_BASELINE_ROWS = 20_000
SEED = 0
BASELINE_METRICS = {
    "single_label_classification": ("accuracy", "f1_macro"),
    "multi_label_classification": ("accuracy", "f1_micro", "f1_macro"),
    "regression": ("rmse", "mae", "r2"),
}
MOST_WORDS = 50_000
TOKENIZED_TOGETHER = 1000
NO_LIMIT = 10**9  # a tokenizer without a limit gives 1e30
MOST_LABELS_SHOWN = 20
# A Chinese or Japanese letter is a word, as no space parts these words.
WORD = r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+"
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
        """What makes training impossible."""
        return tuple(finding for finding in self.found if finding.severity == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """What is likely to be wrong."""
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
            yield f"baseline  {name:<28}  {shown}"
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
    show: ShowRows = show_rows,
) -> Findings:
    """Look for what is wrong with a data set before anything is trained on it.

    Args:
        raw: the splits as read.
        task: its text columns, label names and problem type.
        tokenizer: called as those of transformers are; without it no tokens are counted.
        max_length: tokens kept of a row; None: the tokenizer's own limit.
        quick: leave out tokens, characters of a wrong encoding, and baselines.
        show: split and row numbers (from 0, all of a finding) -> how a person finds them.
    """
    splits = findings.read_arrays(raw, task)
    found = [*find_impossible(splits, task)]
    found += findings.find_in_texts(splits, task, show)
    found += findings.find_in_labels(splits, task, show)
    summaries = {split.name: _summarize(split, task) for split in splits}
    limit: int | None = None
    baselines: dict[str, Scores] = {}
    if not quick:
        for split in splits:
            found += findings.find_in_characters(split, task, show)
        if tokenizer is not None:
            limit = min(max_length or NO_LIMIT, tokenizer.model_max_length)
            limit = None if limit >= NO_LIMIT else limit
            for split in splits:
                lengths = count_tokens(split, tokenizer)
                cut = float((lengths > limit).mean()) if limit and len(lengths) else None
                summary = summaries[split.name]
                summaries[split.name] = replace(summary, tokens=describe(lengths), truncated=cut)
        if not any(finding.severity == "error" for finding in found):
            by_name = {split.name: split for split in splits}
            baselines, notes = score_baselines(by_name["train"], by_name["validation"], task)
            found += notes
    found.sort(key=lambda finding: ("error", "warning", "note").index(finding.severity))
    return Findings(task.name, task.problem_type, limit, summaries, baselines, tuple(found))


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


def describe(values: ArrayLike) -> Distribution:
    """Five numbers about some values."""
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


def score_baselines(
    train: Split, validation: Split, task: Task
) -> tuple[dict[str, Scores], list[Finding]]:
    """Fit the constant that fits best, and a linear model of TF-IDF; score both on validation.

    Words and pairs of adjacent words in at least two rows, at most 50,000; a pair's texts are
    joined. The linear model is scikit-learn's LogisticRegression, one for each label where a row
    may have several, or Ridge. Of each split at most 20,000 rows are used.
    """
    from sklearn.dummy import DummyClassifier, DummyRegressor
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.multiclass import OneVsRestClassifier

    notes = []
    if len(train.texts) > 1:
        message = "the TF-IDF baseline joins both texts: it cannot see which words they share"
        notes.append(Finding("pairs_joined", "note", message))
    samples = []
    for split in (train, validation):
        rows = np.arange(len(split.idx))
        if len(rows) > MOST_BASELINE_ROWS:
            draw = np.random.default_rng(SEED)
            rows = np.sort(draw.choice(rows, MOST_BASELINE_ROWS, replace=False))
            message = f"the baselines use {len(rows)} random rows of {len(split.idx)}"
            notes.append(Finding("baseline_sample", "note", message, split.name))
        joined = pc.binary_join_element_wise(*split.texts, pa.scalar(" ", pa.large_string()))
        assert split.labels is not None, split.name  # noqa: S101
        samples.append((joined.take(pa.array(rows)).to_pylist(), split.labels[rows]))
    (texts, labels), (other_texts, references) = samples
    constant, linear = DummyClassifier(strategy="most_frequent"), LogisticRegression(max_iter=200)
    names = ("most frequent label", "TF-IDF + logistic regression")
    if task.problem_type == "multi_label_classification":
        # Here in a third of the default solver's time: 16 s for 20 labels of 20,000 rows.
        linear = OneVsRestClassifier(LogisticRegression(solver="liblinear", random_state=SEED))
    elif task.problem_type == "regression":
        constant, linear, names = DummyRegressor(), Ridge(), ("mean", "TF-IDF + ridge")
    constant.fit(texts, labels)
    scores = {names[0]: _score(references, constant.predict(other_texts), task)}
    # A word of a single row would shrink the others of its row, unlike in the rows of validation.
    words = TfidfVectorizer(
        token_pattern=WORD, ngram_range=(1, 2), min_df=2, max_features=MOST_WORDS, sublinear_tf=True
    )
    bar = progress_bar(total=1, desc="TF-IDF baseline", delay=1)
    with bar, warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # good enough for a baseline
        warnings.filterwarnings("ignore", message="Label .* is present in all")
        try:
            features = words.fit_transform(texts)
        except ValueError:  # scikit-learn's word for an empty vocabulary
            features = None
        if features is None or (labels == labels[0]).all():
            message = "no TF-IDF baseline: no word in two rows, or one label in the rows drawn"
            return scores, [*notes, Finding("no_baseline", "note", message, "train")]
        linear.fit(features, labels)
        bar.update()
    predictions = linear.predict(words.transform(other_texts))
    return {**scores, names[1]: _score(references, predictions, task)}, notes


def _score(references: NDArray[Any], predictions: NDArray[Any], task: Task) -> Scores:
    names = dict.fromkeys((*BASELINE_METRICS[task.problem_type], *task.metrics))
    rows = np.reshape(predictions, references.shape)
    scores = {name: METRICS[name](references, rows) for name in names if name in METRICS}
    return {name: score for name, score in scores.items() if np.isfinite(score)}
