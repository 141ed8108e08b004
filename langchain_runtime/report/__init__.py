"""What a run did and what it cost: ``RunReport`` as text, HTML and JSON, and the live view while it runs.

Reports are computed from the run's own records, its budget's account and its journal; nothing here reads a store.
"""

from langchain_runtime.report.live import LiveView, open_live_view
from langchain_runtime.report.progress import Progress
from langchain_runtime.report.progress_figures import ProgressFigures
from langchain_runtime.report.progress_handler import ProgressCallbackHandler
from langchain_runtime.report.run_report import RunReport

__all__ = ["LiveView", "Progress", "ProgressCallbackHandler", "ProgressFigures", "RunReport", "open_live_view"]
