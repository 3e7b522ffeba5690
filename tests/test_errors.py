"""Expected errors: their exit codes, their one line, and the hint for a misspelt word."""

import pytest

from plainloop.errors import (
    DivergedError,
    MachineError,
    PlainloopError,
    UserError,
    nearest,
    printable,
)


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [(PlainloopError, 1), (UserError, 2), (MachineError, 4), (DivergedError, 5)],
)
def test_each_error_has_its_exit_code(error, exit_code):
    assert error.exit_code == exit_code
    assert isinstance(error("x"), PlainloopError)


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        ({}, "what"),
        ({"where": "where"}, "where: what"),
        ({"fix": "fix"}, "what; fix"),
        ({"where": "where", "fix": "fix"}, "where: what; fix"),
    ],
)
def test_an_error_is_one_line_of_where_what_and_fix(parts, line):
    assert str(UserError("what", **parts)) == line


def test_several_problems_are_a_line_each():
    first, second = UserError("a", where="x", fix="f"), UserError("b")
    both = UserError.together([first, second])
    assert str(both) == "x: a; f\nb"
    assert UserError.together([first]) is first
    assert UserError.together([both, UserError("c")]).lines() == ["x: a; f", "b", "c"]
    assert MachineError("").lines() == [], "another rank's error is not printed"


@pytest.mark.parametrize(
    "text", ["a\nerror: b", "a\r\nb", "a\x0bb", "a\x85b", "a\u2028b", "a\u2029b"]
)
def test_a_line_break_of_the_data_starts_no_new_line(text):
    [line] = UserError(text).lines()
    assert line.splitlines() == [line]
    assert line == text.encode("unicode_escape").decode()


def test_what_moves_a_cursor_or_turns_the_text_is_escaped():
    for code in [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]:
        assert printable(f"a{chr(code)}b") == f"a{chr(code)}b".encode("unicode_escape").decode()
    assert printable("\ud800") == "\\ud800"


def test_what_scripts_are_written_with_stays():
    text = "\u200d\u200c\u200e\u200f\xa0\u3000\ufe0f 👩\u200d🔬 \u0645\u06cc\u200c\u062e\u0648 日本 é ñ"
    assert printable(text) == text


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("acuracy", ["f1", "accuracy"], "did you mean accuracy?"),
        ("tran", ["train", "trains"], "did you mean train or trains?"),
        ("xyz", ["b", "a"], "known: a, b"),
        ("xyz", [], ""),
    ],
)
def test_the_nearest_known_words_are_shown(name, known, hint):
    assert nearest(name, known) == hint


def test_no_more_than_twelve_known_words_are_listed():
    assert nearest("xyz", map(str, range(100, 200))).count(",") == 11
