#pragma once

#include <vector>

#include "gprann/types.hpp"

namespace gprann {

/// e² / (4 pi epsilon_0), eV Å.
constexpr double coulomb_constant = 14.399645478425668;

/// Shape of the charge densities: points, Gaussians of standard deviation w (Å), or z³/pi exp(-2 z r) with z
/// = w (1/Å), as the 1s orbitals of Slater (Streitz and Mintmire, PRB 50, 11996 (1994)).
enum class ChargeShape { point, gaussian, slater };

/// Fixed charges (e) and the widths of their densities. Views.
struct Charges {
  Index n = 0;
  const double* charge = nullptr;
  const double* width = nullptr;  // not read for points
  ChargeShape shape = ChargeShape::point;
};

/// What is added to: potentials (n), eV/e; gradient of the energy (n, 3), eV/Å; dE/d(strain), (3, 3), eV.
struct CoulombOutput {
  double* potential;
  double* gradient;
  double* virial;
};

// clang-format off
/// Electrostatic energy of fixed charges, E = sum_i q_i phi_i / 2, by
///
///     phi_i = K sum_j q_j V_ij(r_ij),     V = 1/r + what the shape of the densities changes at short range
///
/// In molecules this is a direct sum, O(n²). In cells that are periodic in three directions it is the sum of Ewald,
///
///     phi_i = K sum_pairs q_j [V_ij(r) - erf(a r) / r]
///           + 4 pi K / volume sum_k exp(-k²/4a²) / k² (cos(k r_i) S_c + sin(k r_i) S_s)
///           - 2 a K q_i / sqrt(pi) - pi K Q / (volume a²),    S = sum_j q_j exp(i k r_j),  Q = sum_j q_j
///
/// with metallic ("tin foil") surroundings, a neutralising background where Q is not zero, and without the energies
/// that smeared charges have by themselves. With a splitting `a` that balances both sums the cost is O(n^1.5).
/// Every sum is taken in an order that does not depend on the number of threads.
// clang-format on

/// Adds the direct sum over all pairs of a molecule.
void add_direct_sum(const double* positions, const Charges& charges, int n_threads, const CoulombOutput& out);

/// Adds the sum over pairs that are nearer than a cutoff (Å) in a periodic cell.
///
/// cell: (3, 3), rows are the lattice vectors.
void add_real_space(const double* positions, const double* cell, const Charges& charges, double splitting,
                    double cutoff, int n_threads, const CoulombOutput& out);

/// Ewald's sum in one cell. Reciprocal vectors and their weights are found once, for any positions and
/// charges.
class EwaldSum {
 public:
  /// cell: (3, 3), rows are the lattice vectors. Cutoffs of pairs (Å) and of reciprocal vectors (1/Å).
  EwaldSum(const double* cell, double splitting, double cutoff, double reciprocal_cutoff);

  void add(const double* positions, const Charges& charges, int n_threads, const CoulombOutput& out) const;

 private:
  using Cell = Eigen::Matrix<double, 3, 3, Eigen::RowMajor>;
  struct Phases;

  /// Reciprocal vectors h1 b1 + h2 b2 + h3 b3 with the same h1 and h2; of k and -k one is taken.
  struct Column {
    int h1, h2, reach;  // h3 = -reach..reach
  };
  /// Columns of similar reach that are summed together.
  struct Group {
    Index first, count, rows;  // rows of the table of the third axis: cos 0, cos t, sin t, cos 2t, ...
  };

  void find_columns(double cutoff);
  void find_weights(double cutoff);
  Eigen::RowVector3d vector(int h1, int h2, int h3) const;
  void sum_structure_factors(const Group& group, const Phases& phases, Matrix& factors) const;
  void find_coefficients(const Group& group, const Matrix& factors, Matrix& coefficients,
                         double* energy_and_virial) const;
  void sum_atoms(Index atom, Index count, const Phases& phases, const Matrix& coefficients,
                 Matrix& sums) const;

  Cell lattice_, reciprocal_;  // rows
  double volume_, splitting_, cutoff_;
  int highest_[3];
  std::vector<Column> columns_;
  std::vector<Group> groups_;
  Matrix weight_;  // (columns, 2 highest_[2] + 1); zero beyond the cutoff
};

}  // namespace gprann
