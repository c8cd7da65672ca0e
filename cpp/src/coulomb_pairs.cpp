#include <Eigen/LU>
#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

#include "gprann/coulomb.hpp"
#include "gprann/parallel.hpp"

namespace gprann {

namespace {

constexpr double two_over_root_pi = 1.1283791670955126;
constexpr double equal_widths = 1e-3;  // relative; formulas for different ones lose digits below

/// erfc(x) = exp(-x²) P(t) / (3 + x), t = (x - 3) / (x + 3), x >= 0: the Chebyshev series of (3 + x) erfcx(x)
/// as powers of t; relative error 4e-15.
constexpr double erfc_series[] = {
    1.074006907088338,       -0.8833944531698746,     0.5902283571044091,     -0.31046726190138885,
    0.11952776127592595,     -0.026827234604401284,   -0.0012124164526047822, 0.0030340617898594715,
    -0.0005483111000456195,  -0.000276776620181969,   0.00010756816009883418, 3.039377266211317e-05,
    -1.7490332262891402e-05, -4.7389682106363635e-06, 2.8030850515803772e-06, 9.829131898874021e-07,
    -4.543757741020728e-07,  -2.1700753818062345e-07, 8.193219757519375e-08,  3.967537727634562e-08,
    -1.7080998175801776e-08, -4.105613416954764e-09,  2.469541904935197e-09};

/// A potential of a pair, or of eight, and its derivative by r.
template <class Real>
struct Potential {
  Real value, slope;
};
using Pair = Potential<double>;
using Pairs = Potential<Lane>;

/// erfc(g r) / r; `inverse` is 1 / r.
Pairs screened(const Lane& r, const Lane& inverse, const Lane& g) {
  const Lane x = g * r, decay = (-x * x).exp(), denominator = 1.0 / (x + 3.0);
  const Lane t = (x - 3.0) * denominator;
  Lane series = Lane::Constant(erfc_series[std::size(erfc_series) - 1]);
  for (std::size_t k = std::size(erfc_series) - 1; k-- > 0;) series = series * t + erfc_series[k];
  const Lane value = decay * series * denominator * inverse;
  return {value, -(value + two_over_root_pi * g * decay) * inverse};
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

/// Points, their charges and the numbers of their atoms; the arrays may be longer than the number of points.
struct Points {
  enum Row { x, y, z, charge };
  void reserve(Index n) {
    if (n <= values.cols()) return;
    values.conservativeResize(4, 2 * n);
    atom.conservativeResize(2 * n);
  }
  double* row(Row which) { return values.data() + which * values.cols(); }
  const double* row(Row which) const { return values.data() + which * values.cols(); }
  Eigen::Map<const Lane> lane(Row which, Index k) const { return Eigen::Map<const Lane>(row(which) + k); }

  /// Appends those of the candidates `first` to `last`, shifted, that are nearer than a cutoff; `own` is none
  /// of them.
  void append_near(const Points& from, Index first, Index last, const double* shift, double cutoff,
                   Index own) {
    reserve(n + last - first);
    double *to_x = row(x) + n, *to_y = row(y) + n, *to_z = row(z) + n, *to_charge = row(charge) + n;
    const double *from_x = from.row(x), *from_y = from.row(y), *from_z = from.row(z),
                 *from_charge = from.row(charge);
    Index *to_atom = atom.data() + n, kept = 0;
    for (Index k = first; k < last; ++k) {  // written in any case, counted if near: no branches
      const double dx = from_x[k] + shift[0], dy = from_y[k] + shift[1], dz = from_z[k] + shift[2];
      to_x[kept] = dx;
      to_y[kept] = dy;
      to_z[kept] = dz;
      to_charge[kept] = from_charge[k];
      to_atom[kept] = from.atom[k];
      kept +=
          static_cast<Index>(dx * dx + dy * dy + dz * dz < cutoff * cutoff) & static_cast<Index>(k != own);
    }
    n += kept;
  }

  /// Fills the last lane with points that have no charge.
  void fill_lane() {
    reserve(n + lane_width);
    for (Index k = n; k % lane_width != 0; ++k) {
      values.col(k) << 1.0, 0.0, 0.0, 0.0;
      atom[k] = 0;
    }
  }

  Index n = 0;
  Matrix values = Matrix(4, 0);
  Eigen::Matrix<Index, Eigen::Dynamic, 1> atom;
};

class PairSum {
 public:
  PairSum(const Charges& charges, double splitting) : charges_(charges), splitting_(splitting) {}

  /// Adds potential and gradient of atom i among its neighbours, and half of the virial of their pairs.
  void add(Index i, const Points& around, const CoulombOutput& out, double* virial) const {
    Lane potential = Lane::Zero(), force[3] = {Lane::Zero(), Lane::Zero(), Lane::Zero()};
    Lane products[6];
    for (Lane& product : products) product.setZero();
    for (Index k = 0; k < around.n; k += lane_width) {
      const Lane d[3] = {around.lane(Points::x, k), around.lane(Points::y, k), around.lane(Points::z, k)};
      const Lane r = (d[0] * d[0] + d[1] * d[1] + d[2] * d[2]).sqrt(), inverse = 1.0 / r;
      const Pairs pairs = potentials(i, around.atom.data() + k, r, inverse);
      potential += around.lane(Points::charge, k) * pairs.value;
      const Lane slope = around.lane(Points::charge, k) * pairs.slope * inverse;
      for (int a = 0, at = 0; a < 3; ++a) {
        const Lane part = slope * d[a];
        force[a] += part;
        for (int b = a; b < 3; ++b, ++at) products[at] += part * d[b];
      }
    }
    const double own = coulomb_constant * charges_.charge[i];
    out.potential[i] += coulomb_constant * potential.sum();
    for (int a = 0, at = 0; a < 3; ++a) {
      out.gradient[3 * i + a] -= own * force[a].sum();
      for (int b = a; b < 3; ++b, ++at)
        virial[3 * a + b] = virial[3 * b + a] = 0.5 * own * products[at].sum();
    }
  }

 private:
  /// V, or V - erf(a r) / r where there is a splitting.
  Pairs potentials(Index i, const Index* atoms, const Lane& r, const Lane& inverse) const {
    Pairs pairs = splitting_ > 0.0 ? screened(r, inverse, Lane::Constant(splitting_))
                                   : Pairs{inverse, -inverse * inverse};
    if (charges_.shape == ChargeShape::point) return pairs;
    const double own = charges_.width[i];
    Pairs change;
    Lane width;
    for (Index k = 0; k < lane_width; ++k) width[k] = charges_.width[atoms[k]];
    if (charges_.shape == ChargeShape::gaussian) {
      change = screened(r, inverse, 1.0 / (2.0 * (width * width + own * own)).sqrt());
      return {pairs.value - change.value, pairs.slope - change.slope};
    }
    for (Index k = 0; k < lane_width; ++k) {
      const Pair pair = slater(r[k], own, width[k]);
      change.value[k] = pair.value;
      change.slope[k] = pair.slope;
    }
    return {pairs.value + change.value, pairs.slope + change.slope};
  }

  const Charges& charges_;
  double splitting_;
};

using Cell = Eigen::Matrix<double, 3, 3, Eigen::RowMajor>;

/// The atoms of a periodic cell sorted into boxes of about half the cutoff.
class Boxes {
 public:
  Boxes(const double* positions, const double* cell, const Charges& charges, double cutoff)
      : lattice_(Eigen::Map<const Cell>(cell)), cutoff_(cutoff), place_(charges.n), boxes_(charges.n, 3) {
    const Cell inverse = lattice_.inverse();
    for (int d = 0; d < 3; ++d) {
      const double height = 1.0 / inverse.col(d).norm();
      count_[d] = std::max<Index>(1, static_cast<Index>(2.0 * height / cutoff));
      reach_[d] = static_cast<Index>(std::ceil(cutoff * static_cast<double>(count_[d]) / height));
    }
    Matrix fractions = ConstMatrixMap(positions, charges.n, 3) * inverse;
    std::vector<std::vector<Index>> members(static_cast<std::size_t>(count_[0] * count_[1] * count_[2]));
    for (Index i = 0; i < charges.n; ++i) {
      for (Index d = 0; d < 3; ++d) {
        fractions(i, d) -= std::floor(fractions(i, d));
        boxes_(i, d) =
            std::min(static_cast<Index>(fractions(i, d) * static_cast<double>(count_[d])), count_[d] - 1);
      }
      members[at(boxes_(i, 0), boxes_(i, 1), boxes_(i, 2))].push_back(i);
    }
    sort(fractions * lattice_, charges, members);
  }

  /// Collects the neighbours of an atom, images of itself included.
  void find(Index i, Points& around) const {
    around.n = 0;
    const Eigen::RowVector3d own(atoms_.values.col(place_[i]).head<3>());
    Step a, b, c;
    for (Index s = -reach_[0]; s <= reach_[0]; ++s) {
      a = step(0, boxes_(i, 0) + s);
      for (Index t = -reach_[1]; t <= reach_[1]; ++t) {
        b = step(1, boxes_(i, 1) + t);
        for (Index u = -reach_[2]; u <= reach_[2]; ++u) {
          c = step(2, boxes_(i, 2) + u);
          const bool inside = a.image == 0 && b.image == 0 && c.image == 0;
          const Eigen::RowVector3d shift = a.shift + b.shift + c.shift - own;
          const std::size_t box = at(a.box, b.box, c.box);
          around.append_near(atoms_, first_[box], first_[box + 1], shift.data(), cutoff_,
                             inside ? place_[i] : -1);
        }
      }
    }
    around.fill_lane();
  }

 private:
  /// A box along one axis: the one of the cell, and the image of the cell in which it lies.
  struct Step {
    Index box, image;
    Eigen::RowVector3d shift;
  };

  Step step(Index d, Index box) const {
    const Index image = box >= 0 ? box / count_[d] : -((count_[d] - 1 - box) / count_[d]);
    return {box - image * count_[d], image, static_cast<double>(image) * lattice_.row(d)};
  }

  std::size_t at(Index a, Index b, Index c) const {
    return static_cast<std::size_t>((a * count_[1] + b) * count_[2] + c);
  }

  void sort(const Matrix& positions, const Charges& charges, const std::vector<std::vector<Index>>& members) {
    atoms_.reserve(charges.n);
    first_.push_back(0);
    for (const std::vector<Index>& box : members) {
      for (const Index i : box) {
        place_[i] = atoms_.n;
        atoms_.atom[atoms_.n] = i;
        atoms_.values.col(atoms_.n++) << positions.row(i).transpose(), charges.charge[i];
      }
      first_.push_back(atoms_.n);
    }
  }

  Cell lattice_;
  double cutoff_;
  Index count_[3], reach_[3];
  Points atoms_;
  std::vector<Index> first_;  // of each box
  Eigen::Matrix<Index, Eigen::Dynamic, 1> place_;
  Eigen::Matrix<Index, Eigen::Dynamic, 3> boxes_;
};

/// Sums over the neighbours of every atom, which find(i, around) collects; virials in the order of the atoms.
template <class Find>
void add_pairs(const Charges& charges, double splitting, int n_threads, const CoulombOutput& out,
               Find&& find) {
  const PairSum sum(charges, splitting);
  std::vector<Points> around(static_cast<std::size_t>(std::max(n_threads, 1)));
  Matrix virials = Matrix::Zero(charges.n, 9);
  parallel_for(charges.n, n_threads, [&](Index i, int thread) {
    Points& own = around[static_cast<std::size_t>(thread)];
    find(i, own);
    sum.add(i, own, out, virials.row(i).data());
  });
  for (Index i = 0; i < charges.n; ++i)
    for (Index k = 0; k < 9; ++k) out.virial[k] += virials(i, k);
}

}  // namespace

void add_direct_sum(const double* positions, const Charges& charges, int n_threads,
                    const CoulombOutput& out) {
  Points atoms;
  atoms.reserve(charges.n);
  atoms.n = charges.n;
  for (Index i = 0; i < charges.n; ++i) {
    atoms.values.col(i) << positions[3 * i], positions[3 * i + 1], positions[3 * i + 2], charges.charge[i];
    atoms.atom[i] = i;
  }
  add_pairs(charges, 0.0, n_threads, out, [&](Index i, Points& around) {
    const double shift[3] = {-positions[3 * i], -positions[3 * i + 1], -positions[3 * i + 2]};
    around.n = 0;
    around.append_near(atoms, 0, charges.n, shift, std::numeric_limits<double>::infinity(), i);
    around.fill_lane();
  });
}

void add_real_space(const double* positions, const double* cell, const Charges& charges, double splitting,
                    double cutoff, int n_threads, const CoulombOutput& out) {
  const Boxes boxes(positions, cell, charges, cutoff);
  add_pairs(charges, splitting, n_threads, out, [&](Index i, Points& around) { boxes.find(i, around); });
}

}  // namespace gprann
