"""Labels from first principles: any ASE calculator, with retries, resume and worker processes."""

from gprann.labelling.record import Record as Record
from gprann.labelling.record import geometry_key as geometry_key
from gprann.labelling.run import Failure as Failure
from gprann.labelling.run import Labelling as Labelling
from gprann.labelling.run import LabelOptions as LabelOptions
from gprann.labelling.run import label as label
from gprann.labelling.run import merge as merge
