#pragma once

#include <Eigen/Geometry>
#include <Eigen/LU>

#include "gprann/types.hpp"

namespace gprann {

using Matrix3 = Eigen::Matrix<double, 3, 3, Eigen::RowMajor>;

/// The cell with its directions that are not periodic replaced by unit vectors at right angles to the others:
/// these may be missing, and no image is taken along them.
inline Matrix3 complete_cell(const double* cell, const std::uint8_t* periodic) {
  Matrix3 full = Eigen::Map<const Matrix3>(cell);
  const int count = (periodic[0] != 0) + (periodic[1] != 0) + (periodic[2] != 0);
  if (count == 0) return Matrix3::Identity();
  for (int d = 0; d < 3 && count == 1; ++d) {
    if (periodic[d] == 0) continue;
    const Eigen::RowVector3d along = full.row(d).normalized();
    full.row((d + 1) % 3) = along.unitOrthogonal();
    full.row((d + 2) % 3) = along.cross(full.row((d + 1) % 3));
  }
  for (int d = 0; d < 3 && count == 2; ++d)
    if (periodic[d] == 0) full.row(d) = full.row((d + 1) % 3).cross(full.row((d + 2) % 3)).normalized();
  return full;
}

}  // namespace gprann
