"""The whole pipeline: structures in, evaluated potential out, in stages that survive an interruption."""

from gprann.pipeline.run import RunResult, history, run, run_file
from gprann.pipeline.steps import augment_data, train_potential

__all__ = ["RunResult", "augment_data", "history", "run", "run_file", "train_potential"]
