"""Expected errors: their exit codes, their one line, and the hint for a misspelt word."""

import pytest

from plainloop.errors import DivergedError, MachineError, PlainloopError, UserError, nearest


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
    assert str(UserError.together([first, second])) == "x: a; f\nb"
    assert UserError.together([first]) is first


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
