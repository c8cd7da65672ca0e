"""Networks of ænet made of a potential: exact up to rounding.

Both are perceptrons on the same descriptor. What differs is folded into the first layer and the set-up:

    gprann:  E_i = u y(g) + E0,                     g = (G - mean) / sigma,  u the unit of energy
    ænet:    E_i = y(g) / scale + shift + E_atom,   g = (G - avg) / sqrt(cov - avg^2)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gprann.arrays import Array
from gprann.baselines import ReferenceEnergies, terms_of
from gprann.descriptors import ChebyshevDescriptor
from gprann.descriptors.chebyshev import aenet_weights
from gprann.errors import ConfigError
from gprann.formats.aenet.network_file import LINEAR, PARAMETERS, TANH, TWIST, AenetNetwork
from gprann.formats.aenet.setup_file import MIN_DISTANCE, AenetSetup
from gprann.models import NetworkModel
from gprann.potential import Potential
from gprann.version import __version__

DESCRIPTION = f"gprann {__version__}"
_ACTIVATIONS = {"tanh": TANH, "twist": TWIST, "linear": LINEAR}
_SMALLEST, _LARGEST = 1e-8, 1e8  # standard deviations that are written; others go into the weights


def check_exportable(potential: Potential) -> None:
    """Refuse potentials that ænet cannot evaluate.

    Raises
    ------
    ConfigError
        Naming what stands against it.
    """
    descriptor, model = potential.descriptor, potential.model
    if type(descriptor) is not ChebyshevDescriptor:
        raise ConfigError(
            f"descriptor {descriptor!r}: ænet has none but the Chebyshev descriptor; train with that one for ænet"
        )
    n_species = len(descriptor.species)
    own = [tuple(aenet_weights(n_species))] if n_species > 1 else []
    if list(descriptor.weights) != own:
        raise ConfigError(
            f"weights = {[list(row) for row in descriptor.weights]}: ænet has fixed weights, here "
            f"{[list(row) for row in own]}; leave weights out when you train for ænet"
        )
    if descriptor.angular_order is not None and descriptor.angular_cutoff > descriptor.radial_cutoff:
        raise ConfigError(
            f"angular_cutoff = {descriptor.angular_cutoff:g} is larger than radial_cutoff = "
            f"{descriptor.radial_cutoff:g}, where ænet's angular terms are at fault; train with an angular cutoff up "
            "to the radial one for ænet"
        )
    if not isinstance(model, NetworkModel):
        raise ConfigError(f"model {model!r}: ænet has none but networks; train with networks for ænet")
    if model.activation not in _ACTIVATIONS:
        raise ConfigError(
            f'activation = "{model.activation}": ænet has none like it; train with "tanh" for ænet'
        )
    for term in terms_of(potential.baseline):
        if not isinstance(term, ReferenceEnergies):
            raise ConfigError(
                f"baseline {term!r}: ænet has none but reference energies; train without it for ænet"
            )


@dataclass(frozen=True, slots=True)
class _Columns:
    """The descriptor as ænet has it: always with an angular part.

    Attributes
    ----------
    parameters : tuple of four floats
    chosen : ndarray of bool, shape (ænet's D,)
        Components that gprann's descriptor has.
    """

    parameters: tuple[float, float, float, float]
    chosen: NDArray[np.bool_]

    @classmethod
    def of(cls, descriptor: ChebyshevDescriptor) -> _Columns:
        """Return the columns of a descriptor; ænet's order 0 stands for no angular part."""
        none = descriptor.angular_order is None
        order = descriptor.angular_order or 0
        radial = descriptor.radial_order + 1
        channel = [True] * radial + [not none] * (order + 1)
        cutoff = (
            min(descriptor.angular_cutoff, descriptor.radial_cutoff) if none else descriptor.angular_cutoff
        )
        parameters = (descriptor.radial_cutoff, float(descriptor.radial_order), cutoff, float(order))
        return cls(parameters, np.array(channel * len(descriptor.channels)))

    def spread(self, values: Array, missing: float) -> Array:
        """Return values of the components, with `missing` for those that gprann does not have."""
        result = np.full((*values.shape[:-1], len(self.chosen)), missing)
        result[..., self.chosen] = values
        return result


def networks_of(potential: Potential, member: int) -> list[tuple[AenetSetup, AenetNetwork]]:
    """Return set-up and network of each element for one member of a potential that ænet can evaluate."""
    descriptor, model = potential.descriptor, potential.model
    assert isinstance(descriptor, ChebyshevDescriptor)
    assert isinstance(model, NetworkModel)
    columns = _Columns.of(descriptor)
    references = potential.reference_energies
    result = []
    for kind, element in enumerate(potential.species):
        mean, inverse = potential.normalisation.mean[kind], potential.normalisation.inverse_scale[kind]
        sigma = np.divide(1.0, inverse, where=inverse != 0, out=np.zeros_like(inverse))
        written = np.where((sigma > _SMALLEST) & (sigma < _LARGEST), sigma, 1.0)
        layers = _layers(model, potential.parameters[member], kind)
        weights, biases = layers[0]
        # ænet's mean is 0, and the mean a part of the biases: cov - avg^2 would lose digits.
        layers[0] = (
            columns.spread(weights * (inverse * written), 0.0),
            biases - weights @ (mean * inverse),
        )
        deviation, centre = columns.spread(written, 1.0), columns.spread(mean, 0.0)
        network = AenetNetwork(
            nodes=np.array([len(columns.chosen), *model.hidden, 1]),
            activations=np.array([*[_ACTIVATIONS[model.activation]] * len(model.hidden), LINEAR]),
            weights=np.concatenate([np.vstack([W.T, b]).ravel() for W, b in layers]),
            description=f"{DESCRIPTION}$$",
            element=element,
            environment=potential.species,
            min_distance=MIN_DISTANCE,
            cutoff=descriptor.radial_cutoff,
            basis="Chebyshev",
            functions=np.zeros(len(columns.chosen), np.int64),
            function_parameters=np.array([*columns.parameters, *[0.0] * PARAMETERS * (len(deviation) - 1)]),
            function_elements=np.zeros(2 * len(deviation), np.int64),
            n_evaluations=1,
            low=centre - 3 * deviation,  # gprann keeps no extremes; ænet only shows them
            high=centre + 3 * deviation,
            average=np.zeros_like(deviation),
            second_moment=deviation**2,
            training_file=DESCRIPTION,
            normalised=True,
            scale=1 / potential.energy_scale,
            shift=0.0,
            elements=potential.species,
            atom_energies=np.array([references.get(symbol, 0.0) for symbol in potential.species]),
            n_atoms=0,
            n_structures=0,
            energies=np.zeros(3),
        )
        result.append((AenetSetup(element, potential.species, columns.parameters), network))
    return result


def _layers(model: NetworkModel, parameters: Array, kind: int) -> list[tuple[Array, Array]]:
    """Return weights (out, in) and biases of the network of one species."""
    return [
        (parameters[weights].reshape(model.sizes[layer + 1], model.sizes[layer]), parameters[biases])
        for species, layer, weights, biases in model.layers()
        if species == kind
    ]
