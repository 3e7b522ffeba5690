"""Find the text and label columns of a file by rules; ask the user if several fit.

1. What a flag names is taken: `--text-column` (one or two), `--label-column`, `--group-column`.
2. Else a column is known by its name, whatever its case, spaces, underscores and hyphens:
   - a pair: sentence1 and sentence2, premise and hypothesis, question1 and question2, question and
     answer, query and passage, ... (`PAIRS`);
   - a text: text, sentence, review, comment, content, body, message, tweet, title, ... (`TEXTS`);
     a column of numbers or of true and false is none, whatever its name;
   - a label: label, labels, gold_label (`LABELS`); where there is none of these: target, class,
     category, sentiment, intent, score, rating, stars, is_spam, ... (`OTHER_LABELS`).
3. Else it is known by what it holds, if it is the only one: the text is long (20 characters on
   average) and mostly unique; the label has few values (at most 100, each twice on average). Ids,
   index columns, addresses and dates are neither, nor is a header that looks like a row of data.

Where two columns fit equally well, nothing is chosen: the message names them and the flag that
decides. Two texts make a pair only where `PAIRS` or a flag says so: a title and a body, or a
summary and a review, are a question to you.
"""

import re
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from plainloop.data.custom.column_types import (
    can_be_text,
    describe,
    draw_sample,
    filled,
    has_few_values,
    is_long_text,
    is_number,
    is_worded,
)
from plainloop.errors import UserError, nearest

if TYPE_CHECKING:
    from plainloop.data.files.tables import Source

PAIRS = (
    ("sentence1", "sentence2"),
    ("sentencea", "sentenceb"),
    ("text1", "text2"),
    ("texta", "textb"),
    ("text", "textpair"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "answer"),
    ("question", "sentence"),
    ("question", "passage"),
    ("question", "context"),
    ("query", "passage"),
    ("query", "document"),
    ("claim", "evidence"),
    ("context", "response"),
    ("string1", "string2"),
    ("#1string", "#2string"),  # GLUE's MRPC
)
TEXTS = frozenset(
    """text texts sentence sentences sentencetext review reviews reviewtext reviewbody reviewcontent
    comment comments commenttext commentbody content contents body message messagetext msg messages
    tweet tweets tweettext originaltweet post posttext title headline newsheadline reviewtitle
    reviewheadline summary subject description shortdescription abstract article articletext
    articlebody document documenttext question questiontext questiontitle query utterance statement
    passage paragraph phrase email emailtext mail sms feedback feedbacktext complaint narrative
    consumercomplaintnarrative transcript transcription claim quote prompt cleantext selftext""".split()  # noqa: SIM905
)
LABELS = frozenset(("label", "labels", "goldlabel"))
OTHER_LABELS = frozenset(
    """target targets class classes category categories sentiment sentiments airlinesentiment
    polarity emotion emotions intent intents topic topics tag tags stance score rating ratings
    reviewrating starrating stars star isspam spam istoxic isduplicate issarcastic coarselabel
    finelabel labelcoarse labelfine quality y""".split()  # noqa: SIM905
)
# Parts of a name that say: this column tells rows apart, it does not describe them.
NO_CANDIDATE = frozenset(
    """id ids idx index uuid guid qid uid pid url uri link href date datetime time timestamp
    created updated unnamed""".split()  # noqa: SIM905
)
HEADED = (".csv", ".tsv", ".txt")  # formats whose first line may be a row by mistake
WORDS_OF_A_ROW = 5  # a column's name with as many words is a text
MOST_NAMES_SHOWN = 12


@dataclass(frozen=True)
class Columns:
    """Text and label columns of a file.

    Attributes:
        text: one column, or two of a pair.
        label: the column of labels; None where none was looked for.
        reasons: one printable line for each decision.
    """

    text: tuple[str, ...]
    label: str | None
    reasons: tuple[str, ...]


