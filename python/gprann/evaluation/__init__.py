"""How good a potential is: metrics, tables and plots against reference data."""

from gprann.evaluation.data_check import DataCheck, check
from gprann.evaluation.metrics import ForceMetrics, Metrics, compute_metrics
from gprann.evaluation.report import History, Predictor, Report, evaluate, with_forces_std

__all__ = [
    "DataCheck",
    "ForceMetrics",
    "History",
    "Metrics",
    "Predictor",
    "Report",
    "check",
    "compute_metrics",
    "evaluate",
    "with_forces_std",
]
