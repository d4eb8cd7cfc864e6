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
    "POLICY_DIFFERENCE_LINES_MAX",
    "POLICY_EDITED_BYTES_MAX",
    "POLICY_EXPIRY_NOTICE_DAYS",
    "POLICY_FILE_BYTES_MAX",
    "POLICY_HISTORY_BYTES_MAX",
    "POLICY_HISTORY_VERSIONS_MAX",
    "POLICY_INCLUDES_MAX",
    "POLICY_LEARN_DAYS_MAX",
    "POLICY_LIST_BYTES_MAX",
    "POLICY_NOTE_CHARACTERS_MAX",
    "POLICY_PATTERN_BYTES_MAX",
    "POLICY_PATTERN_MEMORY_BYTES_MAX",
    "POLICY_ROWS_MAX",
    "POLICY_TRIAL_GRACE_S",
    "POLICY_TRIAL_S",
    "SHADOW_PIECES_MAX",
    "SHADOW_TRIED_MAX",
    "SIMULATION_ANSWERS_MAX",
    "SIMULATION_CLIENTS_MAX",
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

POLICY_HISTORY_VERSIONS_MAX: Final = 500
"""Policies that were in force and are kept: one a day for more than a year."""

POLICY_HISTORY_BYTES_MAX: Final = 256 << 20
"""Files of all policies that are kept; of one that has more alone, only the fact is kept."""

POLICY_EDITED_BYTES_MAX: Final = 1 << 20
"""Files of a policy that are shown and changed by commands and in the console: some 5,000 rules;
greater ones are made by programs, which write them to disk and reload."""

POLICY_NOTE_CHARACTERS_MAX: Final = 500
"""What somebody writes about a change of the policy: a reason, and the number of a ticket."""

POLICY_ROWS_MAX: Final = 2_000
"""Rules in one answer to an operator; of more, how many there are. It fits into a message."""

POLICY_DIFFERENCE_LINES_MAX: Final = 20_000
"""Lines between the first and the last that differ, of two files that are compared line by line:
beyond it that costs seconds, and all of them are shown as other ones."""

POLICY_TRIAL_S: Final = 20.0
"""What deciding the records of a day again may take, for somebody who waits in front of a page.
Some million decisions are made again in that time; the answer says how far it came."""

POLICY_TRIAL_GRACE_S: Final = 20.0
"""What reading the files may take beside it, before the process is killed."""

SIMULATION_CLIENTS_MAX: Final = 200
"""Clients that a simulation counts changes of; the others are counted together."""
