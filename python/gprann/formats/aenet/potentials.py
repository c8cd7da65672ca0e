"""A potential made of networks of ænet: exact up to rounding; see `networks` for what differs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gprann.arrays import Array
from gprann.baselines import ReferenceEnergies
from gprann.descriptors import ChebyshevDescriptor
from gprann.errors import FormatError
from gprann.formats.aenet.network_file import LINEAR, MTANH, PARAMETERS, SIGMOID, TANH, TWIST, AenetNetwork
from gprann.formats.aenet.setup_file import AenetSetup
from gprann.models import Mlp, Model, Normalisation
from gprann.models.network import Activation
from gprann.potential import Potential

Member = Mapping[str, tuple[Path, AenetNetwork]]
"""The networks of one potential by their elements, and their files."""
_A, _B = 1.7159, 0.666666666666667
# Activations that are tanh on another scale: inner factor, outer factor, offset.
_AS_TANH = {TANH: (1.0, 1.0, 0.0), SIGMOID: (0.5, 0.5, 0.5), MTANH: (_B, _A, 0.0)}
_CONSTANT = 1e-10  # standard deviation up to which ænet leaves a component out
_MOST = 10**8  # weights of a potential


@dataclass(frozen=True, slots=True)
class _Element:
    """The network of one element of one member, in the terms of gprann.

    Attributes
    ----------
    layers : list of (out, in) weights and (out,) biases
        With activations that need no factors.
    mean, inverse : ndarray, shape (D,)
    unit, reference : float, eV
        E_i = unit * output + reference.
    """

    layers: list[tuple[Array, Array]]
    mean: Array
    inverse: Array
    unit: float
    reference: float

    @classmethod
    def of(cls, network: AenetNetwork, chosen: NDArray[np.bool_]) -> _Element:
        """Return the network with those components of the descriptor that gprann has."""
        variance = network.second_moment - network.average**2
        sigma = np.sqrt(np.maximum(variance, 0.0))[chosen]
        varies = sigma > _CONSTANT
        layers = network.layers()
        layers[0] = (layers[0][0][:, chosen], layers[0][1])
        factor, offset = 1.0, 0.0  # by which the values of the layer below differ
        for k, ((weights, biases), kind) in enumerate(zip(layers, network.activations.tolist(), strict=True)):
            inner, outer, shift = _AS_TANH.get(kind, (1.0, 1.0, 0.0))
            layers[k] = (weights * (factor * inner), (biases + weights.sum(axis=1) * offset) * inner)
            factor, offset = outer, shift
        return cls(
            layers,
            network.average[chosen],
            np.divide(1.0, sigma, where=varies, out=np.zeros_like(sigma)),
            1 / network.scale,
            network.shift + float(network.atom_energies[network.elements.index(network.element)]),
        )

    def parameters(self, common: _Element, hidden: Sequence[int]) -> list[Array]:
        """Return the parameters for the normalisation, unit and reference energy that all members have.

        Hidden layers of more nodes get nodes whose value is 0.
        """
        layers = list(self.layers)
        weights, biases = layers[0]
        ratio = np.divide(
            self.inverse, common.inverse, where=common.inverse > 0, out=np.zeros_like(self.mean)
        )
        layers[0] = (weights * ratio, biases + weights @ ((common.mean - self.mean) * self.inverse))
        weights, biases = layers[-1]
        ratio_of_units = self.unit / common.unit
        shift = (self.reference - common.reference) / common.unit
        layers[-1] = (weights * ratio_of_units, biases * ratio_of_units + shift)
        widths = [len(self.mean), *hidden, 1]
        result = []
        for (weights, biases), (below, above) in zip(layers, itertools.pairwise(widths), strict=True):
            more = above - len(biases)
            result.append(np.pad(weights, ((0, more), (0, below - weights.shape[1]))).ravel())
            result.append(np.pad(biases, (0, more)))
        return result


def potential_of(members: Sequence[Member]) -> Potential:
    """Return the potential of some networks, a committee if there are several members.

    Parameters
    ----------
    members : sequence of mappings of element to (path, AenetNetwork)

    Raises
    ------
    FormatError
        If the files do not belong together, or gprann has no such potential.
    """
    files = [item for member in members for item in member.values()]
    for path, network in files:
        _check_basis(path, network, files[0])
    for member in members:
        _check_elements(member)
    activation, hidden = _activation(files), _hidden(files)
    descriptor, chosen = _descriptor(files)
    options: Model = Mlp(hidden=tuple(hidden), activation=activation)
    model = options.build(descriptor.size, len(descriptor.species))
    if model.n_parameters > _MOST:
        raise FormatError(
            f"{files[0][0]}: the networks have {model.n_parameters} weights, which gprann cannot hold"
        )
    each = [[_Element.of(member[symbol][1], chosen) for symbol in descriptor.species] for member in members]
    unit = each[0][0].unit
    common = [replace(_common(own), unit=unit) for own in zip(*each, strict=True)]
    parameters = [
        np.concatenate(
            [part for one, shared in zip(own, common, strict=True) for part in one.parameters(shared, hidden)]
        )
        for own in each
    ]
    references = {symbol: one.reference for symbol, one in zip(descriptor.species, common, strict=True)}
    return Potential(
        descriptor,
        Normalisation(np.array([one.mean for one in common]), np.array([one.inverse for one in common])),
        model,
        np.array(parameters),
        baseline=ReferenceEnergies(energies=references),
        energy_scale=unit,
        provenance={"converted": {"program": "ænet", "files": [str(path.absolute()) for path, _ in files]}},
    )


def _common(members: Sequence[_Element]) -> _Element:
    """Return the first member, where a component is constant for it with the normalisation of another."""
    first = members[0]
    mean, inverse = first.mean.copy(), first.inverse.copy()
    for other in members[1:]:
        lacking = (inverse == 0) & (other.inverse > 0)
        mean[lacking], inverse[lacking] = other.mean[lacking], other.inverse[lacking]
    return replace(first, mean=mean, inverse=inverse)


def _check_basis(path: Path, network: AenetNetwork, first: tuple[Path, AenetNetwork]) -> None:
    """Refuse another descriptor than ænet's Chebyshev descriptor, and another than that of the first file."""
    if network.basis.lower() != "chebyshev":
        raise FormatError(f"{path}: has the basis '{network.basis}'; gprann has ænet's Chebyshev basis alone")
    if network.environment != first[1].environment:
        raise FormatError(
            f"{path}: has the elements {' '.join(network.environment)}, but {first[0]} has "
            f"{' '.join(first[1].environment)}: their order sets the weights of ænet's descriptor, and gprann has one "
            "for all elements; train with one order in all set-ups"
        )
    if _basis(network) != _basis(first[1]):
        raise FormatError(
            f"{path}: has radial_Rc, radial_N, angular_Rc, angular_N = {_numbers(network)}, but {first[0]} has "
            f"{_numbers(first[1])}; gprann has one descriptor for all elements"
        )


