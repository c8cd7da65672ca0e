"""The whole pipeline: structures in, evaluated potential out, in stages that survive an interruption."""

from gprann.evaluation.report import history as history
from gprann.pipeline.comparison import Comparison as Comparison
from gprann.pipeline.comparison import compare as compare
from gprann.pipeline.comparison import compare_file as compare_file
from gprann.pipeline.page import report_run as report_run
from gprann.pipeline.run import RunResult as RunResult
from gprann.pipeline.run import run as run
from gprann.pipeline.run import train_potential as train_potential
from gprann.pipeline.subsets import augment_data as augment_data
