"""Files of a simulation: trajectory and log, which grow, and the checkpoint from which it goes on."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import FiniteFloat, NonNegativeInt, TypeAdapter

from gprann.arrays import Array
from gprann.data.structure import Structure
from gprann.dynamics.integrators import State
from gprann.dynamics.options import MdOptions
from gprann.errors import ConfigError, FormatError
from gprann.runtime.archives import DAMAGED_CONTENT, read_arrays
from gprann.runtime.atomic_write import WriteError, append_whole, atomic_write, write_error

TRAJECTORY, LOG = "trajectory.extxyz", "log.csv"
_BUFFER = 8192  # bytes
_VERSION = 2  # 1 had no grades in its log
_ARRAYS = ("positions", "momenta", "cell", "forces")


class GrowingFile:
    """A file that only grows, and is cut back to the length that the checkpoint knows.

    Parameters
    ----------
    path : Path
    size : int
        Length in bytes to which an existing file is cut; 0 for a new one.

    Raises
    ------
    FormatError
        If the file is shorter than that.
    WriteError
        If it cannot be opened.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path, self._pending = path, bytearray()
        try:
            self._stream = path.open("r+b" if size else "w+b", buffering=0)
        except OSError as error:
            raise WriteError(
                f"{path}: cannot be opened for writing: {error.strerror}; check the folder"
            ) from error
        if os.fstat(self._stream.fileno()).st_size < size:
            self._stream.close()
            raise FormatError(
                f"{path}: is shorter than the checkpoint says; begin anew in another folder, or restore the file"
            )
        self._stream.truncate(size)
        self._stream.seek(0, os.SEEK_END)

    def write(self, text: str) -> None:
        """Append a text.

        Raises
        ------
        WriteError
        """
        self._pending += text.encode("utf-8")
        if len(self._pending) >= _BUFFER:
            self._write_pending()

    def flush(self) -> int:
        """Bring everything to the disk; return the length, bytes.

        Raises
        ------
        WriteError
        """
        self._write_pending()
        try:
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise write_error(self._path, error) from error
        return self._stream.tell()

    def close(self) -> None:
        """Write what is left and close the file.

        Raises
        ------
        WriteError
        """
        try:
            self._write_pending()
        finally:
            self._stream.close()

    def _write_pending(self) -> None:
        try:
            append_whole(self._stream, self._pending)
        except OSError as error:
            raise write_error(self._path, error) from error
        self._pending.clear()


@dataclass(slots=True)
class Frames:
    """The last frames: steps, positions and cells.

    Attributes
    ----------
    most : int
        How many are kept.
    """

    most: int
    steps: list[int] = field(default_factory=list)
    positions: list[Array] = field(default_factory=list)
    cells: list[Array] = field(default_factory=list)

    def add(self, state: State) -> None:
        """Add the frame of now, and drop the oldest where there are too many."""
        self.steps.append(state.step)
        self.positions.append(state.positions.copy())
        self.cells.append(state.cell.copy())
        for kept in (self.steps, self.positions, self.cells):
            del kept[: max(0, len(kept) - self.most)]

    def structures(self, structure: Structure) -> list[Structure]:
        """Return them as structures without labels."""
        return [
            structure.with_positions(positions, cell=cell)
            for positions, cell in zip(self.positions, self.cells, strict=True)
        ]


@contextlib.contextmanager
def damaged_checkpoint(path: Path) -> Iterator[None]:
    """Make of whatever goes wrong with the content of a checkpoint an error that names its file.

    Raises
    ------
    FormatError
    """
    try:
        yield
    except DAMAGED_CONTENT as error:
        if isinstance(error, FormatError) and str(path) in str(error):
            raise
        raise FormatError(
            f"{path}: is no checkpoint, or damaged ({error}); begin anew in another folder"
        ) from error


@dataclass(frozen=True, slots=True)
class _Values:
    """Types of the plain data of a checkpoint."""

    options: dict[str, Any]
    symbols: list[str]
    pbc: list[bool]
    step: NonNegativeInt
    energy: FiniteFloat
    heat: FiniteFloat
    generator: dict[str, Any]
    frame_steps: list[NonNegativeInt]
    sizes: dict[str, NonNegativeInt]
    worst: tuple[float, int, int]
    highest: tuple[float, int, int]


