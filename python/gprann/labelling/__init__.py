"""Labels from first principles: any ASE calculator, with retries, resume and worker processes."""

from gprann.labelling.record import Record, geometry_key

__all__ = ["Record", "geometry_key"]
