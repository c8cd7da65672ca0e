"""Rules by which structures of simulations are chosen to be labelled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from gprann.active.select import select
from gprann.data.structure import Dataset, Structure
from gprann.labelling import geometry_key
from gprann.potential import Potential
from gprann.sampling.options import ChoiceOptions

_LAST, _BEFORE = 100, 600  # frames of a simulation that are looked at

if TYPE_CHECKING:
    from gprann.sampling.replica import Frame
    from gprann.surrogate import Surrogate


def choose(
    frames: Sequence[Sequence[Frame]],
    model: Potential | Surrogate,
    options: ChoiceOptions,
    time_step: float,
    rng: np.random.Generator,
) -> list[Frame]:
    """Return the frames to label, by a rule that takes frames.

    Parameters
    ----------
    frames : sequence of sequences of Frame
        Of each simulation, in the order of their steps; those from which nothing is to be learned are left out.
    model : Potential or Surrogate
        With which they were made.
    options : ChoiceOptions
    time_step : float, fs
    rng : Generator
        For the rule random.
    """
    frames = [list(own) for own in frames if own]
    if options.rule == "frames":
        return _last(frames, options.count, 1000.0 * options.stretch / time_step)
    if options.rule == "random":
        pool = [frame for own in frames for frame in own]
        chosen = rng.choice(len(pool), min(options.count, len(pool)), replace=False) if pool else ()
        return [pool[k] for k in sorted(chosen)]
    share = shares(options.candidates, len(frames))
    pool = [frame for own, most in zip(frames, share, strict=True) for frame in evenly(own, most)]
    if len(pool) <= options.count:
        return pool
    selection = select(Dataset(frame.structure for frame in pool), model, options.count)
    return [pool[k] for k in selection.indices]


def _last(frames: Sequence[Sequence[Frame]], count: int, steps: float) -> list[Frame]:
    """Return the last frames of each simulation, evenly spread over so many steps."""
    chosen: list[Frame] = []
    for own, most in zip(frames, shares(count, len(frames)), strict=True):
        chosen += evenly([frame for frame in own if frame.step >= own[-1].step - steps], most)
    return chosen


def evenly(frames: Sequence[Frame], most: int) -> list[Frame]:
    """Return so many frames at most, evenly spread, the last one among them."""
    if len(frames) <= most:
        return list(frames)
    places = np.linspace(len(frames) - 1, 0, most, endpoint=False)
    return [frames[k] for k in np.unique(np.round(places).astype(int))]


def thin(frames: Sequence[Frame]) -> list[Frame]:
    """Return the last frames, and of those before them so many, evenly, as are looked at in a reasonable time."""
    before, last = frames[:-_LAST], frames[-_LAST:]
    return [*evenly(before, _BEFORE), *last]


def shares(count: int, parts: int) -> list[int]:
    """Divide a number into so many parts that differ by one at most.

    Examples
    --------
    >>> shares(10, 3), shares(2, 3)
    ([4, 3, 3], [1, 1, 0])
    """
    return [count // parts + (k < count % parts) for k in range(parts)]


def new_frames(frames: Sequence[Frame], known: Sequence[Structure]) -> list[Frame]:
    """Return the frames whose geometry has no label yet, each geometry once."""
    seen = {geometry_key(structure) for structure in known}
    new = []
    for frame in frames:
        key = geometry_key(frame.structure.replace(constraints=()))
        if key not in seen:
            new.append(frame)
            seen.add(key)
    return new
