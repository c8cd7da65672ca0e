#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "archive.hpp"
#include "gprann/atom_model.hpp"
#include "gprann/descriptor.hpp"
#include "json.hpp"
#include "screened_repulsion.hpp"

namespace gprann {

/// A potential as `gprann.Potential.save` wrote it.
struct StoredPotential {
  std::vector<std::string> species;
  std::shared_ptr<const Descriptor> descriptor;
  std::unique_ptr<AtomModel> model;
  Index members = 0;
  std::vector<double> mean, inverse_scale, parameters;
  double energy_scale = 1.0;  // eV
  double energy_std_factor = 1.0, force_std_factor = 1.0;
  std::vector<double> reference;  // of each species, eV
  std::vector<double> charges;    // the same, e; zero without electrostatics
  std::vector<ScreenedRepulsion> repulsions;
  std::vector<double> guard_factors, guard_offset;  // (S, D, R), (S, R), see `Guard`; empty without one

  /// Distance beyond which atoms do not see each other, Å.
  double cutoff() const;
};

/// Reads a model file. without_coulomb: leave electrostatics out, instead of refusing the file. Raises
/// `Failure`.
StoredPotential read_potential(const std::string& path, bool without_coulomb);

/// Makes the descriptor of a model file. size: number of components that its arrays tell.
std::shared_ptr<const Descriptor> make_descriptor(const Json& settings,
                                                  const std::map<std::string, Array>& arrays,
                                                  std::size_t size, std::vector<std::string>& species);

}  // namespace gprann
