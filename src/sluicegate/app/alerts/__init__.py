"""What is done when an alert is raised: programs, webhooks and mails. This file only re-exports.

``desk`` keeps what is to be done, ``notice`` is what is told. The process that raises alerts has
them.
"""

from .desk import AlertDesk
from .notice import Notice

__all__ = ["AlertDesk", "Notice"]
