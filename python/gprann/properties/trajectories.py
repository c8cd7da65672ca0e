"""Radial distribution functions, mean squared displacements and diffusion from trajectories."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.units import _e, kB

from gprann.arrays import Array
from gprann.data.neighbours import build_neighbours
from gprann.data.prediction import volume
from gprann.data.structure import Dataset
from gprann.errors import ConfigError, DataError, check_whole
from gprann.io.reading import Source, structures

_BLOCKS = 5


@dataclass(frozen=True, slots=True)
class Rdf:
    """A radial distribution function.

    Attributes
    ----------
    r : ndarray, shape (n,), Å
        Middles of the shells.
    g : ndarray, shape (n,)
        Density of partners in a shell relative to their mean density in the cell.
    coordination : ndarray, shape (n,)
        Partners up to the outer edge of a shell.
    """

    r: Array
    g: Array
    coordination: Array


def rdf(
    trajectory: Source,
    first: str | None = None,
    second: str | None = None,
    *,
    cutoff: float = 6.0,
    shells: int = 120,
) -> Rdf:
    """Return the radial distribution function of periodic structures, averaged over them.

    Parameters
    ----------
    trajectory : Dataset, or anything that `gprann.read` takes
        Structures that are periodic in three directions.
    first, second : str, optional
        Elements of the centres and of their partners. Default: all atoms.
    cutoff : float, Å
        May exceed half of the cell: images count.
    shells : int

    Returns
    -------
    Rdf

    Raises
    ------
    DataError
        If a structure is not periodic, or has no atoms of an element.
    ConfigError
        If cutoff or shells are impossible.

    Examples
    --------
    >>> import gprann
    >>> from ase.build import bulk
    >>> crystal = gprann.Structure.from_ase(bulk("Cu", cubic=True))
    >>> found = gprann.rdf([crystal], cutoff=3.0, shells=30)
    >>> float(found.coordination[-1])
    12.0
    """
    check_whole(1, shells=shells)
    if not 0 < cutoff < np.inf:
        raise ConfigError(f"cutoff = {cutoff}: expected a length in Å")
    data = structures(trajectory)
    edges = np.linspace(0.0, cutoff, shells + 1)
    counts, centres, expected = np.zeros(shells), 0, 0.0
    for structure in data:
        if not structure.pbc.all():
            raise DataError(
                f"{structure.origin}: a radial distribution needs a structure periodic in three directions"
            )
        symbols = np.array(structure.symbols)
        own, others = (
            np.ones(len(symbols), bool) if name is None else symbols == name for name in (first, second)
        )
        for name, found in ((first, own), (second, others)):
            if not found.any():
                raise DataError(f"{structure.origin}: has no atoms of {name}")
        neighbours = build_neighbours([structure], cutoff, sorted(set(structure.symbols)))
        pairs = own[neighbours.centres] & others[neighbours.neighbour]
        counts += np.histogram(np.linalg.norm(neighbours.vectors[pairs], axis=1), edges)[0]
        centres += int(own.sum())
        # A partner is no partner of itself: of its own element each centre has one less.
        expected += float(own.sum()) * float(others.sum()) / volume(structure)
    volumes = 4.0 / 3.0 * np.pi * np.diff(edges**3)
    return Rdf(0.5 * (edges[1:] + edges[:-1]), counts / (volumes * expected), np.cumsum(counts) / centres)


def mean_squared_displacement(positions: Array) -> Array:
    """Return the mean squared displacement over all pairs of frames, for each distance between them in time.

    Parameters
    ----------
    positions : ndarray, shape (n, N, 3), Å
        Not wrapped into a cell; the motion of the centre of mass has been subtracted, if it should not count.

    Returns
    -------
    ndarray, shape (n,), Å²

    Notes
    -----
    Sums of squares, and correlations by fast Fourier transforms: n log n instead of n² operations (Kneller et al.,
    Comput. Phys. Commun. 91, 191 (1995)).

    Examples
    --------
    >>> import gprann
    >>> import numpy as np
    >>> line = np.arange(4.0)[:, None, None] * np.ones((4, 1, 3))
    >>> gprann.mean_squared_displacement(line).round(9).tolist()
    [0.0, 3.0, 12.0, 27.0]
    """
    positions = np.asarray(positions, dtype=float)
    n = len(positions)
    centred = positions - positions.mean(axis=0)
    spectrum = np.fft.rfft(centred, n=2 * n, axis=0)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2, n=2 * n, axis=0)[:n].sum(axis=(1, 2))
    squares = np.concatenate([[0.0], np.cumsum(np.sum(centred**2, axis=(1, 2)))])
    lags = np.arange(n)
    both = squares[n - lags] + squares[n] - squares[lags]
    return np.asarray((both - 2.0 * correlation) / ((n - lags) * positions.shape[1]))


@dataclass(frozen=True, slots=True)
class Diffusion:
    """Diffusion of the atoms of one element.

    Attributes
    ----------
    time : ndarray, shape (n,), ps
    msd : ndarray, shape (n,), Å²
        Mean squared displacement.
    coefficient, error : float, Å²/ps
        Of self-diffusion, the mean of five blocks of the trajectory, and its standard error. 1 Å²/ps = 1e-4 cm²/s.
    density : float, 1/Å³
        Atoms per volume; zero without a cell.
    """

    time: Array
    msd: Array
    coefficient: float
    error: float
    density: float

    def conductivity(self, charge: float, temperature: float) -> tuple[float, float]:
        """Return the ionic conductivity and its standard error, S/m, by the equation of Nernst and Einstein.

        sigma = n q² D / (k T): as if ions moved independently of each other.

        Parameters
        ----------
        charge : float, e
        temperature : float, K

        Raises
        ------
        ConfigError
            If the temperature is not positive.
        DataError
            If the trajectory has no volume.
        """
        if not temperature > 0:
            raise ConfigError(f"temperature = {temperature}: expected a positive number of K")
        if not self.density > 0:
            raise DataError("the conductivity needs the volume of a cell; the structures are not periodic")
        # e² / (eV Å ps) = e / (V Å ps) = _e C / (V 1e-10 m 1e-12 s) in S/m
        unit = _e * 1e22
        factor = unit * self.density * charge**2 / (kB * temperature)
        return factor * self.coefficient, factor * self.error


def diffusion(
    trajectory: Source, element: str, interval: float, *, fit: tuple[float, float] = (0.1, 0.5)
) -> Diffusion:
    """Return the diffusion of an element, by the slope of its mean squared displacement (Einstein).

    Parameters
    ----------
    trajectory : Dataset, or anything that `gprann.read` takes
        Frames of one simulation in their order, with equal times between them; jumps by whole periods of the cell are
        undone. The motion of the centre of mass of all atoms does not count.
    element : str
    interval : float, ps
        From one frame to the next.
    fit : tuple of two floats
        Parts of a block, a fifth of the length, between which a straight line is fitted to its mean squared
        displacement; the result is the mean of the blocks. Longer times are known from too few independent pieces.

    Returns
    -------
    Diffusion

    Raises
    ------
    DataError
        If the frames differ in their atoms, are too few, or lack the element.
    ConfigError
        If interval or fit are impossible.

    Examples
    --------
    >>> import gprann
    >>> import numpy as np
    >>> lattice = 9.0 * np.indices((3, 3, 3)).reshape(3, 27).T
    >>> steps = np.random.default_rng(0).normal(size=(400, 27, 3), scale=0.1)  # in 0.1 ps each: D = 0.1² / 0.2
    >>> walk = lattice + np.cumsum(steps, axis=0)
    >>> frames = [gprann.Structure(("Li",) * 27, positions) for positions in walk]
    >>> found = gprann.diffusion(frames, "Li", 0.1)
    >>> abs(found.coefficient - 0.05) < 0.01, found.error < 0.01
    (True, True)
    """
    if not 0 < interval < np.inf:
        raise ConfigError(f"interval = {interval}: expected a time in ps")
    if not 0 <= fit[0] < fit[1] <= 1:
        raise ConfigError(f"fit = {fit}: expected two parts of the length, 0 to 1, the first one smaller")
    frames = structures(trajectory)
    if len(frames) < 4 * _BLOCKS:
        raise DataError(f"{len(frames)} frames are too few for the diffusion; {4 * _BLOCKS} are needed")
    for frame in frames:
        if frame.symbols != frames[0].symbols:
            raise DataError(f"{frame.origin}: its atoms are not those of the first frame")
    chosen = np.array([symbol == element for symbol in frames[0].symbols])
    if not chosen.any():
        raise DataError(f"{frames[0].origin}: has no atoms of {element}")
    masses = frames[0].to_ase().get_masses()
    positions = unwrap(frames)
    positions = positions - (masses @ positions / masses.sum())[:, None]
    own = positions[:, chosen]
    blocks = [_slope(block, interval, fit) for block in np.array_split(own, _BLOCKS)]
    error = float(np.std(blocks, ddof=1) / np.sqrt(_BLOCKS))
    periodic = bool(frames[0].pbc.all())
    density = float(chosen.sum()) / float(np.mean([volume(frame) for frame in frames])) if periodic else 0.0
    time = interval * np.arange(len(own), dtype=np.float64)
    return Diffusion(time, mean_squared_displacement(own), float(np.mean(blocks)), error, density)


def unwrap(frames: Dataset) -> Array:
    """Return positions of all frames without jumps by whole periods, shape (n, N, 3), Å."""
    result = [np.asarray(frames[0].positions)]
    for frame in frames[1:]:
        step = frame.positions - result[-1]
        if frame.pbc.any():
            scaled = step @ np.linalg.pinv(frame.cell)
            step = step - (np.round(scaled) * frame.pbc) @ frame.cell
        result.append(result[-1] + step)
    return np.array(result)


def _slope(positions: Array, interval: float, fit: tuple[float, float]) -> float:
    """Return the diffusion coefficient, Å²/ps: a sixth of the slope."""
    msd = mean_squared_displacement(positions)
    begin, end = (round(part * (len(msd) - 1)) for part in fit)
    lags = np.arange(begin, max(end, begin + 1) + 1)
    return float(np.polyfit(interval * lags, msd[lags], 1)[0]) / 6.0
