"""What distinguishes two policies, by the names of their rules."""

from __future__ import annotations

import pytest

from sluicegate.policy.changes import PolicyChanges, compare_policies
from tests.flows.entry_kit import rules

A = '[[rule]]\nname = "a"\nto = ["a.example"]\n'
B = '[[rule]]\nname = "b"\nto = ["b.example"]\n'
C = '[[rule]]\nname = "c"\nto = ["c.example"]\n'

CASES = [
    ("the same", A + B, A + B, PolicyChanges()),
    ("one more", A, A + B, PolicyChanges(added=("b",))),
    ("one less", A + B, B, PolicyChanges(removed=("a",))),
    ("a host", A + B, A.replace("a.ex", "x.ex") + B, PolicyChanges(changed=("a",))),
    ("a filter", A, A + 'filters = ["f"]\n', PolicyChanges(changed=("a",))),
    ("an action", A, A + 'action = "deny"\n', PolicyChanges(changed=("a",))),
    ("an owner", A, A + 'owner = "net"\ncomment = "x"\n', PolicyChanges()),
    ("another name", A, A.replace('"a"', '"z"'), PolicyChanges(added=("z",), removed=("a",))),
    ("one moved", A + B + C, B + C + A, PolicyChanges(moved=("a",))),
    ("one between", A + C, A + B + C, PolicyChanges(added=("b",))),
    ("turned round", A + B + C, C + B + A, PolicyChanges(moved=("c", "b"))),
    ("a publication becomes a rule of that name", A, "", PolicyChanges(removed=("a",))),
]


@pytest.mark.parametrize(("before", "after", "changes"), [one[1:] for one in CASES],
                         ids=[one[0] for one in CASES])  # fmt: skip
def test_rules_are_compared_by_what_can_change_a_decision(
    before: str, after: str, changes: PolicyChanges
) -> None:
    found = compare_policies(rules(before).policy, rules(after).policy)
    assert found == changes
    assert (rules(before).hash == rules(after).hash) == (changes == PolicyChanges())
