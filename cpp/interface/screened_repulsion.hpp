#pragma once

#include <string>
#include <vector>

#include "gprann/types.hpp"

namespace gprann {

/// The screened repulsion of nuclei of Ziegler, Biersack and Littmark, as `gprann.Zbl` has it: times a
/// polynomial that falls from one at half the cutoff of a pair of elements to zero at the cutoff.
class ScreenedRepulsion {
 public:
  /// cutoff: in units of the sum of the covalent radii.
  ScreenedRepulsion(double cutoff, const std::vector<std::string>& species);

  /// The largest cutoff, Å.
  double cutoff() const { return cutoffs_.maxCoeff(); }

  /// Energy of a pair of elements at the distance r, and its derivative.
  void pair(int first, int second, double r, double& energy, double& slope) const;

 private:
  std::vector<int> numbers_;
  Matrix cutoffs_;  // (species, species)
};

}  // namespace gprann
