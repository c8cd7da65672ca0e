"""Ranks of MPI of which the first decides and the others serve it: messages, sums, and how all of them end.

Data travel as plain buffers; names, shapes and options as mpi4py serialises objects, between the ranks of one job.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from gprann.arrays import Array
from gprann.errors import ConfigError
from gprann.runtime.role import take_rank

_log = logging.getLogger(__name__)
_FIRST, _HEADER = (
    1 << 14,
    16,
)  # bytes of the first part of a message, which most of them fit into, and of its lengths
_BLOCK = 512  # rows of a triangle that are summed at a time
_TAG = 7
_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")  # what mpiexec tells the processes that it starts
# Polling with pauses, so that ranks that wait leave the processor to others: after this many seconds, of this length.
_PAUSES = ((0.002, 0.0), (0.05, 5e-5), (5.0, 1e-3), (float("inf"), 1e-2))


class Lower(NamedTuple):
    """A square matrix of which the lower triangle alone is summed."""

    matrix: Array


class Message(NamedTuple):
    """A thing to be done: the name of a method, arrays, and plain facts."""

    name: str
    facts: dict[str, Any]
    arrays: list[NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Channel:
    """The communicator of all ranks.

    Attributes
    ----------
    comm : mpi4py.MPI.Comm
    """

    comm: Any

    @property
    def rank(self) -> int:
        """Number of this process; 0 decides."""
        return int(self.comm.Get_rank())

    @property
    def size(self) -> int:
        """Number of processes."""
        return int(self.comm.Get_size())

    def to_bytes(self, thing: object) -> bytes:
        """Return an object as mpi4py sends it to the other ranks."""
        return bytes(_mpi().pickle.dumps(thing))

    def from_bytes(self, content: bytes) -> Any:
        """Return the object that another rank has sent."""
        return _mpi().pickle.loads(content)

    def announce(self, message: Message) -> None:
        """Tell the other ranks what is to be done; called by rank 0, while they `receive`."""
        layout = [(array.dtype.str, array.shape) for array in message.arrays]
        facts = self.to_bytes((message.name, message.facts, layout))
        payload = b"".join([facts, *(np.ascontiguousarray(array).tobytes() for array in message.arrays)])
        first = np.zeros(_FIRST, dtype=np.uint8)
        first[:_HEADER].view(np.int64)[:] = len(facts), len(payload)
        whole = np.frombuffer(payload, np.uint8)
        room = _FIRST - _HEADER
        first[_HEADER : _HEADER + len(payload)] = whole[:room]
        self._finish(self.comm.Ibcast(first, root=0))
        if len(payload) > room:
            self._finish(self.comm.Ibcast(whole[room:], root=0))

    def receive(self) -> Message:
        """Wait for what rank 0 announces."""
        first = np.empty(_FIRST, dtype=np.uint8)
        self._finish(self.comm.Ibcast(first, root=0))
        begin, size = map(int, first[:_HEADER].view(np.int64))
        payload = np.empty(size, dtype=np.uint8)
        room = _FIRST - _HEADER
        payload[:room] = first[_HEADER : _HEADER + size]
        if size > room:
            self._finish(self.comm.Ibcast(payload[room:], root=0))
        name, facts, layout = self.from_bytes(payload[:begin].tobytes())
        arrays = []
        for kind, shape in layout:
            end = begin + np.dtype(kind).itemsize * int(np.prod(shape, dtype=np.int64))
            arrays.append(payload[begin:end].copy().view(kind).reshape(shape))
            begin = end
        return Message(name, facts, arrays)

    def sum(self, parts: Iterable[Array | Lower]) -> None:
        """Add up arrays of all ranks, in place on rank 0."""
        for part in parts:
            if not isinstance(part, Lower):
                self._sum(part)
                continue
            matrix = part.matrix
            for begin in range(0, len(matrix), _BLOCK):
                end = min(begin + _BLOCK, len(matrix))
                rows = np.ascontiguousarray(matrix[begin:end, :end])
                self._sum(rows)
                if self.rank == 0:
                    matrix[begin:end, :end] = rows

    def _sum(self, array: Array) -> None:
        if self.rank == 0:
            self._finish(self.comm.Ireduce(_in_place(), array, root=0))
        else:
            self._finish(self.comm.Ireduce(array, None, root=0))

    def send(self, array: NDArray[Any], rank: int) -> None:
        """Send an array, whose type and shape the receiver knows."""
        self._finish(self.comm.Isend(np.ascontiguousarray(array), dest=rank, tag=_TAG))

    def fetch(self, array: NDArray[Any], rank: int = 0) -> NDArray[Any]:
        """Fill an array with what a rank sends, and return it."""
        self._finish(self.comm.Irecv(array, source=rank, tag=_TAG))
        return array

    def abort(self, error: BaseException) -> NoReturn:
        """Print the error of this rank, and end all of them: others would wait for it forever."""
        text = "".join(traceback.format_exception(error))
        sys.stderr.write(
            f"{text}gprann: rank {self.rank} of {self.size} has failed, all ranks end: {error}\n"
        )
        sys.stderr.flush()
        sys.stdout.flush()
        self.comm.Abort(1)
        raise SystemExit(1)  # MPI has ended the process already

    @staticmethod
    def _finish(request: Any) -> None:
        """Wait until a communication is finished."""
        started = time.perf_counter()
        while not request.Test():
            waited = time.perf_counter() - started
            time.sleep(next(pause for after, pause in _PAUSES if waited < after))

    def threads(self, available: int) -> int:
        """Return the threads of this rank: the ranks of one machine share its processors.

        Parameters
        ----------
        available : int
            Threads that a process alone would use.
        """
        if any(os.environ.get(name) for name in ("GPRANN_NUM_THREADS", "OMP_NUM_THREADS")):
            return available
        here = self.comm.Split_type(_mpi().COMM_TYPE_SHARED)
        wanted, beside = here.allreduce(available), here.Get_size()
        here.Free()
        processors = os.cpu_count() or 1
        return available if wanted <= processors else max(1, processors // beside)


def connect() -> Channel:
    """Return the channel of all processes that mpiexec has started.

    Raises
    ------
    ConfigError
        If mpi4py is missing, or cannot use the MPI whose mpiexec started this process.
    """
    channel = Channel(_mpi().COMM_WORLD)
    told = next((os.environ[name] for name in _SIZES if name in os.environ), "1")
    if channel.size == 1 and told.isdecimal() and int(told) > 1:
        raise ConfigError(
            f"mpi = true: mpiexec has started {told} processes, but mpi4py sees one alone: it was built for another "
            "MPI than this mpiexec belongs to; use the mpiexec of the same MPI, or reinstall mpi4py with "
            "pip install --no-binary mpi4py --force-reinstall mpi4py"
        )
    if channel.size == 1:
        _log.info(
            "mpi = true, but there is one rank alone, which does all the work; start several with mpiexec -n 4 ..."
        )
    take_rank(channel.rank)
    return channel


def _mpi() -> Any:
    """Return the module of mpi4py."""
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise ConfigError(
            f"mpi = true needs mpi4py and an MPI, which cannot be used here ({error}): "
            "pip install 'gprann[mpi]' beside an MPI of the system, or leave mpi out"
        ) from error
    except RuntimeError as error:  # mpi4py finds no library of MPI
        raise ConfigError(
            f"mpi = true: mpi4py finds no MPI ({error}); install one, for example with apt-get install openmpi-bin "
            "or pip install mpich, or leave mpi out"
        ) from error
    return MPI


def _in_place() -> Any:
    return _mpi().IN_PLACE


def deal(sizes: Sequence[int] | NDArray[np.int64], ranks: int) -> NDArray[np.int64]:
    """Return the rank of each piece of work, so that all ranks have about the same sum of sizes, and each a piece.

    The largest first, each to the rank that has least (Graham, SIAM J. Appl. Math. 17, 416 (1969)).

    Parameters
    ----------
    sizes : sequence of int, n of them
    ranks : int

    Raises
    ------
    ConfigError
        If there are more ranks than pieces.

    Examples
    --------
    >>> deal([2, 2, 8, 2, 2], 2).tolist()
    [1, 1, 0, 1, 1]
    """
    import heapq

    if len(sizes) < ranks:
        raise ConfigError(
            f"mpi: {ranks} ranks, but only {len(sizes)} structures to divide among them; start fewer ranks"
        )
    loads = [(0, rank) for rank in range(ranks)]
    owner = np.empty(len(sizes), dtype=np.int64)
    for piece in np.argsort(-np.asarray(sizes), kind="stable").tolist():
        load, rank = heapq.heappop(loads)
        owner[piece] = rank
        heapq.heappush(loads, (load + int(sizes[piece]), rank))
    return owner
