"""The words of the docs, docstrings, comments and messages: what a list of patterns can hold."""

import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROSE = ["README.md", "CONTRIBUTING.md", "docs/*.md", "docs/how-to/*.md"]
MEASURED = {"docs/performance.md", "docs/architectures.md"}  # which benchmarks write
CODE = ["train.py", "src/plainloop/**/*.py", "examples/*.py", "docs/*.py"]
TEMPLATES = ["src/plainloop/**/*.jinja", "src/plainloop/**/*.yaml"]
WORDS = {
    r"\banew\b": "again",
    r"\bwhence\b": "from which",
    r"\bhence\b": "so, therefore",
    r"\balike\b": "the same, equally",
    r"\bmend(s|ed|ing)?\b": "fix, repair",
    r"\bbeside\b": "next to, with",
    r"\bas ever\b": "as before",
    r"'s kin\b|\bits kin\b": "similar models",
    r"\bone's own\b": "your",
    r"\bours\b(?!:)": "plainloop's",
    r"\bwhole\b(?! numbers?\b)": "complete, entire, full",
    r"\b(goes|went) on\b": "continues, resumes",
    r"\b(that|which|what|rows|whose|folder) (is|are) there\b|\b(is|are) there already\b": "exists",
    r"\bwhere there (is|are)\b": "if there is",
    r"\bstands?\b(?! for\b)": "is",
    r"(?:^|[.:;] )(Of|So|Alone|Stopped)\b,?(?! that\b)": "a subject first",
    r"\bgo two ways\b": "cannot be combined",
    r"\bsimple models?\b": "baseline",
    r"\bdraw of the rows\b": "the field's term: sampling, confidence interval",
}
"""Pattern -> what to write instead."""
OLD_NAMES = (
    "own_part weight_of window_weight in_training_steps waiting_at_most KeptRows "
    "failing_together ask_around leave_the_word is_first_to_say is_of_another run_identity "
    "NO_NUMBER_DEPENDS_ON find_twins survey_files"
)
NAMES = re.compile(rf"\b({'|'.join(OLD_NAMES.split())})\b")


def texts_of_code(source: str) -> Iterator[tuple[int, str]]:
    """The lines of the comments and strings of Python code, which hold all that it says."""
    kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", None)}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in kinds:
            for number, line in enumerate(token.string.splitlines()):
                said = re.sub(r"^\s*(#+|[rfb]{0,2}[\"']+)?\s*|\{[^}]*\}", "", line)
                yield token.start[0] + number, said


def texts_of_page(source: str) -> Iterator[tuple[int, str]]:
    """The lines of a page without its blocks of code, which others check, and quoted words."""
    in_block = False
    for number, line in enumerate(source.splitlines(), 1):
        if line.lstrip().startswith("```"):
            in_block = not in_block
        elif not in_block:
            yield number, re.sub(r"`[^`]*`|<!--.*?-->|\"[^\"]*\"", "X", line).strip(" -*>")


@cache
def all_texts() -> list[tuple[str, int, str]]:
    """File, line number and line of every text of the project but its samples and tests."""
    found = []
    readers = ((PROSE + TEMPLATES, texts_of_page), (CODE, texts_of_code))
    for patterns, read in readers:
        for path in sorted({path for pattern in patterns for path in ROOT.glob(pattern)}):
            name = path.relative_to(ROOT).as_posix()
            if name not in MEASURED:
                lines = read(path.read_text(encoding="utf-8"))
                found += [(name, number, line) for number, line in lines]
    return found


@pytest.mark.parametrize("pattern", WORDS)
def test_no_text_has_words_that_a_reader_stumbles_over(pattern):
    found = re.compile(pattern)
    places = [f"{name}:{n}: {line}" for name, n, line in all_texts() if found.search(line)]
    assert places == [], f"write instead: {WORDS[pattern]}"


def test_no_file_has_a_name_that_was_given_up():
    paths = sorted({path for pattern in PROSE + CODE for path in ROOT.glob(pattern)})
    found = [(path.name, NAMES.findall(path.read_text("utf-8"))) for path in paths]
    assert [(name, names) for name, names in found if names] == []


def test_each_pattern_finds_what_it_is_for():
    told = (
        "do it anew, whence, hence, treats both alike, mends it, beside it, as ever, RoBERTa's kin, "
        "one's own, ours, the whole, goes on, what is there, where there is, stands at. Of it; "
        "they go two ways; simple models; draw of the rows"
    )
    assert [pattern for pattern in WORDS if not re.search(pattern, told)] == []
    fine = "whole numbers, stands for, the run is over there, Offline. So that"
    assert [pattern for pattern in WORDS if re.search(pattern, fine)] == []
    assert [*texts_of_code("stands = 1  # of it\n")] == [(1, "of it")]
    assert [*texts_of_page("`whole`\n```\nwhole\n```\n")] == [(1, "X")]
