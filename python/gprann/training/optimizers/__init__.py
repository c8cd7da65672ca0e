"""Optimisers."""

from gprann.training.optimizers.adamw import AdamW
from gprann.training.optimizers.base import (
    OPTIMIZERS,
    Optimizer,
    OptimizerState,
    Workload,
    register_optimizer,
)
from gprann.training.optimizers.lbfgs import Lbfgs
from gprann.training.optimizers.levenberg_marquardt import GaussNewtonCG, LevenbergMarquardt

__all__ = [
    "OPTIMIZERS",
    "AdamW",
    "GaussNewtonCG",
    "Lbfgs",
    "LevenbergMarquardt",
    "Optimizer",
    "OptimizerState",
    "Workload",
    "register_optimizer",
]
