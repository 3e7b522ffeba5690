"""Find the text and label columns of a file by rules; ask the user if several fit.

1. What a flag names is taken: `--text-column` (one or two), `--label-column`, `--group-column`.
2. Else a column is a candidate by its name, whatever its case, spaces, underscores and hyphens:
   - a pair: sentence1 and sentence2, premise and hypothesis, question1 and question2, question and
     answer, query and passage, ... (`PAIRS`);
   - a text: text, sentence, review, comment, content, body, message, tweet, title, ... (`TEXTS`);
   - a label: label, labels, gold_label (`LABELS`); if there is none of these: target, class,
     category, sentiment, intent, score, rating, stars, is_spam, ... (`OTHER_LABELS`).
   Its content decides. A text is not only numbers, at least half filled, and has more than four
   different values. A label (other than `LABELS`) is at least half filled, has two values or more,
   and is no long text.
3. Else a column is found by its content, if it is the only one: the text is long (20 characters on
   average) and mostly unique; the label has few values (at most 100, each twice on average). Ids,
   index columns, addresses and dates are neither, nor is a header that looks like a row of data.

If two columns fit, nothing is chosen: the message names them and the flag that decides. A known
name competes with a column of long, mostly unique text if it usually names something shorter
(`SHORT_TEXTS`: title, question, ...) or its texts are less than half as long. Two texts make a pair
only if `PAIRS` or a flag says so: for a title and a body, or a summary and a review, you are asked.
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
    has_some_values,
    has_zeros_and_ones,
    is_constant,
    is_long_text,
    is_mostly_empty,
    is_number,
    is_repeated,
    is_worded,
    mean_length,
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
SHORT_TEXTS = frozenset(
    """title headline newsheadline reviewtitle reviewheadline questiontitle summary subject query
    question questiontext quote claim phrase""".split()  # noqa: SIM905
)
LABELS = frozenset(("label", "labels", "goldlabel"))
OTHER_LABELS = frozenset(
    """target targets class classes classindex category categories sentiment sentiments airlinesentiment
    polarity emotion emotions intent intents topic topics tag tags stance score rating ratings
    reviewrating starrating stars star isspam spam istoxic isduplicate issarcastic coarselabel
    finelabel labelcoarse labelfine quality y""".split()  # noqa: SIM905
)
TAGS = frozenset(("tag", "tags"))  # often keywords next to the label
# A column of few values with such a name is more often a property of the rows than their label.
PROPERTIES = frozenset(
    """source language lang locale origin platform channel country region split fold year month
    gender device version""".split()  # noqa: SIM905
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
    text, label = tuple(text_column), wanted_label
    sample = draw_sample(table)
    rest = [name for name in table.column_names if name not in (*text, label, group_column)]
    problems: list[UserError] = []
    fits: list[str] = []
    label_reason, reason = "--label-column", "--text-column"
    if labelled and label is None:
        fits, label_reason = _find_by_label_name(rest, sample)
        label = fits[0] if len(fits) == 1 else None
    if not text:
        text, reason, texts = _find_text([name for name in rest if name != label], sample, where)
        if texts:
            fix = f"--text-column {texts[0]!r} takes one, --text-column {texts[0]!r} {texts[1]!r} a pair"
            problems.append(_ambiguous("the text", texts, where, fix))
    if labelled and label is None:
        if not fits:
            fits = _find_by_few_values([name for name in rest if name not in text], sample)
            label_reason = "the only other column of few values"
        if len(fits) > 1:
            problems.append(_ambiguous("the label", fits, where, _choose_label(fits, sample)))
        elif not fits and not problems:
            problems.append(
                UserError(
                    f"no column is known or looks like the label; {_columns_are(table.column_names)}",
                    where=where,
                    fix="name it: --label-column NAME; or is this an unlabelled test split?",
                )
            )
    if problems:
        raise UserError.together(problems)
    label = label or next(iter(fits), None)

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


def match_name(name: str, names: Sequence[str]) -> str:
    """The column of this name; if there is none, the only one that differs by case, space, - or _."""
    alike = [other for other in names if _folded(other) == _folded(name)]
    return alike[0] if name not in names and len(alike) == 1 else name


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


def _find_by_label_name(names: Sequence[str], sample: pa.Table) -> tuple[list[str], str]:
    """The columns that are the label by their name and content, and why; several: ask."""
    reason = "a known name for a label"
    if strong := [name for name in names if _key(name) in LABELS]:
        return strong, reason
    known = [name for name in names if _key(name) in OTHER_LABELS]
    others = _find_by_few_values([name for name in names if name not in known], sample)
    fits = [name for name in known if _can_be_label(sample[name])]
    if not fits and others:
        # Perhaps a file of one class.
        filled_in = [name for name in known if not is_mostly_empty(sample[name])]
        fits = [name for name in filled_in if is_constant(sample[name])]
    elif not fits:
        return known, reason
    if len(fits) == 1 and (_key(fits[0]) in TAGS or not has_few_values(sample[fits[0]])):
        fits += others
    return fits, reason


def _can_be_label(column: pa.ChunkedArray) -> bool:
    if is_worded(column):
        return is_repeated(column) and not is_long_text(column)
    return not is_constant(column) and not is_mostly_empty(column)


def _find_text(
    names: Sequence[str], sample: pa.Table, where: str
) -> tuple[tuple[str, ...], str, list[str]]:
    """The text columns and why; or none, and the columns between which the user has to choose.

    Raises:
        UserError: there is no candidate.
    """
    by_key = {_key(name): name for name in names}
    pairs = [tuple(by_key[key] for key in pair) for pair in PAIRS if {*pair} <= {*by_key}]
    in_pairs = {name for pair in pairs for name in pair}
    known = [name for name in names if _key(name) in TEXTS or name in in_pairs]
    worded = [name for name in known if is_worded(sample[name])]
    if known and not worded and not can_be_text(sample.schema.field(known[0]).type):
        raise _holds_no_text(sample.schema.field(known[0]), where)
    fits = [n for n in worded if has_some_values(sample[n]) and not is_mostly_empty(sample[n])]
    for pair in pairs:
        if {*pair} == {*worded}:
            return ((), "", worded) if len(fits) == 1 else (pair, "a known pair", [])
    free = [name for name in names if name not in known and not tells_rows_apart(name)]
    long = [name for name in free if is_long_text(sample[name])]
    if len(fits) == 1:
        size = mean_length(sample[fits[0]])
        is_short = _key(fits[0]) in SHORT_TEXTS or not is_long_text(sample[fits[0]])
        fits += [name for name in long if is_short or mean_length(sample[name]) >= 2 * size]
    reason = "a known name for text"
    if not fits:
        if not worded and _header_is_a_row(sample, where):
            raise _no_header(sample.column_names, where)
        others = [n for n in free if is_worded(sample[n]) and has_some_values(sample[n])]
        fits, reason = long, "the only column of long, mostly unique text"
        if worded and not long:
            fits, reason = [*worded, *others], "a known name for text"
    if not fits:
        what = f"no column is known or looks like the text; {_columns_are(sample.column_names)}"
        raise UserError(what, where=where, fix="name it: --text-column NAME")
    if unlike := [name for name in worded if name not in fits]:
        reason += f"; {', '.join(map(repr, unlike))}: empty or few values"
    return (tuple(fits), reason, []) if len(fits) == 1 else ((), "", fits)


def _find_by_few_values(names: Sequence[str], sample: pa.Table) -> list[str]:
    """The columns of few values, those of words before those of numbers."""
    free = [n for n in names if not tells_rows_apart(n) and _key(n) not in TEXTS]
    fits = [name for name in free if has_few_values(sample[name])]
    if len(fits) == 1 and _key(fits[0]) in PROPERTIES:
        fits += [n for n in free if n not in fits and is_repeated(sample[n])]
    return sorted(fits, key=lambda name: not is_worded(sample[name]))


def _choose_label(names: Sequence[str], sample: pa.Table) -> str:
    hot = [repr(name) for name in names if has_zeros_and_ones(sample[name])]
    if len(hot) <= 1:
        return "--label-column NAME decides"
    return f"--label-column {hot[0]} takes one, --label-column {' '.join(hot)} several in a row"


def _ambiguous(what: str, names: Sequence[str], where: str, fix: str) -> UserError:
    more = f" (+{len(names) - MOST_NAMES_SHOWN} more)" if len(names) > MOST_NAMES_SHOWN else ""
    shown = " or ".join(map(repr, names[:MOST_NAMES_SHOWN]))
    return UserError(f"{what} may be {shown}{more}", where=where, fix=fix)


def _no_header(names: Sequence[str], where: str) -> UserError:
    shown = ", ".join(map(reprlib.repr, names[:MOST_NAMES_SHOWN]))
    return UserError(
        f"no header: the first row looks like data ({shown})",
        where=where,
        fix="--no-header takes it as a row of columns 1, 2, ... (if these are the names, give "
        "--text-column and --label-column)",
    )


def _columns_are(names: Sequence[str]) -> str:
    more = f" (+{len(names) - MOST_NAMES_SHOWN} more)" if len(names) > MOST_NAMES_SHOWN else ""
    return f"columns: {', '.join(map(repr, names[:MOST_NAMES_SHOWN]))}{more}"


def _key(name: str) -> str:
    """What a column is known by: of data.text, the value text."""
    return _folded(name.rpartition(".")[2] or name)


def _folded(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).casefold()


def is_known_label(name: str) -> bool:
    """Whether a column of this name is the label, whatever else there is."""
    return _key(name) in LABELS


def is_known_text(name: str) -> bool:
    """Whether a column of this name may be the text."""
    return _key(name) in TEXTS


def tells_rows_apart(name: str) -> bool:
    """Whether a column of this name is an id, an index, an address or a date."""
    parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)
    return not name.strip() or any(part.casefold() in NO_CANDIDATE for part in parts)


def _header_is_a_row(table: pa.Table, where: str) -> bool:
    """Whether the header looks like a row: a column name is one of its values, or a sentence."""
    if not any(ending in where.casefold() for ending in HEADED):
        return False
    names = [name for name in table.column_names if name]
    return any(len(name.split()) >= WORDS_OF_A_ROW for name in names) or any(
        name in set(map(str, filled(draw_sample(table)[name]))) for name in names
    )
