"""The networks of ænet, one file for each element: `.nn`, and `.nn.ascii` as text."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gprann.arrays import Array
from gprann.errors import FormatError
from gprann.formats.aenet.records import Record, binary_content, read_records, text_content
from gprann.runtime.atomic_write import atomic_write

BINARY, TEXT = ".nn", ".nn.ascii"
LINEAR, TANH, SIGMOID, MTANH, TWIST = range(5)
PARAMETERS = 4  # numbers that describe a basis function
_AROUND = 2  # elements that a basis function may name


@dataclass(frozen=True, slots=True, kw_only=True)
class AenetNetwork:
    """The content of a file: the network of one element, its descriptor, and what it was trained on.

    Attributes
    ----------
    nodes : ndarray of int64, shape (L,)
        Widths of all layers, from the descriptor to the energy.
    activations : ndarray of int64, shape (L - 1,)
        Of the layers after the descriptor: 0 linear, 1 tanh, 2 sigmoid, 3 mtanh, 4 twist.
    weights : ndarray
        Layer by layer, column by column; the biases are the last column.
    description, element : str
    environment : tuple of str
        Elements of the neighbours; their order sets the weights of the descriptor.
    min_distance, cutoff : float, Å
        The first sizes buffers.
    basis : str
    functions : ndarray of int64, shape (D,)
    function_parameters : ndarray, shape (4 D,)
    function_elements : ndarray of int64, shape (2 D,)
    n_evaluations : int
    low, high, average, second_moment : ndarray, shape (D,)
        Of the components of the descriptor over the training set.
    training_file : str
    normalised : bool
    scale, shift : float, 1/eV and eV
        E_i = output / scale + shift + energy of the atom.
    elements : tuple of str
    atom_energies : ndarray, shape (S,), eV
    n_atoms, n_structures : int
    energies : ndarray, shape (3,), eV/atom
        Lowest, highest and mean energy of the training set.
    """

    nodes: NDArray[np.int64]
    activations: NDArray[np.int64]
    weights: Array
    description: str
    element: str
    environment: tuple[str, ...]
    min_distance: float
    cutoff: float
    basis: str
    functions: NDArray[np.int64]
    function_parameters: Array
    function_elements: NDArray[np.int64]
    n_evaluations: int
    low: Array
    high: Array
    average: Array
    second_moment: Array
    training_file: str
    normalised: bool
    scale: float
    shift: float
    elements: tuple[str, ...]
    atom_energies: Array
    n_atoms: int
    n_structures: int
    energies: Array

    def layers(self) -> list[tuple[Array, Array]]:
        """Return weights (out, in) and biases (out,) of each layer."""
        result, at = [], 0
        for below, above in zip(self.nodes[:-1].tolist(), self.nodes[1:].tolist(), strict=True):
            columns = self.weights[at : at + above * (below + 1)].reshape(below + 1, above)
            result.append((columns[:-1].T.copy(), columns[-1].copy()))
            at += columns.size
        return result

    def records(self) -> dict[str, Any]:
        """Return the values of all records of a file."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        follow = {
            name: np.array(numbers) if name.startswith("first_") else numbers[0]
            for name, numbers in _consequences(self.nodes.tolist()).items()
        }
        return {
            **own,
            **follow,
            "n_layers": len(self.nodes),
            "n_values": int((self.nodes[:-1] + 1).sum() + self.nodes[-1]),
            "n_environment": len(self.environment),
            "n_elements": len(self.elements),
        }


