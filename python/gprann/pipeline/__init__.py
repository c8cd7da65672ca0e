"""The whole pipeline: structures in, evaluated potential out, in stages that survive an interruption."""

from gprann.pipeline.comparison import Comparison, compare, compare_file
from gprann.pipeline.run import RunResult, history, run, train_potential
from gprann.pipeline.subsets import augment_data

__all__ = [
    "Comparison",
    "RunResult",
    "augment_data",
    "compare",
    "compare_file",
    "history",
    "run",
    "train_potential",
]
