"""Records of what was decided and what became of it. This file only re-exports."""

from .records import (
    ConnectionRecord,
    DecisionRecord,
    FilterFailureRecord,
    LimitRecord,
    LoopBlockedRecord,
    NoteRecord,
    ProcessRecord,
    Record,
    ServiceRecord,
    TransferRecord,
)
from .sender import RecordSender
from .writer import Recorder, RecordWriter

__all__ = [
    "ConnectionRecord",
    "DecisionRecord",
    "FilterFailureRecord",
    "LimitRecord",
    "LoopBlockedRecord",
    "NoteRecord",
    "ProcessRecord",
    "Record",
    "RecordSender",
    "RecordWriter",
    "Recorder",
    "ServiceRecord",
    "TransferRecord",
]
