#include <Eigen/LU>
#include <algorithm>
#include <cmath>

#include "gprann/coulomb.hpp"
#include "gprann/parallel.hpp"

namespace gprann {

namespace {

using Array = Eigen::ArrayXd;
using Cell = Eigen::Matrix<double, 3, 3, Eigen::RowMajor>;

constexpr Index block_size = 64;  // atoms whose sums over all vectors are taken together
using Block = Eigen::Array<double, block_size, 1>;

/// Reciprocal vectors h1 b1 + h2 b2 + h3 b3 with the same h1 and h2, one of each pair k, -k.
struct Column {
  int h1, h2, low, high;
  Index first;  // of its coefficients
};

/// cos and sin of h theta for h = 0..highest along one reciprocal axis, one row of atoms for each h.
class Phases {
 public:
  Phases(const Array& theta, int highest) : cos_(highest + 1, theta.size()), sin_(highest + 1, theta.size()) {
    for (int h = 0; h <= highest; ++h) {
      cos_.row(h) = (h * theta).cos().transpose();
      sin_.row(h) = (h * theta).sin().transpose();
    }
  }
  const double* cos(int h) const { return cos_.row(std::abs(h)).data(); }
  const double* sin(int h) const { return sin_.row(std::abs(h)).data(); }

 private:
  Eigen::Array<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> cos_, sin_;
};

class ReciprocalSum {
 public:
  ReciprocalSum(const double* positions, const double* cell, const Charges& charges, double splitting,
                double cutoff)
      : n_(charges.n),
        n_blocks_(chunk_count(n_, block_size)),
        splitting_(splitting),
        lattice_(Eigen::Map<const Cell>(cell)),
        reciprocal_(2.0 * pi * lattice_.inverse().transpose()),
        volume_(std::abs(lattice_.determinant())),
        charge_(Array::Zero(n_blocks_ * block_size)) {
    charge_.head(n_) = Eigen::Map<const Array>(charges.charge, n_);
    const MatrixMap R(const_cast<double*>(positions), n_, 3);
    int highest[3];
    for (int d = 0; d < 3; ++d)
      highest[d] = static_cast<int>(std::ceil(cutoff * lattice_.row(d).norm() / (2.0 * pi)));
    for (int d = 0; d < 3; ++d) {
      Array theta = Array::Zero(charge_.size());
      theta.head(n_) = (R * reciprocal_.row(d).transpose()).array();
      phases_.emplace_back(theta, highest[d]);
    }
    for (int h1 = 0; h1 <= highest[0]; ++h1)
      for (int h2 = h1 == 0 ? 0 : -highest[1]; h2 <= highest[1]; ++h2) add_column(h1, h2, highest[2], cutoff);
  }

  void add(const Charges& charges, int n_threads, const CoulombOutput& out) {
    find_structure_factors(n_threads);
    Matrix sums(charge_.size(), 4);  // potential and its derivatives along the reciprocal axes
    parallel_for(n_blocks_, n_threads, [&](Index block, int) { sum_block(block * block_size, sums); });
    const double total = charge_.sum();
    for (Index i = 0; i < n_; ++i) {
      out.potential[i] +=
          sums(i, 0) - coulomb_constant * (2.0 * splitting_ * charges.charge[i] / std::sqrt(pi) +
                                           pi * total / (volume_ * splitting_ * splitting_));
      for (int d = 0; d < 3; ++d)
        for (int axis = 0; axis < 3; ++axis)
          out.gradient[3 * i + d] += charges.charge[i] * sums(i, 1 + axis) * reciprocal_(axis, d);
    }
    add_virial(total, out.virial);
  }

 private:
  /// Appends the vectors (h1, h2, ...) within the cutoff: an interval of h3.
  void add_column(int h1, int h2, int highest, double cutoff) {
    Column column{h1, h2, 1, 0, static_cast<Index>(weight_.size())};
    for (int h3 = h1 == 0 && h2 == 0 ? 1 : -highest; h3 <= highest; ++h3) {
      const Eigen::RowVector3d k = vector(h1, h2, h3);
      const double k2 = k.squaredNorm();
      if (k2 >= cutoff * cutoff) continue;
      if (column.low > column.high) column.low = h3;
      column.high = h3;
      weight_.push_back(8.0 * pi * coulomb_constant / volume_ *
                        std::exp(-k2 / (4.0 * splitting_ * splitting_)) / k2);
    }
    if (column.low <= column.high) columns_.push_back(column);
  }

  Eigen::RowVector3d vector(int h1, int h2, int h3) const {
    return h1 * reciprocal_.row(0) + h2 * reciprocal_.row(1) + h3 * reciprocal_.row(2);
  }

