"""Records of what was decided and what became of it. This file only re-exports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.front import front

if TYPE_CHECKING:
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
        StepName,
        StepRecord,
        TransferRecord,
    )
    from .sender import RecordSender
    from .writer import Recorder, RecordWriter
else:
    __getattr__ = front(
        __name__,
        records=(
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
            "RequestRecord",
            "RuleChangeRecord",
            "ServiceRecord",
            "SessionRecord",
            "StepName",
            "StepRecord",
            "TransferRecord",
        ),
        sender=("RecordSender",),
        writer=("Recorder", "RecordWriter"),
    )

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
    "StepName",
    "StepRecord",
    "TransferRecord",
]
