"""The demo: the first experiment of the paper, with potentials for H2 from seven structures."""

from gprann.demo.hydrogen import DemoResult, run_demo

__all__ = ["DemoResult", "run_demo"]
