"""The demo: the first experiment of the paper, with potentials for H2 from seven structures."""

from gprann.demo.hydrogen import DemoResult as DemoResult
from gprann.demo.hydrogen import run_demo as run_demo
