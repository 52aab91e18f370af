"""A release as one page that opens anywhere, and its figures as files."""

from lakehouse.report.page import is_current, write_report

__all__ = ["is_current", "write_report"]