_RECORDS = (
    Record("n_layers", "integer"),
    Record("most_nodes", "integer"),
    Record("n_weights", "integer"),
    Record("n_values", "integer"),
    Record("nodes", "integer", lambda v: int(v["n_layers"])),
    Record("activations", "integer", lambda v: int(v["n_layers"]) - 1),
    Record("first_weights", "integer", lambda v: int(v["n_layers"])),
    Record("first_values", "integer", lambda v: int(v["n_layers"])),
    Record("weights", "real", lambda v: int(v["n_weights"])),
    Record("description", "text", width=1024),
    Record("element", "text", width=2),
    Record("n_environment", "integer"),
    Record("environment", "names", lambda v: int(v["n_environment"])),
    Record("min_distance", "real"),
    Record("cutoff", "real"),
    Record("basis", "text", width=100),
    Record("n_functions", "integer"),
    Record("n_parameters", "integer"),
    Record("functions", "integer", lambda v: int(v["n_functions"])),
    Record("function_parameters", "real", lambda v: int(v["n_parameters"] * v["n_functions"])),
    Record(
        "function_elements",
        "integer",
        lambda v: int(_AROUND * v["n_functions"]),
        # ænet itself writes as many rows as there are elements into text files.
        other_count=lambda v: int(v["n_environment"] * v["n_functions"]),
    ),
    Record("n_evaluations", "integer"),
    Record("low", "real", lambda v: int(v["n_functions"])),
    Record("high", "real", lambda v: int(v["n_functions"])),
    Record("average", "real", lambda v: int(v["n_functions"])),
    Record("second_moment", "real", lambda v: int(v["n_functions"])),
    Record("training_file", "text", width=1024),
    Record("normalised", "logical"),
    Record("scale", "real"),
    Record("shift", "real"),
    Record("n_elements", "integer"),
    Record("elements", "names", lambda v: int(v["n_elements"])),
    Record("atom_energies", "real", lambda v: int(v["n_elements"])),
    Record("n_atoms", "integer"),
    Record("n_structures", "integer"),
    Record("energies", "real", lambda _: 3),
)


def read_network(path: Path) -> AenetNetwork:
    """Read a `.nn` file, or a `.nn.ascii` file.

    Raises
    ------
    FormatError
        If the file is missing, cut, damaged, or its numbers contradict each other.
    """
    values = read_records(path, _RECORDS, text=path.name.endswith(TEXT))
    network = AenetNetwork(**{field.name: values[field.name] for field in fields(AenetNetwork)})
    if wrong := _contradiction(network, values):
        raise FormatError(f"{path}: {wrong}; copy the file again, or have ænet write it again")
    return network


def _contradiction(network: AenetNetwork, values: dict[str, Any]) -> str | None:
    """Return what in a file contradicts itself."""
    nodes = network.nodes.tolist()
    if len(nodes) < 2 or min(nodes) < 1:
        return f"the layers have {nodes} nodes, expected two layers or more, none of them empty"
    for name, expected in _consequences(nodes).items():
        if np.atleast_1d(values[name]).tolist() != expected:
            return f"'{name}' is {_short(values[name])}, which layers of {_short(network.nodes)} nodes contradict"
    around = network.environment
    names = (network.element, network.basis, *around, *network.elements)
    wrong = {
        "names of elements and of the basis are no printable text": not all(map(str.isprintable, names)),
        f"the network has {nodes[-1]} outputs, expected the energy alone": nodes[-1] != 1,
        f"the scale of the energies is {network.scale:g}, expected a positive number": network.scale <= 0,
        f"the neighbours are {' '.join(around) or 'none'}, expected each element once": len(set(around))
        != max(1, len(around)),
        f"there is no energy of the atom {network.element}": network.element not in network.elements,
    }
    return next((text for text, holds in wrong.items() if holds), None)


def _consequences(nodes: list[int]) -> dict[str, list[int]]:
    """Return what follows from the nodes of the layers: in exact numbers, whatever sizes a file claims."""
    weights, values = [0], [0]
    for below, above in itertools.pairwise(nodes):
        weights.append(weights[-1] + (below + 1) * above)
        values.append(values[-1] + below + 1)
    return {
        "most_nodes": [max(nodes)],
        "n_weights": weights[-1:],
        "n_parameters": [PARAMETERS],
        "n_functions": nodes[:1],
        "first_weights": weights,
        "first_values": values,
    }


def _short(value: Any) -> str:
    text = str(value.tolist() if isinstance(value, np.ndarray) else value)
    return text if len(text) < 80 else f"{text[:80]}..."


def write_network(path: Path, network: AenetNetwork) -> None:
    """Write a file: as text if its name ends in `.nn.ascii`.

    Raises
    ------
    WriteError
        If it cannot be written.
    """
    content = text_content if path.name.endswith(TEXT) else binary_content
    with atomic_write(path, "wb") as stream:
        stream.write(content(_RECORDS, network.records()))
