#include <Eigen/LU>
#include <algorithm>
#include <cmath>

#include "gprann/coulomb.hpp"
#include "gprann/parallel.hpp"

namespace gprann {

namespace {

constexpr Index atoms_together = 64;  // whose sums over all vectors are taken as one product of matrices
constexpr Index columns_together = 32;

Eigen::Map<const Lane> lane(const Matrix& rows, Index row, Index atom) {
  return Eigen::Map<const Lane>(rows.data() + row * rows.cols() + atom);
}

/// cos and sin of h t for h = 0..highest and every atom: rows cos 0, cos t, sin t, cos 2t, sin 2t, ...
Matrix powers(const Vector& t, int highest) {
  Matrix table(2 * highest + 1, t.size());
  Vector cos = t.array().cos(), sin = t.array().sin(), re = cos, im = sin;
  table.row(0).setOnes();
  for (int h = 1; h <= highest; ++h) {
    table.row(2 * h - 1) = re.transpose();
    table.row(2 * h) = im.transpose();
    for (Index i = 0; i < t.size(); ++i) {
      const double next = re[i] * cos[i] - im[i] * sin[i];
      im[i] = re[i] * sin[i] + im[i] * cos[i];
      re[i] = next;
    }
  }
  return table;
}

}  // namespace

/// Phases of all atoms along the reciprocal axes, and their charges; zeros behind the last atom.
struct EwaldSum::Phases {
  Phases(const double* positions, const Charges& charges, const EwaldSum& own)
      : n(chunk_count(charges.n, lane_width) * lane_width), charge(Vector::Zero(n)) {
    std::copy_n(charges.charge, charges.n, charge.data());
    for (int axis = 0; axis < 3; ++axis) {
      Vector t = Vector::Zero(n);
      for (Index i = 0; i < charges.n; ++i)
        for (int d = 0; d < 3; ++d) t[i] += positions[3 * i + d] * own.reciprocal_(axis, d);
      table[axis] = powers(t, own.highest_[axis]);
    }
  }

  /// exp(i (h1 t1 + h2 t2)) of eight atoms.
  void of_column(const Column& column, Index atom, Lane& re, Lane& im) const {
    const int h2 = std::abs(column.h2);  // h1 is not negative
    Lane c1 = Lane::Ones(), s1 = Lane::Zero(), c2 = Lane::Ones(), s2 = Lane::Zero();
    if (column.h1 > 0) {
      c1 = lane(table[0], 2 * column.h1 - 1, atom);
      s1 = lane(table[0], 2 * column.h1, atom);
    }
    if (h2 > 0) {
      c2 = lane(table[1], 2 * h2 - 1, atom);
      s2 = lane(table[1], 2 * h2, atom);
      if (column.h2 < 0) s2 = -s2;
    }
    re = c1 * c2 - s1 * s2;
    im = s1 * c2 + c1 * s2;
  }

