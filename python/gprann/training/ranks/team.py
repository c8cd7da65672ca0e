"""The ranks as rank 0 sees them, and the loop in which the others do what it asks for."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from gprann.arrays import Array, Indices
from gprann.data.neighbours import species_indices
from gprann.data.structure import Dataset
from gprann.descriptors import Descriptor
from gprann.errors import DataError, GprannError, RankError
from gprann.runtime.mpi import Channel, Lower, Message, connect, deal
from gprann.runtime.resources import n_threads, thread_share
from gprann.runtime.role import TEAM, current_team
from gprann.training.ranks.part import Part

T = TypeVar("T")
Reply = Literal["none", "sum", "gather"]
Spread = Sequence[tuple[str, NDArray[Any]]]
"""Arrays with a row for each of the "structures" or "atoms", of which every rank gets its own rows."""
_END = "end"


def lead(work: Callable[[], T]) -> T:
    """Call a function on rank 0, while the other ranks serve what it does; return its result on all ranks.

    Every rank calls this. Within the function, and functions that it calls, `current_team` gives the ranks.

    Parameters
    ----------
    work : callable
        Its result is sent to all ranks: a small object.

    Raises
    ------
    ConfigError
        If mpi4py is missing, or there is no MPI.
    RankError
        On the other ranks, where the function has failed on rank 0.

    Examples
    --------
    >>> current_team() is None
    True
    """
    if current_team() is not None:  # a function that leads within another one
        return work()
    channel = connect()
    if channel.size == 1:
        return work()
    with thread_share(channel.threads(n_threads())):
        if channel.rank > 0:
            return _follow(channel)  # type: ignore[no-any-return]
        return _decide(channel, work)


def _decide(channel: Channel, work: Callable[[], T]) -> T:
    """Do the work of rank 0, and tell the others how it ended."""
    team = Team(channel)
    token = TEAM.set(team)
    try:
        result = work()
        answer = {"result": channel.to_bytes(result)}
    except (GprannError, OSError, ImportError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        channel.announce(Message(_END, {"failure": f"{error}"}, []))
        raise
    except BaseException as error:  # an interruption may have come in the midst of a message
        channel.abort(error)
    finally:
        TEAM.reset(token)
    channel.announce(Message(_END, answer, []))
    return result


def _follow(channel: Channel) -> Any:
    """Do what rank 0 asks for until it ends; return the result of its work."""
    part = Part(channel.rank)
    with _ends_all(channel):
        while True:
            name, facts, arrays = channel.receive()
            if name == _END:
                break
            for by, kind, tail in facts["spread"]:
                rows = len(part.owned if by == "structures" else part.atoms)
                arrays.append(channel.fetch(np.empty((rows, *tail), dtype=kind)))
            _perform(channel, facts["reply"], part, Message(name, facts["facts"], arrays))
    if "failure" in facts:
        raise RankError(f"rank 0 has failed: {facts['failure']}")
    return channel.from_bytes(facts["result"])


@contextlib.contextmanager
def _ends_all(channel: Channel) -> Iterator[None]:
    """End all ranks where this one fails."""
    try:
        yield
    except BaseException as error:
        channel.abort(error)


def _perform(channel: Channel, reply: Reply, part: Part, message: Message) -> list[Array]:
    """Do one thing on this rank, and return on rank 0 what all of them give.

    Raises
    ------
    RankError
        On rank 0, if it failed on another rank; what failed on rank 0 itself is raised as it is. Sums are for the
        steps of optimisers, which do not ask each time whether all is well: there a failure ends all ranks.
    """
    method: Callable[..., Any] = getattr(part, message.name)
    if reply == "sum":
        with _ends_all(channel):
            parts = method(*message.arrays, **message.facts)
        channel.sum(parts)
        return [item.matrix if isinstance(item, Lower) else item for item in parts]
    failure: Exception | None = None
    result = None
    try:
        result = method(*message.arrays, **message.facts)
    except Exception as error:
        failure = error
    layout = [] if result is None else [result.dtype.str, result.shape]
    replies = channel.comm.allgather((None if failure is None else f"{failure}", layout))
    if channel.rank == 0:
        if failure is not None:
            raise failure
        for rank, (text, _) in enumerate(replies):
            if text is not None:
                raise RankError(f"rank {rank} has failed: {text}")
    if reply == "none" or result is None or any(text is not None for text, _ in replies):
        return []
    if channel.rank > 0:
        channel.send(result, 0)
        return []
    others = [
        channel.fetch(np.empty(shape, dtype=kind), rank)
        for rank, (_, (kind, shape)) in enumerate(replies)
        if rank > 0
    ]
    return [result, *others]


class Team:
    """All ranks, with rank 0 among them.

    Attributes
    ----------
    channel : Channel
    part : Part
        What rank 0 does itself.
    owned, atoms : list of ndarray of int64
        Structures and atoms of each rank.
    """

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.part = Part(0)
        self.owned: list[Indices] = []
        self.atoms: list[Indices] = []
        self._numbers = itertools.count(1)
        self._forgotten: dict[str, list[int]] = {"objectives": [], "labels": [], "groups": []}

    @property
    def size(self) -> int:
        """Number of ranks."""
        return self.channel.size

    def number(self) -> int:
        """Return a number that no objective, model, label table or group has had."""
        return next(self._numbers)

    def forget(self, kind: Literal["objectives", "labels", "groups"], number: int) -> None:
        """Let the ranks let go of something with the next that they are told: this may be called at any time."""
        self._forgotten[kind].append(number)

    # ------------------------------------------------------------- messages
    def tell(self, name: str, *arrays: NDArray[Any], spread: Spread = (), **facts: Any) -> None:
        """Let all ranks do something; see `Part` for what there is."""
        self._call("none", Message(name, facts, list(arrays)), spread)

    def sum(self, name: str, *arrays: NDArray[Any], spread: Spread = (), **facts: Any) -> list[Array]:
        """Return the sums over the ranks of what they compute."""
        return self._call("sum", Message(name, facts, list(arrays)), spread)

    def gather(self, name: str, *arrays: NDArray[Any], **facts: Any) -> list[Array]:
        """Return what each rank computes, in their order."""
        return self._call("gather", Message(name, facts, list(arrays)), ())

    def by_structure(self, parts: Sequence[Array]) -> Array:
        """Return rows of each rank in the order of the structures."""
        result = np.empty((sum(map(len, parts)), *parts[0].shape[1:]))
        for own, part in zip(self.owned, parts, strict=True):
            result[own] = part
        return result

    def _call(self, reply: Reply, message: Message, spread: Spread) -> list[Array]:
        if any(self._forgotten.values()):
            forgotten = {
                kind: [held.pop() for _ in range(len(held))] for kind, held in self._forgotten.items()
            }
            self._call("none", Message("drop", forgotten, []), ())
        layout = [(by, array.dtype.str, array.shape[1:]) for by, array in spread]
        facts = {"reply": reply, "facts": message.facts, "spread": layout}
        self.channel.announce(Message(message.name, facts, message.arrays))
        own = list(message.arrays)
        for by, array in spread:
            rows = self.owned if by == "structures" else self.atoms
            for rank in range(1, self.size):
                self.channel.send(array[rows[rank]], rank)
            own.append(np.ascontiguousarray(array[rows[0]]))
        return _perform(self.channel, reply, self.part, Message(message.name, message.facts, own))

    # ------------------------------------------------------------ structures
    def divide(self, data: Dataset, descriptor: Descriptor, *, with_pairs: bool) -> None:
        """Give each rank its structures, and let it compute their descriptors.

        Parameters
        ----------
        data : Dataset
        descriptor : Descriptor
        with_pairs : bool
            Whether neighbour lists are kept.

        Raises
        ------
        ConfigError
            If there are more ranks than structures.
        DataError
            If atoms lie on top of each other, or an element is not known.
        """
        sizes = np.asarray(data.n_atoms, dtype=np.int64)
        owner = deal(sizes, self.size)
        first = np.concatenate([[0], np.cumsum(sizes)])
        of_atom = np.repeat(owner, sizes)
        self.owned = [np.flatnonzero(owner == rank) for rank in range(self.size)]
        self.atoms = [np.flatnonzero(of_atom == rank) for rank in range(self.size)]
        kinds = np.empty(first[-1], np.int64)
        for k, structure in enumerate(data):
            kinds[first[k] : first[k + 1]] = species_indices(structure, descriptor.species)
        self.tell("take", owner, sizes)
        self.tell(
            "place",
            spread=[
                ("atoms", np.concatenate([structure.positions for structure in data])),
                ("structures", np.array([structure.cell for structure in data])),
                ("structures", np.array([structure.pbc for structure in data])),
                ("atoms", kinds),
            ],
        )
        try:
            self.tell("describe", descriptor=descriptor, with_pairs=with_pairs)
        except (DataError, RankError):
            # A rank knows its structures by number alone: here the error names file and structure.
            descriptor.neighbours(data)
            raise
