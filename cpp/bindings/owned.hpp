#pragma once

#include <string>
#include <utility>

#include "gprann/descriptor.hpp"
#include "gprann/network.hpp"
#include "pybind.hpp"

/// Arrays of Python that are checked once and kept alive together with the views that the kernels take.
namespace gprann::bindings {

/// Neighbour lists that keep the arrays behind their views alive.
struct OwnedNeighbours {
  Int64s first_atom, first_pair;
  Int32s neighbour;
  Doubles vectors;
  Int32s species;
  Neighbours view;

  OwnedNeighbours() = default;  // for lists that fill their view themselves

  OwnedNeighbours(Int64s first_atom_, Int64s first_pair_, Int32s neighbour_, Doubles vectors_,
                  Int32s species_)
      : first_atom(std::move(first_atom_)),
        first_pair(std::move(first_pair_)),
        neighbour(std::move(neighbour_)),
        vectors(std::move(vectors_)),
        species(std::move(species_)) {
    const Index n_atoms = species.size();
    require_size(first_pair.size(), n_atoms + 1, "first_pair");
    require_offsets(first_atom, 0, first_atom.size() - 1, 0, n_atoms, "first_atom");
    require_offsets(first_pair, 0, n_atoms, 0, neighbour.size(), "first_pair");
    require_size(vectors.size(), 3 * neighbour.size(), "vectors");
    for (Index s = 0; s + 1 < first_atom.size(); ++s) {
      const std::int64_t begin = first_atom.data()[s];
      const std::int64_t end = first_atom.data()[s + 1];
      for (std::int64_t p = first_pair.data()[begin]; p < first_pair.data()[end]; ++p)
        if (neighbour.data()[p] < begin || neighbour.data()[p] >= end)
          throw std::invalid_argument("neighbour of pair " + std::to_string(p) + " is not in its structure");
    }
    view = {first_atom.size() - 1, n_atoms,        first_atom.data(), first_pair.data(),
            neighbour.data(),      vectors.data(), species.data()};
  }
};

/// Standardised descriptors that keep the arrays behind their views alive.
struct OwnedAtomFeatures {
  Doubles features;
  Int64s rows;
  AtomFeatures view;

  OwnedAtomFeatures(Doubles features_, Int64s rows_)
      : features(std::move(features_)), rows(std::move(rows_)) {
    if (features.ndim() != 2 || rows.ndim() != 2)
      throw std::invalid_argument("features and rows must have two dimensions");
    const Index n = rows.shape(1) - 1;
    Index first = 0;
    for (Index t = 0; t < rows.shape(0); ++t) {
      const Index last = rows.at(t, n);
      require_offsets(rows, t * (n + 1), n, first, last, "rows");
      first = last;
    }
    require_size(features.shape(0), first, "features");
    view = {n, features.shape(1), features.data(), rows.data()};
  }
};

inline void require_species(const Descriptor& self, const Neighbours& batch) {
  for (Index i = 0; i < batch.n_atoms; ++i)
    if (batch.species[i] < 0 || batch.species[i] >= self.n_species())
      throw std::invalid_argument("species of atom " + std::to_string(i) + " is out of range");
}

inline void require_species(const Descriptor& self, const OwnedNeighbours& batch) {
  require_species(self, batch.view);
}

inline void require_fit(const Network& network, const VectorIn& parameters, const OwnedAtomFeatures& atoms) {
  require_size(parameters.size(), network.n_parameters(), "parameters");
  require_size(atoms.view.size, network.input_size(), "a feature vector");
  require_size(atoms.rows.shape(0), network.n_species(), "first dimension of rows");
}

}  // namespace gprann::bindings
