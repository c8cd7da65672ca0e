"""Optimisers."""

from gprann.training.optimizers.adamw import AdamW as AdamW
from gprann.training.optimizers.base import OPTIMIZERS as OPTIMIZERS
from gprann.training.optimizers.base import Optimizer as Optimizer
from gprann.training.optimizers.base import OptimizerState as OptimizerState
from gprann.training.optimizers.base import Workload as Workload
from gprann.training.optimizers.base import register_optimizer as register_optimizer
from gprann.training.optimizers.lbfgs import Lbfgs as Lbfgs
from gprann.training.optimizers.levenberg_marquardt import GaussNewtonCG as GaussNewtonCG
from gprann.training.optimizers.levenberg_marquardt import LevenbergMarquardt as LevenbergMarquardt
