"""The pump: one direction of a connection, from the network to the network.

This is the hot path. A connection without data filters, or with stream filters only, has two
directions; each receives into shared slots and sends at once on the port's thread. The rules of
this file:

1. What is received is offered to the kernel's send buffer in the same call (``try``). On nearly
   every chunk that is the end: no operation is submitted, nothing is allocated but one view.
2. What the kernel did not take *blocks* the direction: it stops receiving (that is the
   back-pressure), keeps the rest, and polls for room. Receives that were under way wait behind.
3. A blocked direction may pin shared slots, for its rest and for what waits behind, only while few
   do; beyond half of a group they are copied to private memory on the client's account, so that
   clients who do not read never take the slots of those who do (``Blockage``).
4. A direction that fills small slots is bulky. Without stages it is spliced in the kernel
   (``splice.py``), else it receives into large slots, one at a time.
5. With stages, only what they released is sent (``stages.py``); while one waits, it is as blocked.

The one invariant: a byte leaves only in order, once, and after every stage released it.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sluicegate.buffer import Buffer, ConstBuffer, Window
from sluicegate.errors import Side
from sluicegate.port.account import Kept
from sluicegate.port.backend import MORE, POLL_OUT, SEND_FLAGS, SLOT_SHIFT, Operation, RawSocket
from sluicegate.port.pool import SMALL_SLOT_SIZE, Slot

from .blockage import keep_for
from .bulk import Bulk, Flow
from .last_words import refuse_by
from .opening import tell_other_direction
from .splice import SpliceFlow
from .stages import INSPECT_NEEDS_FILTER, Stages

if TYPE_CHECKING:
    from sluicegate.port import CompletionPort
    from sluicegate.port.layer import SocketDriver

    from .connection import GateConnection

__all__ = ["Direction"]

SHUT_WR: Final = 1

_GONE: Final = frozenset({errno.ENOTCONN, errno.ECONNRESET, errno.EPIPE})


class Direction:
    """Bytes from one socket to the other; owned by its connection, then pooled."""

    __slots__ = (
        "_backlog",
        "_bulk",
        "_connection",
        "_end_slot",
        "_ended",
        "_give_back",
        "_port",
        "_recycle",
        "_rest",
        "_send_op",
        "_sink",
        "_sink_driver",
        "_sink_send",
        "_slots",
        "_source",
        "_source_driver",
        "_stages",
        "blocked_since",
        "bytes",
        "is_done",
        "receive_op",
        "side",
    )

    def __init__(self, port: CompletionPort) -> None:
        self.receive_op = Operation(self.on_received)
        self._port = port
        self._slots = port.pool.slots
        self._give_back = port.pool.give_back
        self._recycle = port.pool.recycle
        # What follows stays so in nearly every connection; ``retire`` sees to it.
        self._send_op: Operation | None = None
        self._backlog: deque[Kept] | None = None
        #: Received while blocked; None while the direction flows.
        self._rest: Kept | None = None
        #: What the kernel did not take yet.
        self._bulk: Bulk | None = None
        #: None while no slot was ever filled.
        self._source_driver: SocketDriver = port.backend
        self._sink_driver: SocketDriver = port.backend

    def open(
        self,
        connection: GateConnection,
        side: Side,
        source: RawSocket,
        sink: RawSocket,
        stages: Stages | None,
    ) -> None:
        """Serve a connection from now on."""
        self.side = side
        #: The side that sends on this direction.
        self.bytes = 0
        #: What the other side was sent.
        self.is_done = False
        #: The end of the stream was passed on.
        self.blocked_since = 0.0
        #: When the sink stopped taking bytes; 0 while it takes them.
        self._connection = connection
        self._source = source
        self._sink = sink
        self._sink_send = sink.send
        self._stages = stages
        self._end_slot = self._give_back if stages is None else self._recycle
        #: What nobody has seen goes back without ending its generation.
        self._ended = False

    def run_on(self, source: SocketDriver, sink: SocketDriver) -> None:
        """Let others than the backend run the sockets' operations; of a layer, after ``open``."""
        self._source_driver, self._sink_driver = source, sink
        self._slots = source.pool.slots
        self._give_back = source.pool.give_back
        self._recycle = source.pool.recycle
        self._end_slot = self._give_back if self._stages is None else self._recycle

    def on_internal_error(self, error: BaseException) -> None:
        """Take that an error of ours was raised in its work (``port.Answerable``)."""
        self._connection.on_internal_error(error)

    # -- the hot path --------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to receive."""
        self._source_driver.receive(self.receive_op, self._source)

    def on_received(self, result: int, flags: int) -> None:
        """Take what the source sent and offer it to the sink."""
        if result <= 0:
            self._on_receive_ended(result)
            return
        slot = self._slots[flags >> SLOT_SHIFT]
        self._connection.last_active = self._port.now
        if self._backlog is not None:
            self._wait_behind(slot, result)
        elif self._stages is None or self._is_released(slot, result):
            try:
                sent = self._sink_send(slot.view[:result], SEND_FLAGS)
            except OSError as error:
                sent = self._note_send_error(error)
            except BaseException:
                self._end_slot(slot)
                raise
            self.bytes += sent
            if sent == result:
                self._end_slot(slot)
            else:
                slot.leases += 1
                self._block(slot, sent, result - sent)
        if result == SMALL_SLOT_SIZE or not flags & MORE:
            self._continue(result, flags)

    def _continue(self, result: int, flags: int) -> None:
        """Choose how to receive next: after a full slot, and when a receive has ended."""
        bulk = self._bulk
        if result == SMALL_SLOT_SIZE and (bulk is None or bulk.flow is Flow.INTERACTIVE):
            if bulk is None:
                bulk = self._bulk = Bulk()
            if bulk.is_proven(self._port.now):
                bulk.flow = Flow.BULK if self._stages is not None else Flow.SPLICED
                if flags & MORE:
                    self._source_driver.cancel(self.receive_op)
        elif bulk is not None and bulk.flow is Flow.BULK and result < SMALL_SLOT_SIZE:
            bulk.flow = Flow.INTERACTIVE
        if not flags & MORE:
            self._arm()

    def _arm(self) -> None:
        if self._backlog is not None or self._ended or self._connection.is_closing:
            return
        if self.receive_op.in_flight or self._port.is_closing:
            return
        bulk = self._bulk
        if bulk is None or bulk.flow is Flow.INTERACTIVE:
            self._source_driver.receive(self.receive_op, self._source)
        elif bulk.flow is Flow.BULK or not self._begin_splice(bulk):
            bulk.flow = Flow.BULK
            self._source_driver.receive_bulk(self.receive_op, self._source)

    def _on_receive_ended(self, result: int) -> None:
        if result == 0 and self._backlog is None and not self._connection.is_closing:
            self._ended = True
            self._pass_end_on()
        elif self._connection.is_closing:
            self._connection.join()
        elif result == 0:
            self.on_end()
        elif result == -errno.ECANCELED:
            self._arm()
        else:
            self._connection.on_transport_error(self.side, -result)

    # -- stages --------------------------------------------------------------------------------

    def _is_released(self, slot: Slot, length: int) -> bool:
        """Run the stages on a fresh slot; True when all of it may go, and nobody keeps it."""
        slot.leases = 1
        if not self._is_passed(slot, 0, length):
            return False
        slot.leases -= 1
        if not slot.leases:
            return True
        # A filter has a lease on it still, which ends the slot's generation when it ends.
        slot.leases += 1
        self._offer(slot, 0, length)
        return False

    def _inspect(self, buffer: Buffer, start: int, length: int) -> None:
        """Run the stages on a leased chunk and send what they released."""
        if self._is_passed(buffer, start, length):
            self._offer(buffer, start, length)

    def _is_passed(self, buffer: Buffer, start: int, length: int) -> bool:
        """Run the stages on a leased chunk; False when what became of it was done here."""
        stages = self._stages
        assert stages is not None
        try:
            verdict = stages.judge(self.side, Window(buffer, start, length))
        except Exception as error:  # noqa: BLE001 - a filter may raise anything; fail closed
            buffer.release()
            self._connection.on_filter_failure(error)
            return False
        if buffer.exported and isinstance(buffer, Slot):
            # Should a slice have been kept, it was by this connection's filter.
            buffer.keeper = self._connection
        if verdict is True:
            return True
        buffer.release()
        self._send_released(stages, verdict)
        return False

    def _send_released(self, stages: Stages, released: bytes) -> None:
        """Send what stages released, then see to what else they answered."""
        connection = self._connection
        if stages.has_leaver and connection.plan.must_inspect and not stages.is_watching:
            connection.refuse(INSPECT_NEEDS_FILTER)
        elif released:
            changed = ConstBuffer(released)
            changed.lease()
            self._offer(changed, 0, len(released))
        if connection.is_closing:
            return
        if stages.cut is not None:
            refuse_by(connection, stages.cut)
            return
        if stages.has_leaver:
            stages.has_leaver = False
            tell_other_direction(connection, self.side)
        wait_s = stages.wait_s
        if wait_s is not None:
            self._wait(stages, wait_s)
        elif not stages.is_active and not stages.has_leaver:
            self._forget_stages()

    def _wait(self, stages: Stages, wait_s: float) -> None:
        """Receive nothing until a stage's time has come."""
        if self._backlog is None:
            self._backlog = deque()
            if self.receive_op.in_flight:
                self._source_driver.cancel(self.receive_op)
        if stages.timer is None:
            stages.timer = self._port.call_after(wait_s, lambda: self._on_waited(stages))

    def _on_waited(self, stages: Stages) -> None:
        stages.timer = None
        self._connection.last_active = self._port.now
        self._go_on()

    def on_stage_left(self) -> None:
        """Give out what a stage holds that left by an answer in the other direction."""
        stages = self._stages
        if stages is not None and not self._connection.is_closing:
            if stages.timer is not None:
                # It may be its own wait; one that is another's goes on for the rest of its time.
                stages.timer.cancel()
                stages.timer = None
            self._go_on()

    def _ask(self, stages: Stages, question: Callable[[Side], bytes]) -> None:
        """Ask the stages about what they hold, and send what they release."""
        try:
            released = question(self.side)
        except Exception as error:  # noqa: BLE001 - a filter may raise anything; fail closed
            self._connection.on_filter_failure(error)
            return
        self._send_released(stages, released)

    def _forget_stages(self) -> None:
        """Take that every stage has left: a bulky direction may be spliced from now on."""
        self._stages = None
        bulk = self._bulk
        if bulk is not None and bulk.flow is Flow.BULK:
            bulk.flow = Flow.SPLICED

    def _offer(self, buffer: Buffer, start: int, length: int) -> None:
        """Send a leased range; what is not taken blocks the direction."""
        try:
            sent = self._sink_send(buffer.view[start : start + length], SEND_FLAGS)
        except OSError as error:
            sent = self._note_send_error(error)
        self.bytes += sent
        if sent == length:
            buffer.release()
        else:
            self._block(buffer, start + sent, length - sent)

    # -- blocked -------------------------------------------------------------------------------

    def _note_send_error(self, error: OSError) -> int:
        """Tell a full send buffer from a failed connection; nothing was sent either way."""
        if not isinstance(error, BlockingIOError):
            self._connection.on_transport_error(self.sink_side, error.errno or errno.EIO)
        return 0

    def _block(self, buffer: Buffer, start: int, length: int) -> None:
        """Keep the leased rest that the sink did not take, stop receiving, and wait for room."""
        kept = keep_for(self._connection, buffer, start, length)
        if kept is None:
            return
        self._rest = kept
        if self._backlog is None:
            self._backlog = deque()
            if self.receive_op.in_flight:
                # What is on its way all the same waits behind.
                self._source_driver.cancel(self.receive_op)
        if self._send_op is None:
            self._send_op = Operation(self._on_room)
        self.blocked_since = self._port.now
        self._connection.watch_stall()
        self._sink_driver.poll(self._send_op, self._sink.fileno(), POLL_OUT)

    def _wait_behind(self, slot: Slot, length: int) -> None:
        """Queue what was received although the direction is blocked."""
        slot.leases += 1
        kept = keep_for(self._connection, slot, 0, length)
        if kept is not None and self._backlog is not None:
            self._backlog.append(kept)

    def _on_room(self, result: int, _flags: int) -> None:
        """Offer again what was kept, then what waits behind it."""
        connection = self._connection
        if connection.is_closing:
            connection.join()
            return
        if result < 0:
            connection.on_transport_error(self.sink_side, -result)
            return
        rest, self._rest = self._rest, None
        assert rest is not None
        connection.last_active, self.blocked_since = self._port.now, 0.0
        connection.blockage.give_up(connection.session, rest[0])
        self._offer(*rest)
        self._go_on()

    def _go_on(self) -> None:
        """Do what waits, in order: what stages hold, what came meanwhile, then the rest."""
        connection = self._connection
        while not self._is_stuck():
            stages, backlog = self._stages, self._backlog
            wait_s = None if stages is None else stages.wait_s
            if stages is not None and stages.has_leftover:
                self._ask(stages, stages.flush)
            elif stages is not None and wait_s is not None:
                if wait_s > 0:
                    self._wait(stages, wait_s)
                else:
                    self._ask(stages, stages.again)
            elif backlog:
                waiting = backlog.popleft()
                connection.blockage.give_up(connection.session, waiting[0])
                if stages is not None:
                    self._inspect(*waiting)
                else:
                    self._offer(*waiting)
            else:
                break
        if not self._is_stuck() and self._backlog is not None:
            self._backlog = None
            if self._ended:
                self._pass_end_on()
            else:
                self._arm()

    def _is_stuck(self) -> bool:
        """Whether nothing more may be offered now."""
        if self._rest is not None or self._connection.is_closing:
            return True
        return self._stages is not None and self._stages.timer is not None

    # -- the end -------------------------------------------------------------------------------

    def on_end(self) -> None:
        """Take the source's end of stream; it is passed on behind the last byte."""
        self._ended = True
        if self._backlog is None:
            self._pass_end_on()

    def _pass_end_on(self) -> None:
        stages, connection = self._stages, self._connection
        if stages is not None:
            self._ask(stages, stages.end)
            if connection.is_closing or not stages.is_ended:
                return
            self._stages = None
            if self._is_stuck():
                return
        self.is_done = True
        if connection.on_direction_done():
            return
        try:
            self._sink.shutdown(SHUT_WR)
        except OSError as error:
            if error.errno not in _GONE:
                raise

    def adopt(self, chunks: deque[Kept], *, ended: bool, shut: bool) -> None:
        """Go on where a filter that left stopped reading.

        Args:
            chunks: Received for the filter and not read by it; leased, on the account.
            ended: The source's end of stream has been received.
            shut: The sink's stream was ended by the filter already.
        """
        connection = self._connection
        while chunks:
            waiting = chunks.popleft()
            if self._backlog is not None and not connection.is_closing:
                self._backlog.append(waiting)
                continue
            connection.blockage.give_up(connection.session, waiting[0])
            if shut or connection.is_closing:
                waiting[0].release()
            elif self._stages is not None:
                self._inspect(*waiting)
            else:
                self._offer(*waiting)
        if connection.is_closing:
            return
        if shut:
            # Nothing goes that way any more, whatever the source still sends.
            self._ended = self.is_done = True
            if self.receive_op.in_flight:
                self._source_driver.cancel(self.receive_op)
            connection.on_direction_done()
        elif ended:
            self.on_end()
        else:
            self._arm()

    def take_operation(self, operation: Operation) -> None:
        """Receive with an operation that a stream socket gave away, in flight or not."""
        self._port.operations.give(self.receive_op)
        self.receive_op = operation
        self._port.backend.redirect(operation, self.on_received)

    def stop(self) -> None:
        """Cancel what is in flight and drop what waits."""
        backlog, self._backlog = self._backlog, None
        rest, self._rest = self._rest, None
        if rest is not None:
            self._drop(rest)
        for waiting in backlog or ():
            self._drop(waiting)
        if self._stages is not None and self._stages.timer is not None:
            self._stages.timer.cancel()
        if self.receive_op.in_flight:
            # Late data is recycled there, without a look at this direction's state.
            self._port.backend.redirect(self.receive_op, self._on_late)
            self._bulk = self._bulk or Bulk()
            self._source_driver.cancel(self.receive_op)
        if self._send_op is not None and self._send_op.in_flight:
            self._sink_driver.cancel(self._send_op)

    def _drop(self, waiting: Kept) -> None:
        """Let what waited go unsent."""
        self._connection.blockage.give_up(self._connection.session, waiting[0])
        waiting[0].release()

    @property
    def is_busy(self) -> bool:
        """Whether an operation is in flight."""
        return self.receive_op.in_flight or bool(self._send_op and self._send_op.in_flight)

    def retire(self) -> bool:
        """End the service of a connection; True when the direction can serve another one.

        Nothing is in flight. What a pooled direction keeps is what costs: its operation, known to
        the backend, and the bound completion.
        """
        is_layered = self._source_driver is not self._sink_driver
        if (
            self._bulk is None
            and self._send_op is None
            and self._backlog is None
            and not is_layered
        ):
            return True
        if self._bulk is not None and self._bulk.splice is not None:
            self._bulk.splice.close()
            self._bulk.splice = None
        backend = self._port.backend
        backend.forget(self.receive_op)
        if self._send_op is not None:
            backend.forget(self._send_op)
        return False

    def _on_late(self, result: int, flags: int) -> None:
        if result > 0 and flags & 1:
            self._give_back(self._slots[flags >> SLOT_SHIFT])
        if not flags & MORE:
            self._connection.join()

    # -- spliced -------------------------------------------------------------------------------

    def _begin_splice(self, bulk: Bulk) -> bool:
        """Move the direction into the kernel; False when there is no pipe to have."""
        backend = self._port.backend
        if self._source_driver is not backend or self._sink_driver is not backend:
            return False  # the kernel would move what a layer has to change
        pipe = backend.open_pipe()
        if pipe is None:
            return False
        backend.prepare_splice(self._source)
        backend.prepare_splice(self._sink)
        bulk.splice = SpliceFlow(self, self._port, pipe, self._source, self._sink)
        bulk.splice.run()
        return True

    def on_spliced(self, count: int) -> None:
        """Count bytes that the kernel moved."""
        assert self._bulk is not None
        self.bytes += count
        self._bulk.bytes_spliced += count
        self._connection.last_active = self._port.now

    def on_splice_stalled(self, *, is_stalled: bool) -> None:
        """Note whether the sink takes nothing."""
        if is_stalled:
            self.blocked_since = self._port.now
            self._connection.watch_stall()
        else:
            self.blocked_since = 0.0

    def on_splice_over(self, error: int | None, side: Side | None = None) -> None:
        """Take the end of splicing: 0 is end of stream, None a stream that turned interactive."""
        assert self._bulk is not None
        self._bulk.splice = None
        if self._connection.is_closing:
            self._connection.join()
        elif error is None:
            self._bulk.flow = Flow.INTERACTIVE
            self._port.backend.redirect(self.receive_op, self.on_received)
            self._arm()
        elif error == 0:
            self.on_end()
        else:
            self._connection.on_transport_error(side or self.side, error)

    @property
    def is_clear(self) -> bool:
        """Whether the sink got all that was released, and may get more."""
        return self._rest is None and not self.is_done and not self.is_spliced

    @property
    def is_spliced(self) -> bool:
        """Whether the kernel moves its bytes alone now."""
        return self._bulk is not None and self._bulk.splice is not None

    @property
    def bytes_spliced(self) -> int:
        """How many bytes the kernel moved alone."""
        return self._bulk.bytes_spliced if self._bulk is not None else 0

    @property
    def sink_side(self) -> Side:
        """The side that receives on this direction."""
        return Side.SERVER if self.side is Side.CLIENT else Side.CLIENT