  Index n;
  Vector charge;
  Matrix table[3];
};

EwaldSum::EwaldSum(const double* cell, double splitting, double cutoff, double reciprocal_cutoff)
    : lattice_(Eigen::Map<const Cell>(cell)),
      reciprocal_(2.0 * pi * lattice_.inverse().transpose()),
      volume_(std::abs(lattice_.determinant())),
      splitting_(splitting),
      cutoff_(cutoff) {
  for (int d = 0; d < 3; ++d)
    highest_[d] = static_cast<int>(std::ceil(reciprocal_cutoff * lattice_.row(d).norm() / (2.0 * pi)));
  find_columns(reciprocal_cutoff);
  find_weights(reciprocal_cutoff);
}

Eigen::RowVector3d EwaldSum::vector(int h1, int h2, int h3) const {
  return h1 * reciprocal_.row(0) + h2 * reciprocal_.row(1) + h3 * reciprocal_.row(2);
}

/// Columns that reach into the sphere, the longest first.
void EwaldSum::find_columns(double cutoff) {
  for (int h1 = 0; h1 <= highest_[0]; ++h1)
    for (int h2 = h1 == 0 ? 0 : -highest_[1]; h2 <= highest_[1]; ++h2) {
      int reach = -1;
      for (int h3 = -highest_[2]; h3 <= highest_[2]; ++h3)
        if (vector(h1, h2, h3).norm() < cutoff) reach = std::max(reach, std::abs(h3));
      if (reach >= 0) columns_.push_back({h1, h2, reach});
    }
  std::stable_sort(columns_.begin(), columns_.end(),
                   [](const Column& a, const Column& b) { return a.reach > b.reach; });
  const auto n = static_cast<Index>(columns_.size());
  for (Index first = 0; first < n; first += columns_together)
    groups_.push_back({first, std::min(columns_together, n - first),
                       2 * columns_[static_cast<std::size_t>(first)].reach + 1});
}

void EwaldSum::find_weights(double cutoff) {
  weight_ = Matrix::Zero(static_cast<Index>(columns_.size()), 2 * highest_[2] + 1);
  for (std::size_t c = 0; c < columns_.size(); ++c)
    for (int h3 = -columns_[c].reach; h3 <= columns_[c].reach; ++h3) {
      if (columns_[c].h1 == 0 && columns_[c].h2 == 0 && h3 <= 0) continue;
      const double k2 = vector(columns_[c].h1, columns_[c].h2, h3).squaredNorm();
      if (k2 < cutoff * cutoff)
        weight_(static_cast<Index>(c), h3 + highest_[2]) =
            8.0 * pi * coulomb_constant / volume_ * std::exp(-k2 / (4.0 * splitting_ * splitting_)) / k2;
    }
}

/// Rows 2c and 2c + 1 of the factors: sum_j q_j Re, Im exp(i (h1 t1 + h2 t2)) times the table of the third
/// axis.
void EwaldSum::sum_structure_factors(const Group& group, const Phases& phases, Matrix& factors) const {
  Matrix charges(2 * group.count, atoms_together);
  Lane re, im;
  for (Index atom = 0; atom < phases.n; atom += atoms_together) {
    const Index count = std::min(atoms_together, phases.n - atom);
    for (Index c = 0; c < group.count; ++c)
      for (Index k = 0; k < count; k += lane_width) {
        phases.of_column(columns_[static_cast<std::size_t>(group.first + c)], atom + k, re, im);
        const Eigen::Map<const Lane> q(phases.charge.data() + atom + k);
        Eigen::Map<Lane>(charges.data() + 2 * c * atoms_together + k) = q * re;
        Eigen::Map<Lane>(charges.data() + (2 * c + 1) * atoms_together + k) = q * im;
      }
    factors.block(2 * group.first, 0, 2 * group.count, group.rows).noalias() +=
        charges.leftCols(count) * phases.table[2].block(0, atom, group.rows, count).transpose();
  }
}

/// Rows 4c to 4c + 3 of the coefficients: with D_h = w_h S_h, the real and imaginary part of
///
///     G = sum_h D_h exp(-i h t3)    and    G' = sum_h h D_h exp(-i h t3)
///
/// in terms of the table of the third axis. Also energy and its derivative by strain, from the factors.
void EwaldSum::find_coefficients(const Group& group, const Matrix& factors, Matrix& coefficients,
                                 double* energy_and_virial) const {
  Cell virial = Cell::Zero();
  double energy = 0.0;
  for (Index c = group.first; c < group.first + group.count; ++c) {
    const Column& column = columns_[static_cast<std::size_t>(c)];
    const auto re = factors.row(2 * c), im = factors.row(2 * c + 1);
    auto own = coefficients.middleRows(4 * c, 4);
    const auto add = [&](int h, double S_re, double S_im) {
      const double weight = weight_(c, h + highest_[2]);
      const Eigen::RowVector3d k = vector(column.h1, column.h2, h);
      const double part = 0.5 * weight * (S_re * S_re + S_im * S_im);
      energy += part;
      if (part > 0.0)
        virial +=
            part * 2.0 * (1.0 / k.squaredNorm() + 1.0 / (4.0 * splitting_ * splitting_)) * k.transpose() * k;
      return weight;
    };
    const double middle = add(0, re[0], im[0]);
    own.col(0) << middle * re[0], middle * im[0], 0.0, 0.0;
    for (int h = 1; h <= column.reach; ++h) {
      const Index cos = 2 * h - 1, sin = 2 * h;
      const double up_re = re[cos] - im[sin], up_im = im[cos] + re[sin];
      const double down_re = re[cos] + im[sin], down_im = im[cos] - re[sin];
      const double up = add(h, up_re, up_im), down = add(-h, down_re, down_im);
      const double sum_re = up * up_re + down * down_re, sum_im = up * up_im + down * down_im;
      const double change_re = up * up_re - down * down_re, change_im = up * up_im - down * down_im;
      own.col(cos) << sum_re, sum_im, h * change_re, h * change_im;
      own.col(sin) << change_im, -change_re, h * sum_im, -h * sum_re;
    }
  }
  energy_and_virial[0] = energy;
  std::copy_n(virial.data(), 9, energy_and_virial + 1);
}

/// Potential and its derivatives along the reciprocal axes, of some atoms.
void EwaldSum::sum_atoms(Index atom, Index count, const Phases& phases, const Matrix& coefficients,
                         Matrix& sums) const {
  Matrix products(4 * columns_together, count);
  Lane re, im;
  for (const Group& group : groups_) {
    products.topRows(4 * group.count).noalias() =
        coefficients.block(4 * group.first, 0, 4 * group.count, group.rows) *
        phases.table[2].block(0, atom, group.rows, count);
    for (Index k = 0; k < count; k += lane_width) {
      Lane potential = Lane::Zero(), first = Lane::Zero(), second = Lane::Zero(), third = Lane::Zero();
      for (Index c = 0; c < group.count; ++c) {
        const Column& column = columns_[static_cast<std::size_t>(group.first + c)];
        phases.of_column(column, atom + k, re, im);
        const auto value_re = lane(products, 4 * c, k), value_im = lane(products, 4 * c + 1, k);
        potential += re * value_re + im * value_im;
        const Lane change = re * value_im - im * value_re;
        first += column.h1 * change;
        second += column.h2 * change;
        third += re * lane(products, 4 * c + 3, k) - im * lane(products, 4 * c + 2, k);
      }
      Index row = 0;
      for (const Lane* part : {&potential, &first, &second, &third})
        Eigen::Map<Lane>(sums.data() + row++ * sums.cols() + atom + k) += *part;
    }
  }
}

void EwaldSum::add(const double* positions, const Charges& charges, int n_threads,
                   const CoulombOutput& out) const {
  add_real_space(positions, lattice_.data(), charges, splitting_, cutoff_, n_threads, out);
  const Phases phases(positions, charges, *this);
  const auto n_columns = static_cast<Index>(columns_.size());
  const auto n_groups = static_cast<Index>(groups_.size());
  Matrix factors = Matrix::Zero(2 * n_columns, weight_.cols());
  Matrix coefficients = Matrix::Zero(4 * n_columns, weight_.cols());
  Matrix parts(n_groups, 10), sums = Matrix::Zero(4, phases.n);
  parallel_for(n_groups, n_threads, [&](Index g, int) {
    sum_structure_factors(groups_[static_cast<std::size_t>(g)], phases, factors);
    find_coefficients(groups_[static_cast<std::size_t>(g)], factors, coefficients, parts.row(g).data());
  });
  parallel_for(chunk_count(phases.n, atoms_together), n_threads, [&](Index block, int) {
    const Index atom = block * atoms_together;
    sum_atoms(atom, std::min(atoms_together, phases.n - atom), phases, coefficients, sums);
  });

  const double total = phases.charge.sum(), area = splitting_ * splitting_;
  for (Index i = 0; i < charges.n; ++i) {
    out.potential[i] +=
        sums(0, i) - coulomb_constant * (2.0 * splitting_ * charges.charge[i] / std::sqrt(pi) +
                                         pi * total / (volume_ * area));
    for (int d = 0; d < 3; ++d)
      for (int axis = 0; axis < 3; ++axis)
        out.gradient[3 * i + d] += charges.charge[i] * sums(1 + axis, i) * reciprocal_(axis, d);
  }
  double energy = -coulomb_constant * pi * total * total / (2.0 * volume_ * area);
  for (Index g = 0; g < n_groups; ++g) {
    energy += parts(g, 0);
    for (Index d = 0; d < 9; ++d) out.virial[d] += parts(g, 1 + d);
  }
  for (Index d = 0; d < 3; ++d) out.virial[4 * d] -= energy;
}

}  // namespace gprann
