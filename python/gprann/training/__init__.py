"""Training of potentials."""

from gprann.training.options import TrainingOptions as TrainingOptions
from gprann.training.train import train as train
