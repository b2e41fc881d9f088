"""A diff as one HTML file that opens without a network."""

from fxgrow.report.page.page import LIBRARIES, diff_page, page_data

__all__ = ["LIBRARIES", "diff_page", "page_data"]
