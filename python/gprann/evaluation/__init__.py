"""How good a potential is: metrics, tables and plots against reference data."""

from gprann.evaluation.metrics import ForceMetrics, Metrics, compute_metrics
from gprann.evaluation.report import History, Predictor, Report, evaluate, with_forces_std

__all__ = [
    "ForceMetrics",
    "History",
    "Metrics",
    "Predictor",
    "Report",
    "compute_metrics",
    "evaluate",
    "with_forces_std",
]
