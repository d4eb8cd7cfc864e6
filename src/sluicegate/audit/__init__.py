"""Records of what was decided and what became of it. This file only re-exports."""

from .records import (
    ConnectionRecord,
    DecisionRecord,
    FilterFailureRecord,
    LearnRecord,
    LimitRecord,
    LoopBlockedRecord,
    NoteRecord,
    PolicyRecord,
    ProcessRecord,
    Record,
    RequestRecord,
    RuleChangeRecord,
    ServiceRecord,
    TransferRecord,
)
from .sender import RecordSender
from .writer import Recorder, RecordWriter

__all__ = [
    "ConnectionRecord",
    "DecisionRecord",
    "FilterFailureRecord",
    "LearnRecord",
    "LimitRecord",
    "LoopBlockedRecord",
    "NoteRecord",
    "PolicyRecord",
    "ProcessRecord",
    "Record",
    "RecordSender",
    "RecordWriter",
    "Recorder",
    "RequestRecord",
    "RuleChangeRecord",
    "ServiceRecord",
    "TransferRecord",
]