def find_columns(
    source: "Source",
    *,
    text_column: Sequence[str] = (),
    label_column: str | None = None,
    group_column: str | None = None,
    labelled: bool = True,
) -> Columns:
    """Find the text and label columns by this module's rule.

    Args:
        source: the file; its content is looked at in at most 10,000 rows, drawn evenly.
        text_column: what `--text-column` names, one or two.
        label_column: what `--label-column` names.
        group_column: what `--group-column` names; it may be a text, but not the label.
        labelled: whether a label column is required. If not, `label_column` is used if the file has
            it, and no column is searched for.

    Raises:
        UserError: a named column that is absent or cannot be used, no candidate, or several.
    """
    table, where = source.table, source.path
    wanted_label = label_column if labelled or label_column in table.column_names else None
    _check_flags(source, text_column, wanted_label, group_column)
    problems: list[UserError] = []
    text, label = tuple(text_column), wanted_label
    sample = draw_sample(table)
    rest = [name for name in table.column_names if name not in (*text, label, group_column)]

    label_reason = "--label-column"
    if labelled and label is None:
        try:
            label, label_reason = _find_by_label_name(rest, where)
        except UserError as problem:
            problems.append(problem)
    reason = "--text-column"
    if not text:
        try:
            text, reason = _find_text([name for name in rest if name != label], sample, where)
        except UserError as problem:
            problems.append(problem)
    if not problems and labelled and label is None:
        label, label_reason = _find_by_few_values(
            [name for name in rest if name not in text], sample, where
        )
    if problems:
        raise UserError.together(problems)

    shown = " and ".join(map(repr, text))
    reasons = [f"text: column{'s' * (len(text) - 1)} {shown} ({reason})"]
    reasons += [
        f"text: column {name!r} holds numbers; they are read as text"
        for name in text
        if is_number(table.schema.field(name).type)
    ]
    if label is not None:
        reasons.append(f"label: column {label!r} ({label_reason})")
    return Columns(text, label, tuple(reasons))


def _check_flags(
    source: "Source", text: Sequence[str], label: str | None, group: str | None
) -> None:
    schema, where = source.table.schema, source.path
    given = [("--text-column", name) for name in text]
    given += [("--label-column", label)] if label is not None else []
    given += [("--group-column", group)] if group is not None else []
    problems = []
    if len(text) > len(PAIRS[0]):
        problems.append(
            UserError(f"{len(text)} columns", where="--text-column", fix="give one, or two: a pair")
        )
    for flag, name in given:
        if name not in schema.names:
            problems.append(_absent(source, flag, name))
        elif flag == "--text-column" and not can_be_text(schema.field(name).type):
            problems.append(_holds_no_text(schema.field(name), where))
    for one, other in ((text[:1], text[1:2]), (text, [label]), ([group], [label])):
        for name in {*one} & {*other} - {None}:
            flags = " and ".join(dict.fromkeys(flag for flag, column in given if column == name))
            what = f"column {name!r} is named twice; the two must differ"
            problems.append(UserError(what, where=flags, fix=_columns_are(schema.names)))
    if problems:
        raise UserError.together(list({str(problem): problem for problem in problems}.values()))


def _absent(source: "Source", flag: str, name: str) -> UserError:
    names = source.table.column_names
    if _header_is_a_row(source.table, source.path):
        return _no_header(names, source.path)
    hint = nearest(repr(name), map(repr, names))
    return UserError(
        f"no column {name!r}; {_columns_are(names)}",
        where=source.path,
        fix=f"{flag}: {hint if hint.startswith('did you mean') else 'give one of these'}",
    )


def _holds_no_text(field: pa.Field, where: str) -> UserError:
    return UserError(
        f"column {field.name!r} holds {describe(field.type)}, need text",
        where=where,
        fix="--text-column names another, or write its texts as strings",
    )