  /// Phase factors exp(i (h1 t1 + h2 t2)) of the atoms of one block.
  void column_phases(const Column& column, Index atom, Block& re, Block& im) const {
    const Eigen::Map<const Block> c1(phases_[0].cos(column.h1) + atom), s1(phases_[0].sin(column.h1) + atom),
        c2(phases_[1].cos(column.h2) + atom), s2(phases_[1].sin(column.h2) + atom);
    const double sign = column.h2 < 0 ? -1.0 : 1.0;  // h1 is none
    re = c1 * c2 - sign * s1 * s2;
    im = s1 * c2 + sign * c1 * s2;
  }

  /// S of all vectors; every column is summed by one thread, block after block.
  void find_structure_factors(int n_threads) {
    S_cos_.assign(weight_.size(), 0.0);
    S_sin_.assign(weight_.size(), 0.0);
    parallel_for(static_cast<Index>(columns_.size()), n_threads, [&](Index c, int) {
      const Column& column = columns_[static_cast<std::size_t>(c)];
      Block re, im;
      for (Index atom = 0; atom < charge_.size(); atom += block_size) {
        column_phases(column, atom, re, im);
        const Eigen::Map<const Block> q(charge_.data() + atom);
        re *= q;
        im *= q;
        for (int h = column.low; h <= column.high; ++h) {
          const Eigen::Map<const Block> c3(phases_[2].cos(h) + atom), s3(phases_[2].sin(h) + atom);
          const double sign = h < 0 ? -1.0 : 1.0;
          const auto at = static_cast<std::size_t>(column.first + h - column.low);
          S_cos_[at] += (re * c3).sum() - sign * (im * s3).sum();
          S_sin_[at] += (im * c3).sum() + sign * (re * s3).sum();
        }
      }
    });
  }

  void sum_block(Index atom, Matrix& sums) const {
    Block re, im, potential = Block::Zero();
    Block slopes[3] = {Block::Zero(), Block::Zero(), Block::Zero()};
    for (const Column& column : columns_) {
      column_phases(column, atom, re, im);
      Block slope = Block::Zero();
      for (int h = column.low; h <= column.high; ++h) {
        const Eigen::Map<const Block> c3(phases_[2].cos(h) + atom), s3(phases_[2].sin(h) + atom);
        const double sign = h < 0 ? -1.0 : 1.0;
        const auto at = static_cast<std::size_t>(column.first + h - column.low);
        const double of_cos = weight_[at] * S_cos_[at], of_sin = weight_[at] * S_sin_[at];
        const Block cos = re * c3 - sign * im * s3, sin = im * c3 + sign * re * s3;
        potential += of_cos * cos + of_sin * sin;
        const Block change = of_sin * cos - of_cos * sin;
        slope += change;
        slopes[2] += h * change;
      }
      slopes[0] += column.h1 * slope;
      slopes[1] += column.h2 * slope;
    }
    sums.col(0).segment(atom, block_size) = potential;
    for (int axis = 0; axis < 3; ++axis) sums.col(1 + axis).segment(atom, block_size) = slopes[axis];
  }

  void add_virial(double total, double* virial) const {
    Cell sum = Cell::Zero();
    double energy = 0.0;
    for (const Column& column : columns_)
      for (int h = column.low; h <= column.high; ++h) {
        const auto at = static_cast<std::size_t>(column.first + h - column.low);
        const double own = 0.5 * weight_[at] * (S_cos_[at] * S_cos_[at] + S_sin_[at] * S_sin_[at]);
        const Eigen::RowVector3d k = vector(column.h1, column.h2, h);
        energy += own;
        sum +=
            own * 2.0 * (1.0 / k.squaredNorm() + 1.0 / (4.0 * splitting_ * splitting_)) * k.transpose() * k;
      }
    energy -= coulomb_constant * pi * total * total / (2.0 * volume_ * splitting_ * splitting_);
    for (int d = 0; d < 3; ++d) sum(d, d) -= energy;
    for (Index d = 0; d < 9; ++d) virial[d] += sum.data()[d];
  }

  Index n_, n_blocks_;
  double splitting_;
  Cell lattice_, reciprocal_;  // rows
  double volume_;
  Array charge_;  // zeros behind the last atom
  std::vector<Phases> phases_;
  std::vector<Column> columns_;
  std::vector<double> weight_, S_cos_, S_sin_;
};

}  // namespace

void add_reciprocal_space(const double* positions, const double* cell, const Charges& charges,
                          double splitting, double cutoff, int n_threads, const CoulombOutput& out) {
  ReciprocalSum(positions, cell, charges, splitting, cutoff).add(charges, n_threads, out);
}

}  // namespace gprann
