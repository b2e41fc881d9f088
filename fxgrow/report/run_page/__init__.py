"""A run as one HTML file that opens without a network, on a phone too."""

from fxgrow.report.run_page.page import TITLE, report_page

__all__ = ["TITLE", "report_page"]