def _find_by_label_name(names: Sequence[str], where: str) -> tuple[str | None, str]:
    for known in (LABELS, OTHER_LABELS):
        found = [name for name in names if _key(name) in known]
        if len(found) > 1:
            raise _ambiguous("the label", found, where, "--label-column NAME decides")
        if found:
            return found[0], "a known name for a label"
    return None, ""


def _find_text(names: Sequence[str], sample: pa.Table, where: str) -> tuple[tuple[str, ...], str]:
    by_key = {_key(name): name for name in names}
    pairs = [tuple(by_key[key] for key in pair) for pair in PAIRS if {*pair} <= {*by_key}]
    known = {name for name in names if _key(name) in TEXTS} | {n for pair in pairs for n in pair}
    fits = [name for name in names if name in known and is_worded(sample[name])]
    if known and not fits:
        name = next(name for name in names if name in known)
        if not can_be_text(sample.schema.field(name).type):
            raise _holds_no_text(sample.schema.field(name), where)
    for pair in pairs:
        if {*pair} == {*fits}:
            return pair, "a known pair"
    if len(fits) == 1:
        return (fits[0],), "a known name for text"
    reason = "the only column of long, mostly unique text"
    if not fits:
        if _header_is_a_row(sample, where):
            raise _no_header(sample.column_names, where)
        free = [name for name in names if not _tells_rows_apart(name)]
        fits = [name for name in free if is_long_text(sample[name])]
    if len(fits) > 1:
        fix = f"--text-column {fits[0]!r} takes one, --text-column {fits[0]!r} {fits[1]!r} a pair"
        raise _ambiguous("the text", fits, where, fix)
    if not fits:
        what = f"no column is known or looks like the text; {_columns_are(sample.column_names)}"
        raise UserError(what, where=where, fix="name it: --text-column NAME")
    return (fits[0],), reason


def _find_by_few_values(names: Sequence[str], sample: pa.Table, where: str) -> tuple[str, str]:
    free = [name for name in names if not _tells_rows_apart(name)]
    fits = [name for name in free if has_few_values(sample[name])]
    if len(fits) > 1:
        raise _ambiguous("the label", fits, where, "--label-column NAME decides")
    if not fits:
        raise UserError(
            f"no column is known or looks like the label; {_columns_are(sample.column_names)}",
            where=where,
            fix="name it: --label-column NAME; or is this an unlabelled test split?",
        )
    return fits[0], "the only other column of few values"


def _ambiguous(what: str, names: Sequence[str], where: str, fix: str) -> UserError:
    shown = " or ".join(map(repr, names[:MOST_NAMES_SHOWN]))
    return UserError(f"{what} may be {shown}", where=where, fix=fix)


def _no_header(names: Sequence[str], where: str) -> UserError:
    shown = ", ".join(map(reprlib.repr, names[:MOST_NAMES_SHOWN]))
    return UserError(
        f"no header: the first row looks like data ({shown})",
        where=where,
        fix="put the columns' names into the first line, such as text and label (if these are the "
        "names, give --text-column and --label-column)",
    )


def _columns_are(names: Sequence[str]) -> str:
    more = f" (+{len(names) - MOST_NAMES_SHOWN} more)" if len(names) > MOST_NAMES_SHOWN else ""
    return f"columns: {', '.join(map(repr, names[:MOST_NAMES_SHOWN]))}{more}"


def _key(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).casefold()


def _tells_rows_apart(name: str) -> bool:
    parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)
    return not name.strip() or any(part.casefold() in NO_CANDIDATE for part in parts)


def _header_is_a_row(table: pa.Table, where: str) -> bool:
    """Whether the header looks like a row: a column name is one of its values, or a sentence."""
    if not any(ending in where.casefold() for ending in HEADED):
        return False
    names = [name for name in table.column_names if name]
    return any(len(name.split()) >= WORDS_OF_A_ROW for name in names) or any(
        name in set(filled(draw_sample(table)[name])) for name in names
    )
