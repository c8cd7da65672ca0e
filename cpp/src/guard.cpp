#include "gprann/guard.hpp"

#include <cmath>

namespace gprann {

namespace {

/// Adds the squares of some lanes of z to `total`, for some atoms at once: general products of so small
/// matrices take several times as long.
template <int Rows, int Lanes>
void add_squares(const double* features, Index size, const double* factors, const double* offset, Index rank,
                 Lane* total) {
  Lane z[Rows][Lanes];
  for (int row = 0; row < Rows; ++row)
    for (int lane = 0; lane < Lanes; ++lane)
      z[row][lane] = Eigen::Map<const Lane>(offset + lane * lane_width);
  for (Index k = 0; k < size; ++k)
    for (int lane = 0; lane < Lanes; ++lane) {
      const Lane factor = Eigen::Map<const Lane>(factors + k * rank + lane * lane_width);
      for (int row = 0; row < Rows; ++row) z[row][lane] += features[row * size + k] * factor;
    }
  for (int row = 0; row < Rows; ++row)
    for (int lane = 0; lane < Lanes; ++lane) total[row] += z[row][lane].square();
}

template <int Rows>
void grade_some(const double* features, Index size, const double* factors, const double* offset, Index rank,
                double* grades) {
  Lane total[Rows];
  for (Lane& sum : total) sum.setZero();
  Index column = 0;
  for (; column + 2 * lane_width <= rank; column += 2 * lane_width)
    add_squares<Rows, 2>(features, size, factors + column, offset + column, rank, total);
  if (column < rank) add_squares<Rows, 1>(features, size, factors + column, offset + column, rank, total);
  for (int row = 0; row < Rows; ++row) grades[row] = std::sqrt(total[row].sum());
}

}  // namespace

void Guard::grade(Index species, const double* features, Index rows, double* grades) const {
  const double* factors = factors_ + species * size_ * rank_;
  const double* offset = offset_ + species * rank_;
  Index row = 0;
  for (; row + 4 <= rows; row += 4)
    grade_some<4>(features + row * size_, size_, factors, offset, rank_, grades + row);
  for (; row < rows; ++row)
    grade_some<1>(features + row * size_, size_, factors, offset, rank_, grades + row);
}

}  // namespace gprann
