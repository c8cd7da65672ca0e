"""Sampling by stability: simulations that fail show which structures a potential has to be taught."""

from gprann.sampling.loop import Plan as Plan
from gprann.sampling.loop import explore_plan as explore_plan
from gprann.sampling.options import ChoiceOptions as ChoiceOptions
from gprann.sampling.options import ConvergenceOptions as ConvergenceOptions
from gprann.sampling.options import ReferenceOptions as ReferenceOptions
from gprann.sampling.options import ReplicaOptions as ReplicaOptions
from gprann.sampling.options import StartOptions as StartOptions
from gprann.sampling.results import Exploration as Exploration
