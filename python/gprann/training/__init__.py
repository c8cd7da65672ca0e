"""Training of potentials."""

from gprann.training.options import TrainingOptions as TrainingOptions
from gprann.training.train import fit_linear as fit_linear
from gprann.training.train import train as train
