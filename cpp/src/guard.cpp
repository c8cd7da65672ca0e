#include "gprann/guard.hpp"

namespace gprann {

void Guard::grade(Index species, const double* features, Index rows, Matrix& work, double* grades) const {
  const ConstMatrixMap g(features, rows, size_);
  const ConstMatrixMap T(factors_ + species * size_ * rank_, size_, rank_);
  work.resize(rows, rank_);
  work.noalias() = g * T;
  work.rowwise() += ConstVectorMap(offset_ + species * rank_, rank_).transpose();
  VectorMap(grades, rows) = work.rowwise().norm();
}

}  // namespace gprann