def _basis(network: AenetNetwork) -> tuple[float, float, float, float]:
    a, b, c, d = network.function_parameters[:PARAMETERS].tolist()
    return a, b, c, d


def _numbers(network: AenetNetwork) -> str:
    return " ".join(f"{value:g}" for value in _basis(network))


def _check_elements(member: Member) -> None:
    """Refuse members that lack the network of an element, or have one of another element."""
    path, network = next(iter(member.values()))
    missing = [symbol for symbol in network.environment if symbol not in member]
    if missing:
        raise FormatError(
            f"{path}: the descriptor knows {' '.join(network.environment)}, but there is no network for "
            f"{' '.join(missing)}; give one file for each element"
        )
    unknown = [symbol for symbol in member if symbol not in network.environment]
    if unknown:
        raise FormatError(
            f"{member[unknown[0]][0]}: is the network of {unknown[0]}, which is not among the elements of its "
            f"descriptor, {' '.join(network.environment)}; gprann has the same elements everywhere"
        )


def _activation(files: Sequence[tuple[Path, AenetNetwork]]) -> Activation:
    """Return the activation of the hidden layers of all networks."""
    found: set[Activation] = set()
    for path, network in files:
        *hidden, last = network.activations.tolist()
        if last != LINEAR:
            raise FormatError(
                f"{path}: the output has activation {last}; gprann has linear outputs (0) alone"
            )
        for kind in hidden:
            if kind not in (LINEAR, TWIST, *_AS_TANH):
                raise FormatError(f"{path}: activation {kind} is unknown; expected 0 to 4")
            found.add("linear" if kind == LINEAR else "twist" if kind == TWIST else "tanh")
        if len(found) > 1:
            raise FormatError(
                f"{path}: hidden layers with {' and '.join(sorted(found))}: gprann has one activation for all hidden "
                "layers (tanh, sigmoid and mtanh count as one); train with one"
            )
    return found.pop() if found else "linear"


def _hidden(files: Sequence[tuple[Path, AenetNetwork]]) -> list[int]:
    """Return the widths of the hidden layers: of each the widest."""
    first, network = files[0]
    for path, other in files:
        if len(other.nodes) != len(network.nodes):
            raise FormatError(
                f"{path}: has {len(other.nodes) - 2} hidden layers, but {first} has {len(network.nodes) - 2}; "
                "gprann has the same number for all elements"
            )
    return [int(width) for width in np.max([one.nodes[1:-1] for _, one in files], axis=0)]


def _descriptor(files: Sequence[tuple[Path, AenetNetwork]]) -> tuple[ChebyshevDescriptor, NDArray[np.bool_]]:
    """Return the descriptor, and which components of ænet's it has: angular ones only if a network sees them."""
    path, network = files[0]
    descriptor = AenetSetup(network.element, network.environment, _basis(network)).descriptor(path)
    for file, one in files:
        if one.nodes[0] != descriptor.size:
            raise FormatError(
                f"{file}: has {one.nodes[0]} components of the descriptor, expected {descriptor.size} for its orders "
                "and elements; copy the file again"
            )
    chosen = np.ones(descriptor.size, bool)
    if descriptor.angular_order == 0:
        angular = np.arange(descriptor.size) % (descriptor.radial_order + 2) == descriptor.radial_order + 1
        if not any(one.layers()[0][0][:, angular].any() for _, one in files):
            return descriptor.replace(angular_order=None), ~angular
    return descriptor, chosen
