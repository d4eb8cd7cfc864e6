"""Records of what was decided and what became of it. This file only re-exports."""

from .records import (
    AlertRecord,
    ConnectionRecord,
    DecisionRecord,
    FilterFailureRecord,
    LearnRecord,
    LimitRecord,
    LookupRecord,
    LoopBlockedRecord,
    NoteRecord,
    OperatorRecord,
    PolicyRecord,
    ProcessRecord,
    Record,
    RequestRecord,
    RuleChangeRecord,
    ServiceRecord,
    SessionRecord,
    TransferRecord,
)
from .sender import RecordSender
from .writer import Recorder, RecordWriter

__all__ = [
    "AlertRecord",
    "ConnectionRecord",
    "DecisionRecord",
    "FilterFailureRecord",
    "LearnRecord",
    "LimitRecord",
    "LookupRecord",
    "LoopBlockedRecord",
    "NoteRecord",
    "OperatorRecord",
    "PolicyRecord",
    "ProcessRecord",
    "Record",
    "RecordSender",
    "RecordWriter",
    "Recorder",
    "RequestRecord",
    "RuleChangeRecord",
    "ServiceRecord",
    "SessionRecord",
    "TransferRecord",
]
