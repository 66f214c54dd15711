"""The papers' tables beside our own figures: what is printed, what our networks come to, the difference.

`papers/*.yaml` holds only what the papers print and which network a row is; every figure of ours is computed.
"""

from kerbseg.tables.accuracy import PrintedAccuracy, ShippedAccuracy, printed_accuracies, shipped_accuracies
from kerbseg.tables.markdown import render
from kerbseg.tables.measure import Cell, compare
from kerbseg.tables.schema import Column, Paper, Row, Table, find_table, list_papers, load_paper

__all__ = [
    "Cell",
    "Column",
    "Paper",
    "PrintedAccuracy",
    "Row",
    "ShippedAccuracy",
    "Table",
    "compare",
    "find_table",
    "list_papers",
    "load_paper",
    "printed_accuracies",
    "render",
    "shipped_accuracies",
]
