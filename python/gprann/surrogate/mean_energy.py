"""The energy about which a surrogate is fitted."""

from __future__ import annotations

from gprann.baselines import Baseline, ReferenceEnergies
from gprann.data.structure import Dataset
from gprann.surrogate.observations import mixes_compositions


def subtract_mean(baseline: Baseline, data: Dataset) -> tuple[Baseline, Dataset]:
    """Return a baseline that reference energies complete where compositions differ, and what it leaves of the labels.

    The mean of a single composition is subtracted where energies are observed. Reference energies are found by least
    squares: what they miss, and how little is known of compositions that are new, is the kernel's own.
    """
    labels = baseline.subtract(data)
    if not mixes_compositions(data):
        return baseline, labels
    baseline = baseline + ReferenceEnergies().fit(labels, data.species)
    return baseline, baseline.subtract(data)
