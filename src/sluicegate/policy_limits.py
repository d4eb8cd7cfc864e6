"""What a policy may take, in files, entries and time: fixed numbers, each with its reason.

``policy`` and whoever reads its files import them; ``limits`` has those of the engine and those
that an operator may set. The invariant: what is above a number is refused when a policy is loaded.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "CLOCK_LOOKED_AT_S",
    "HISTORY_RECORDS_MAX",
    "JUDGED_AGAIN_PER_TURN_MIN",
    "JUDGED_AGAIN_WITHIN_S",
    "LEARNED_DESTINATIONS_MAX",
    "POLICY_EXPIRY_NOTICE_DAYS",
    "POLICY_FILE_BYTES_MAX",
    "POLICY_INCLUDES_MAX",
    "POLICY_LEARN_DAYS_MAX",
    "POLICY_LIST_BYTES_MAX",
    "POLICY_PATTERN_BYTES_MAX",
    "POLICY_PATTERN_MEMORY_BYTES_MAX",
    "SHADOW_PIECES_MAX",
    "SHADOW_TRIED_MAX",
    "SIMULATION_ANSWERS_MAX",
    "SIMULATION_GROUPS_MAX",
]

POLICY_FILE_BYTES_MAX: Final = 64 << 20
"""One file of the policy: some 200,000 rules; entries that many rules share belong into lists."""

POLICY_LIST_BYTES_MAX: Final = 64 << 20
"""One list that an object names: some four million addresses."""

POLICY_INCLUDES_MAX: Final = 1024
"""Files that a policy includes, those in folders counted one by one."""

POLICY_LEARN_DAYS_MAX: Final = 31
"""How far ahead learning may end: what nobody ends in a month has been forgotten."""

POLICY_EXPIRY_NOTICE_DAYS: Final = 30
"""A rule that expires within these days is warned of."""

POLICY_PATTERN_BYTES_MAX: Final = 4096
"""Text of one regular expression of a rule."""

POLICY_PATTERN_MEMORY_BYTES_MAX: Final = 1 << 20
"""What one regular expression may take when compiled, and while it is matched; RE2's own default is
eight times that."""

CLOCK_LOOKED_AT_S: Final = 15.0
"""How often a gate looks whether its machine's clock was set over a change of schedule."""

JUDGED_AGAIN_PER_TURN_MIN: Final = 64
"""Open connections that one turn of a gate judges again after a change, which takes a millisecond
if all of them end. Who is served meanwhile hardly waits."""

JUDGED_AGAIN_WITHIN_S: Final = 0.5
"""When all of them are to be judged: a gate whose turns are long, because it is busy, judges so
many more in each. What is refused has then as long to end, and a second is what is promised."""

SHADOW_PIECES_MAX: Final = 256
"""Pieces (a client, a destination, a protocol) of a rule that a check takes apart to see whether
earlier rules cover all of them; most rules have fewer, and one that is not covered is done with at
its first piece that is not."""

SHADOW_TRIED_MAX: Final = 1000
"""Earlier rules about one place that a check compares a rule with: so many that a policy of ten
thousand rules is reviewed in seconds whatever they are about."""

HISTORY_RECORDS_MAX: Final = 1000
"""Records of one connection that ``why`` keeps and shows, the last ones; it says how many more
there are. An FTP session that fetches a tree has one for each file."""

SIMULATION_GROUPS_MAX: Final = 10_000
"""Groups of like changes that a simulation tells apart; what is beyond is counted as one. A group
is two rules, and nobody reads so many."""

SIMULATION_ANSWERS_MAX: Final = 100_000
"""Answers that a simulation keeps for questions like them: some 50 MiB. Then it begins anew."""

LEARNED_DESTINATIONS_MAX: Final = 100_000
"""Pairs of clients and destinations that a proposal is made of; of more, none is made: nobody
would review it."""
