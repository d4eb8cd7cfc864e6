"""Reports of a day or a week, made of the store's totals. This file only re-exports."""

from .figures import Period, Report, make_report
from .page import write_page

__all__ = ["Period", "Report", "make_report", "write_page"]
