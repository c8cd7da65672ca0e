#pragma once

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

/// Adds the sum over reciprocal vectors shorter than a cutoff (1/Å), self energies and the background.
void add_reciprocal_space(const double* positions, const double* cell, const Charges& charges,
                          double splitting, double cutoff, int n_threads, const CoulombOutput& out);

}  // namespace gprann
