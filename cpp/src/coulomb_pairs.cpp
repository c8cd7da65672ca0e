#include <Eigen/LU>
#include <algorithm>
#include <array>
#include <cmath>

#include "gprann/coulomb.hpp"
#include "gprann/parallel.hpp"

namespace gprann {

namespace {

constexpr double two_over_root_pi = 1.1283791670955126;
constexpr double equal_widths = 1e-3;  // relative; formulas for different ones lose digits below

/// V - 1/r of a pair and its derivative by r.
struct Pair {
  double value, slope;
};

Pair gaussian(double r, double a, double b) {
  const double g = 1.0 / std::sqrt(2.0 * (a * a + b * b));
  const double outside = std::erfc(g * r) / r;
  return {-outside, outside / r + two_over_root_pi * g * std::exp(-g * g * r * r) / r};
}

Pair equal_slater(double r, double z) {
  const double x = z * r, decay = std::exp(-2.0 * x);
  const double p = 1.0 + x * (11.0 / 8.0 + x * (0.75 + x / 6.0));
  const double dp = z * (11.0 / 8.0 + x * (1.5 + 0.5 * x));
  return {-p * decay / r, (-dp + 2.0 * z * p) * decay / r + p * decay / (r * r)};
}

/// One of the two terms of different widths: -exp(-2 a r) (e1 + e3 / r).
Pair slater_term(double r, double a, double b) {
  const double sum = a + b, difference = a - b, a2 = a * a, b2 = b * b;
  const double e1 = a * b2 * b2 / (sum * sum * difference * difference);
  const double e3 =
      (3.0 * a2 * b2 * b2 - b2 * b2 * b2) / (sum * sum * sum * difference * difference * difference);
  const double decay = std::exp(-2.0 * a * r), content = e1 + e3 / r;
  return {-decay * content, decay * (2.0 * a * content + e3 / (r * r))};
}

Pair slater(double r, double a, double b) {
  if (std::abs(a - b) < equal_widths * (a + b)) return equal_slater(r, 0.5 * (a + b));
  const Pair first = slater_term(r, a, b), second = slater_term(r, b, a);
  return {first.value + second.value, first.slope + second.slope};
}

class PairPotential {
 public:
  PairPotential(const Charges& charges, double splitting) : charges_(charges), splitting_(splitting) {}

  /// V, or V - erf(a r) / r where there is a splitting.
  Pair operator()(Index i, Index j, double r) const {
    Pair pair{1.0 / r, -1.0 / (r * r)};
    if (splitting_ > 0.0) {
      const double screened = std::erfc(splitting_ * r) / r;
      const double x = splitting_ * r;
      pair = {screened, -screened / r - two_over_root_pi * splitting_ * std::exp(-x * x) / r};
    }
    if (charges_.shape == ChargeShape::point) return pair;
    const double a = charges_.width[i], b = charges_.width[j];
    const Pair change = charges_.shape == ChargeShape::gaussian ? gaussian(r, a, b) : slater(r, a, b);
    return {pair.value + change.value, pair.slope + change.slope};
  }

 private:
  const Charges& charges_;
  double splitting_;
};

/// Adds one neighbour of atom i at the vector `d`; half of the virial of the pair is that of atom i.
void add_pair(const PairPotential& potential, const Charges& charges, Index i, Index j, const double* d,
              const CoulombOutput& out, double* virial) {
  const double r = std::sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]);
  const Pair pair = potential(i, j, r);
  out.potential[i] += coulomb_constant * charges.charge[j] * pair.value;
  const double slope = coulomb_constant * charges.charge[i] * charges.charge[j] * pair.slope / r;
  for (Index k = 0; k < 3; ++k) {
    out.gradient[3 * i + k] -= slope * d[k];
    for (Index l = 0; l < 3; ++l) virial[3 * k + l] += 0.5 * slope * d[k] * d[l];
  }
}

using Cell = Eigen::Matrix<double, 3, 3, Eigen::RowMajor>;

