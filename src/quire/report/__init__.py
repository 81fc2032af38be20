"""Pages that show what a study found, and what a design is; reads results only.

results = StudyResults.load("study.json")
results = dataclasses.replace(results, figures=..., tensors=(sample(...),))
page(results, "page.html")
"""

from quire.report.design import design_page
from quire.report.page import page
from quire.report.results import Figure, StudyResults, TensorRecord
from quire.report.sample import sample

__all__ = ["Figure", "StudyResults", "TensorRecord", "design_page", "page", "sample"]
