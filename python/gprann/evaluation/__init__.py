"""How good a potential is: metrics, tables and plots against reference data."""

from gprann.evaluation.data_check import DataCheck as DataCheck
from gprann.evaluation.data_check import check as check
from gprann.evaluation.metrics import ForceMetrics as ForceMetrics
from gprann.evaluation.metrics import Metrics as Metrics
from gprann.evaluation.metrics import compute_metrics as compute_metrics
from gprann.evaluation.report import History as History
from gprann.evaluation.report import Predictor as Predictor
from gprann.evaluation.report import Report as Report
from gprann.evaluation.report import evaluate as evaluate
from gprann.evaluation.report import with_forces_std as with_forces_std
from gprann.evaluation.several import Evaluations as Evaluations
from gprann.evaluation.several import evaluate_several as evaluate_several
