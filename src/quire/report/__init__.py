"""Pages that show what a study found; reads results only."""

from quire.report.page import page
from quire.report.results import StudyResults

__all__ = ["StudyResults", "page"]
