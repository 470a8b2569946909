"""Errors: two lines, and an exit code that says what kind it was."""

from __future__ import annotations

import pytest

from kiln import errors
from kiln.errors import Exit, KilnError, RefusedError, UsageError


@pytest.mark.parametrize(
    ("kind", "code"), [(KilnError, Exit.FAILED), (UsageError, Exit.WRONG_USE), (RefusedError, Exit.REFUSED)]
)
def test_an_error_is_what_happened_and_what_to_do(kind: type[KilnError], code: Exit) -> None:
    error = kind("it broke", "mend it")
    assert (error.what, error.hint, error.code) == ("it broke", "mend it", code)
    assert str(error) == "it broke\nmend it"
    assert isinstance(error, KilnError)


def test_exit_codes_are_those_of_the_house_plan() -> None:
    assert {code.name: code.value for code in Exit} == {
        "DONE": 0,
        "FAILED": 1,
        "WRONG_USE": 2,
        "REFUSED": 3,
        "NOTHING_TO_DO": 4,
    }


@pytest.mark.parametrize("kind", [KilnError, UsageError, RefusedError])
def test_a_program_ends_on_it_with_two_lines_and_its_code(
    kind: type[KilnError], capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise kind("it broke", "mend it")

    assert errors.main(broken) == kind.code
    assert capsys.readouterr() == ("", "error: it broke\n  fix: mend it\n")


def test_a_program_that_is_done_is_0_whatever_it_returns() -> None:
    assert errors.main(lambda: "text") == 0


def test_what_nobody_foresaw_goes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        errors.main(lambda: 1 // 0)
