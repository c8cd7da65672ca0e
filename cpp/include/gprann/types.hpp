#pragma once

#include <Eigen/Core>
#include <cstdint>

/// Names of the array types of the whole library: dense, double precision, row-major (C order).
namespace gprann {

using Index = Eigen::Index;
using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Vector = Eigen::VectorXd;
using MatrixMap = Eigen::Map<Matrix>;
using ConstMatrixMap = Eigen::Map<const Matrix>;
using VectorMap = Eigen::Map<Vector>;
using ConstVectorMap = Eigen::Map<const Vector>;

/// Neighbours are handled eight at a time: one AVX-512 register, two of AVX2, four of SSE2.
constexpr Index lane_width = 8;
using Lane = Eigen::Array<double, lane_width, 1>;

constexpr double pi = 3.14159265358979323846;

}  // namespace gprann
