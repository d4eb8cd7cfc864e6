"""Records of what was decided and what became of it. This file only re-exports."""

from .records import (
    ConnectionRecord,
    DecisionRecord,
    FilterFailureRecord,
    LimitRecord,
    LoopBlockedRecord,
    NoteRecord,
    Record,
    ServiceRecord,
    TransferRecord,
)
from .writer import Recorder, RecordWriter

__all__ = [
    "ConnectionRecord",
    "DecisionRecord",
    "FilterFailureRecord",
    "LimitRecord",
    "LoopBlockedRecord",
    "NoteRecord",
    "Record",
    "RecordWriter",
    "Recorder",
    "ServiceRecord",
    "TransferRecord",
]
