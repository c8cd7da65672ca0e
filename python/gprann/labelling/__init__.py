"""Labels from first principles: any ASE calculator, with retries, resume and worker processes."""

from gprann.labelling.record import Record, geometry_key
from gprann.labelling.run import Failure, Labelling, LabelOptions, label, merge

__all__ = ["Failure", "LabelOptions", "Labelling", "Record", "geometry_key", "label", "merge"]
