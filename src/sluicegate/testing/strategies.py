"""Hypothesis strategies for tests of filters; the only module that needs Hypothesis.

``pip install hypothesis``, then ``@given(split_points(conversation))`` with ``check_split``. The
invariant: whatever is drawn is a legal behaviour of a network.
"""

from __future__ import annotations

from hypothesis import strategies as st

from .conversation import Conversation, ConversationLike
from .faults import FaultPlan

__all__ = ["fault_plans", "split_points"]


def split_points(
    conversation: ConversationLike, *, cuts_max: int = 16
) -> st.SearchStrategy[list[tuple[int, int]]]:
    """Draw places at which the network cuts a conversation's sends; shrinks to few cuts."""
    points = Conversation.of(conversation).cut_points()
    if not points:
        return st.just([])
    drawn = st.lists(st.sampled_from(points), max_size=cuts_max, unique=True)
    return drawn.map(sorted)


def fault_plans() -> st.SearchStrategy[FaultPlan]:
    """Draw networks that are slow and small but correct: a filter must not notice them."""
    share = st.sampled_from([0.0, 0.1, 0.5])
    return st.builds(
        FaultPlan,
        socket_buffer_bytes=st.sampled_from([(65536, 65536), (1024, 4096)]),
        cut=share,
        partial_send=share,
        short_receive=share,
        late_result=share,
    )
