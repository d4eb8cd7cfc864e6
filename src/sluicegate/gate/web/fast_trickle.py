"""FastTrickle: lets audio and video through while they are held, but their last part.

A held response has one where its rule says so for its type. The invariant: nothing passes that does
not begin like audio or video, whatever its type says; the last ``TRICKLE_TAIL_BYTES`` of what came
stay here until the verdict, and a bad one ends in a reset.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from sluicegate.limits import TRICKLE_TAIL_BYTES
from sluicegate.protocols.media import is_media

if TYPE_CHECKING:
    from .held_stage import HeldResponse

__all__ = ["FastTrickle"]


class FastTrickle:
    """What one client was and was not given yet."""

    __slots__ = (
        "_held_bytes",
        "_is_given_up",
        "_is_released",
        "_pieces",
        "_stage",
        "has_begun",
        "has_room",
    )

    def __init__(self, stage: HeldResponse) -> None:
        self._stage = stage
        self._pieces: deque[bytes] = deque()
        self._held_bytes = 0
        self._is_given_up = False
        self._is_released = False
        self.has_begun = False
        #: Whether the head was sent.
        self.has_room = True
        #: Whether the client takes what it is sent.

    def feed(self, data: bytes | memoryview) -> bool:
        """Take what came; False: no more before ``resume``."""
        if self._is_given_up:
            return True
        service = self._stage.service
        if service.ahead_bytes + len(data) > service.limits.fast_trickle_bytes_max:
            if not self.has_begun:
                self.give_up()
                return True
            reason = "limit fast_trickle_bytes_max"
            self._stage.exchange.refuse(503, reason)
            return False
        self._pieces.append(bytes(data))
        self._count(len(data))
        if not self.has_begun and self._held_bytes > TRICKLE_TAIL_BYTES and not self._begin():
            return True
        self._send()
        return self.has_room

    def resume(self) -> bool:
        """Send on; True: more may come."""
        self.has_room = True
        self._send()
        return self.has_room and not self._is_released

    def give_up(self) -> None:
        """Let nothing more pass, and keep nothing."""
        self._is_given_up = True
        self._pieces.clear()
        self._count(-self._held_bytes)

    def deliver_rest(self) -> None:
        """Send what is left: it was released."""
        stage = self._stage
        if stage.forms.is_replaced:
            stage.exchange.abort("a filter replaced an object of which a part was sent")
            return
        self._is_released = True
        self._send()

    def _begin(self) -> bool:
        stage = self._stage
        if stage.exchange.committed is not None or not is_media(b"".join(self._first())):
            self.give_up()
            return False
        head = stage.head
        assert head is not None, "a response is held from its head on"
        self.has_begun = True
        stage.comfort.stop()
        return stage.begin_sink(head)

    def _count(self, change: int) -> None:
        self._held_bytes += change
        self._stage.service.ahead_bytes += change

    def _first(self) -> list[bytes]:
        found: list[bytes] = []
        for piece in self._pieces:
            found.append(piece)
            if sum(map(len, found)) >= _HEAD_BYTES:
                break
        return found

    def _send(self) -> None:
        stage = self._stage
        while self.has_begun and self.has_room and self._pieces:
            rest = self._held_bytes - len(self._pieces[0])
            if rest < TRICKLE_TAIL_BYTES and not self._is_released:
                return
            piece = self._pieces.popleft()
            self._count(-len(piece))
            stage.forms.note_ahead(len(piece))
            self.has_room = stage.sink.feed(piece)
            if stage.exchange.is_over:
                return
        if self._is_released and not self._pieces:
            stage.forms.end_delivered()
            stage.sink.finish(stage.trailers)


_HEAD_BYTES = 4096