def _check_values(values: Mapping[str, Any]) -> None:
    """Refuse plain data that no run can go on from."""
    found = TypeAdapter(_Values).validate_python(values)
    if set(found.sizes) != {TRAJECTORY, LOG}:  # other files must not be cut to a length
        raise ValueError(f"it names the files {', '.join(found.sizes)}")
    MdOptions.from_dict(found.options)


def _check_arrays(arrays: Mapping[str, Array], n_atoms: int, n_frames: int) -> None:
    """Refuse arrays of other shapes, or with numbers that are not finite."""
    shapes = {
        **dict.fromkeys(("positions", "momenta", "forces"), (n_atoms, 3)),
        "cell": (3, 3),
        "stress": (6,),
        "frame_positions": (n_frames, n_atoms, 3),
        "frame_cells": (n_frames, 3, 3),
    }
    for name, array in arrays.items():
        if array.dtype != np.float64 or array.shape != shapes.get(name) or not np.isfinite(array).all():
            raise ValueError(f"{name!r} is no array of finite numbers of shape {shapes.get(name)}")
    missing = shapes.keys() - arrays.keys() - {"stress"}
    if missing:
        raise ValueError(f"{min(missing)!r} is missing")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All that a simulation needs to go on.

    Attributes
    ----------
    values : mapping
        Plain data: options, step, energy, heat, state of the generator, lengths of files, ...
    arrays : mapping of name to ndarray
        Positions, momenta, cell, forces, stress, last frames.
    """

    values: Mapping[str, Any]
    arrays: Mapping[str, Array]

    @classmethod
    def of(
        cls, state: State, frames: Frames, options: MdOptions, structure: Structure, **values: Any
    ) -> Self:
        """Gather it from the running simulation."""
        arrays = {name: getattr(state, name).copy() for name in _ARRAYS}
        if state.stress is not None:
            arrays["stress"] = np.array(state.stress)
        shape = state.positions.shape
        arrays["frame_positions"] = np.array(frames.positions).reshape(-1, *shape)
        arrays["frame_cells"] = np.array(frames.cells).reshape(-1, 3, 3)
        return cls(
            {
                "version": _VERSION,
                "options": options.to_dict(),
                "symbols": list(structure.symbols),
                "pbc": structure.pbc.tolist(),
                "step": state.step,
                "energy": state.energy,
                "heat": state.heat,
                "generator": state.rng.bit_generator.state,
                "frame_steps": frames.steps,
                **values,
            },
            arrays,
        )

    def write(self, path: Path) -> None:
        """Write it to a file; the old one stays until the new one is complete."""
        stream = io.BytesIO()
        text = np.frombuffer(json.dumps(self.values).encode("utf-8"), dtype=np.uint8)
        np.savez(stream, **{**self.arrays, "values": text})  # type: ignore[arg-type]
        with atomic_write(path, "wb") as file:
            file.write(stream.getbuffer())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote.

        Raises
        ------
        FormatError
            If the file is damaged or of another version.
        """
        with damaged_checkpoint(path):
            arrays = read_arrays(path)
            values = json.loads(arrays.pop("values").tobytes().decode("utf-8"))
            if values["version"] != _VERSION:
                raise FormatError(
                    f"{path}: is of version {values['version']}, this program reads {_VERSION}; begin anew in "
                    "another folder"
                )
            _check_values(values)
            _check_arrays(arrays, len(values["symbols"]), len(values["frame_steps"]))
        return cls(values, arrays)

    def restore(self, state: State, frames: Frames) -> None:
        """Set a state and the last frames to those of the checkpoint."""
        for name in _ARRAYS:
            getattr(state, name)[...] = self.arrays[name]
        state.stress = self.arrays.get("stress")
        state.step, state.energy = self.values["step"], self.values["energy"]
        state.heat = self.values["heat"]
        state.rng.bit_generator.state = self.values["generator"]
        frames.steps[:] = self.values["frame_steps"][-frames.most :]
        frames.positions[:] = list(self.arrays["frame_positions"][-frames.most :])
        frames.cells[:] = list(self.arrays["frame_cells"][-frames.most :])

    def check(self, structure: Structure, options: MdOptions) -> None:
        """Refuse to go on with another structure or other options.

        Raises
        ------
        ConfigError
            Naming what differs.
        """
        if self.values["symbols"] != list(structure.symbols) or self.values["pbc"] != structure.pbc.tolist():
            raise ConfigError(
                f"{structure.origin}: the run in this folder was begun with other atoms; give another folder"
            )
        options.check_resumed(MdOptions.from_dict(self.values["options"]))
