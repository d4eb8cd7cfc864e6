"""Differences between texts: what is shown, and that it leads from one to the other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sluicegate.policy import differences as module
from sluicegate.policy.differences import differences

TEXTS = st.lists(st.sampled_from(["a", "b", "c", ""]), max_size=12).map("\n".join)


def shown(before: str, after: str) -> list[str]:
    return [f"{line.mark}{line.text}" for line in differences(before, after)]


def test_equal_texts_have_none() -> None:
    assert differences("a\nb\n", "a\nb\n") == []


def test_changed_line_stands_between_those_around_it() -> None:
    before = "\n".join("abcdefghi")
    assert shown(before, before.replace("e", "E")) == [
        "@", " b", " c", " d", "-e", "+E", " f", " g", " h", "@",
    ]  # fmt: skip


def test_lines_have_the_numbers_of_both_texts() -> None:
    found = differences("a\nb", "new\na\nb")
    assert [(line.mark, line.old, line.new) for line in found] == [
        ("+", 0, 1), (" ", 1, 2), (" ", 2, 3),
    ]  # fmt: skip


def test_end_of_the_last_line_is_a_difference() -> None:
    assert shown("a", "a\n") == ["@only the end of a line differs"]


def test_too_many_lines_are_shown_as_other_ones() -> None:
    many = module.POLICY_DIFFERENCE_LINES_MAX
    before = "\n".join(f"old {number}" for number in range(many))
    after = "\n".join(f"new {number}" for number in range(many))
    marks = [line.mark for line in differences(before, after)]
    assert marks == ["-"] * many + ["+"] * many


@given(TEXTS, TEXTS)
def test_removed_and_added_lines_lead_from_one_text_to_the_other(before: str, after: str) -> None:
    found = differences(before, after)
    removed = [line.text for line in found if line.mark == "-"]
    added = [line.text for line in found if line.mark == "+"]
    left = before.splitlines()
    for line in reversed([line for line in found if line.mark == "-"]):
        assert left.pop(line.old - 1) == line.text
    for line in [line for line in found if line.mark == "+"]:
        left.insert(line.new - 1, line.text)
    assert left == after.splitlines()
    assert len(removed) - len(added) == len(before.splitlines()) - len(after.splitlines())
