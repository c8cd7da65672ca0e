"""Training of potentials."""

from gprann.training.options import TrainingOptions
from gprann.training.train import train

__all__ = ["TrainingOptions", "train"]
