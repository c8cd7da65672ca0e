"""The interface of models of atomic energies: options that a file can name, and the model that they build."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gprann.arrays import Array
from gprann.options import Named, Registry


class AtomModel(Protocol):
    """The energy of an atom as a function of its descriptor and of one flat parameter vector, per species.

    Attributes
    ----------
    n_features, n_species, n_parameters : int
    """

    n_features: int
    n_species: int

    @property
    def options(self) -> Model:
        """By which it was built."""

    @property
    def n_parameters(self) -> int:
        """Number of parameters of all species."""

    @property
    def linear(self) -> bool:
        """Whether energies are linear in the parameters: one step then solves the equations."""

    @property
    def core(self) -> Any:
        """The compiled object that evaluates the model."""

    @property
    def output_biases(self) -> NDArray[np.int64]:
        """Parameters that shift the energy of the atoms of each species, shape (S,)."""

    def frozen_parameters(self, layers: Iterable[int]) -> NDArray[np.int64]:
        """Return the parameters of some layers, which training leaves as they are."""

    def initial(self, rng: np.random.Generator) -> Array:
        """Return random parameters to start from, shape (P,)."""


class Model(Named):
    """Options of a kind of model, which `build` makes for a descriptor."""

    @abstractmethod
    def build(self, n_features: int, n_species: int) -> Any:
        """Return the model for descriptors of `n_features` components and `n_species` elements."""


MODELS = Registry("model", Model)  # type: ignore[type-abstract]
register_model = MODELS.register
