"""A release as one page that opens anywhere, and its figures as files."""

from lakehouse.report.page import write_report

__all__ = ["write_report"]