/// The atoms of a periodic cell sorted into boxes of about half the cutoff.
class Boxes {
 public:
  Boxes(const double* positions, const double* cell, Index n, double cutoff)
      : lattice_(Eigen::Map<const Cell>(cell)), cutoff_(cutoff), wrapped_(n, 3) {
    const Cell inverse = lattice_.inverse();
    for (int d = 0; d < 3; ++d) {
      const double height = 1.0 / inverse.col(d).norm();
      count_[d] = std::max<Index>(1, static_cast<Index>(2.0 * height / cutoff));
      reach_[d] = static_cast<Index>(std::ceil(cutoff * static_cast<double>(count_[d]) / height));
    }
    atoms_.resize(static_cast<std::size_t>(count_[0] * count_[1] * count_[2]));
    for (Index i = 0; i < n; ++i) {
      Eigen::RowVector3d fraction = Eigen::Map<const Eigen::RowVector3d>(positions + 3 * i) * inverse;
      std::array<Index, 3> box;
      for (int d = 0; d < 3; ++d) {
        fraction[d] -= std::floor(fraction[d]);
        box[d] = std::min(static_cast<Index>(fraction[d] * static_cast<double>(count_[d])), count_[d] - 1);
      }
      wrapped_.row(i) = fraction * lattice_;
      boxes_.push_back(box);
      atoms_[at(box)].push_back(i);
    }
  }

  /// Calls work(j, vector) for every neighbour of an atom, images of itself included.
  template <class Work>
  void for_each_neighbour(Index i, Work&& work) const {
    const std::array<Index, 3>& own = boxes_[static_cast<std::size_t>(i)];
    std::array<Index, 3> step;
    for (step[0] = -reach_[0]; step[0] <= reach_[0]; ++step[0])
      for (step[1] = -reach_[1]; step[1] <= reach_[1]; ++step[1])
        for (step[2] = -reach_[2]; step[2] <= reach_[2]; ++step[2]) {
          std::array<Index, 3> box;
          Eigen::RowVector3d shift = Eigen::RowVector3d::Zero();
          bool elsewhere = false;
          for (int d = 0; d < 3; ++d) {
            const Index sum = own[d] + step[d];
            const Index image = sum >= 0 ? sum / count_[d] : -((count_[d] - 1 - sum) / count_[d]);
            box[d] = sum - image * count_[d];
            shift += static_cast<double>(image) * lattice_.row(d);
            elsewhere = elsewhere || image != 0;
          }
          shift -= wrapped_.row(i);
          for (const Index j : atoms_[at(box)]) {
            if (j == i && !elsewhere) continue;
            const Eigen::RowVector3d vector = wrapped_.row(j) + shift;
            if (vector.squaredNorm() < cutoff_ * cutoff_) work(j, vector.data());
          }
        }
  }

 private:
  std::size_t at(const std::array<Index, 3>& box) const {
    return static_cast<std::size_t>((box[0] * count_[1] + box[1]) * count_[2] + box[2]);
  }

  Cell lattice_;
  double cutoff_;
  Eigen::Matrix<double, Eigen::Dynamic, 3, Eigen::RowMajor> wrapped_;
  std::array<Index, 3> count_{}, reach_{};
  std::vector<std::array<Index, 3>> boxes_;
  std::vector<std::vector<Index>> atoms_;
};

/// Calls work(i, virial of i) for every atom, and adds up the virials in the order of the atoms.
template <class Work>
void for_each_atom(Index n, int n_threads, double* virial, Work&& work) {
  Matrix virials = Matrix::Zero(n, 9);
  parallel_for(n, n_threads, [&](Index i, int) { work(i, virials.row(i).data()); });
  for (Index i = 0; i < n; ++i)
    for (Index k = 0; k < 9; ++k) virial[k] += virials(i, k);
}

}  // namespace

void add_direct_sum(const double* positions, const Charges& charges, int n_threads,
                    const CoulombOutput& out) {
  const PairPotential potential(charges, 0.0);
  for_each_atom(charges.n, n_threads, out.virial, [&](Index i, double* virial) {
    for (Index j = 0; j < charges.n; ++j) {
      if (j == i) continue;
      const double d[3] = {positions[3 * j] - positions[3 * i], positions[3 * j + 1] - positions[3 * i + 1],
                           positions[3 * j + 2] - positions[3 * i + 2]};
      add_pair(potential, charges, i, j, d, out, virial);
    }
  });
}

void add_real_space(const double* positions, const double* cell, const Charges& charges, double splitting,
                    double cutoff, int n_threads, const CoulombOutput& out) {
  const PairPotential potential(charges, splitting);
  const Boxes boxes(positions, cell, charges.n, cutoff);
  for_each_atom(charges.n, n_threads, out.virial, [&](Index i, double* virial) {
    boxes.for_each_neighbour(
        i, [&](Index j, const double* d) { add_pair(potential, charges, i, j, d, out, virial); });
  });
}

}  // namespace gprann
