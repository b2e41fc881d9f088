"""Tables and lines for people: rich text, as pure functions of data."""

from fxgrow.deprecation import renamed_attributes
from fxgrow.report.capture import capture_table
from fxgrow.report.cells import network_lines
from fxgrow.report.continual import continual_lines, continual_tables, task_line
from fxgrow.report.continual_picture import draw_continual
from fxgrow.report.deepening import deepening_lines, deepening_table
from fxgrow.report.diff import diff_tables
from fxgrow.report.expansion import expansion_line, expansion_table
from fxgrow.report.extension import extension_lines
from fxgrow.report.growth import growth_headline, growth_lines, plan_lines
from fxgrow.report.lineage import lineage_table
from fxgrow.report.methods import methods_tables
from fxgrow.report.numbers import (
    count_text,
    number_text,
    percent_text,
    quantity_text,
    ratio_text,
    seconds_text,
)
from fxgrow.report.page import diff_page
from fxgrow.report.run import early_stop_text, run_sentence, run_table
from fxgrow.report.run_page import TITLE as REPORT_TITLE
from fxgrow.report.run_page import report_page
from fxgrow.report.story import RunStory, read_story
from fxgrow.report.verdict import step_verdict
from fxgrow.report.widths import fixed_axes_table, unreached_lines, widths_lines, widths_table

__all__ = [
    "REPORT_TITLE",
    "RunStory",
    "capture_table",
    "continual_lines",
    "continual_tables",
    "count_text",
    "deepening_lines",
    "deepening_table",
    "diff_page",
    "diff_tables",
    "draw_continual",
    "early_stop_text",
    "expansion_line",
    "expansion_table",
    "extension_lines",
    "fixed_axes_table",
    "growth_headline",
    "growth_lines",
    "lineage_table",
    "methods_tables",
    "network_lines",
    "number_text",
    "percent_text",
    "plan_lines",
    "quantity_text",
    "ratio_text",
    "read_story",
    "report_page",
    "run_sentence",
    "run_table",
    "seconds_text",
    "step_verdict",
    "task_line",
    "unreached_lines",
    "widths_lines",
    "widths_table",
]

# Old names, which go with the next version.
__getattr__ = renamed_attributes(
    __name__,
    {
        "count": "count_text",
        "number": "number_text",
        "percent": "percent_text",
        "ratio": "ratio_text",
        "seconds": "seconds_text",
    },
)
