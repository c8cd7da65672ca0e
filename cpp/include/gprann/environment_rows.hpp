#pragma once

#include "gprann/descriptor.hpp"
#include "gprann/radial_kernel.hpp"

namespace gprann {

/// Representative environments of a sparse Gaussian process: feature vectors, sorted by kind (species).
struct Environments {
  Index n_kinds = 0;
  Index size = 0;                       // D
  const std::int64_t* first = nullptr;  // (S + 1)
  const double* features = nullptr;     // (M, D)

  Index count() const { return first[n_kinds]; }
};

/// Where the rows of a batch of structures go: row-major matrices with a row for each environment, so that
/// LAPACK sees them as columns.
struct EnvironmentRows {
  double* energies = nullptr;  // (M, n_structures)
  Index energy_stride = 0;
  double* gradients = nullptr;  // (M, rows)
  Index gradient_stride = 0;
  const std::int64_t* first_gradient = nullptr;  // (n_structures): of the 3N gradients of a structure
  const double* strain_length = nullptr;  // (n_structures): if positive, 6 strains / strain_length follow
};

/// k(E_A, z_m) = sum over the atoms i of A of the kind of m of phi(|g_i - z_m|^2), its gradient with respect
/// to the positions, and its derivatives with respect to strains in Voigt's order.
///
/// g = (G - mean) / scale: `features` (n_atoms, D) of the batch, `scale` (S, D). Of each atom the
/// surroundings are surveyed once for many environments, so the Jacobian is never stored: one vector-Jacobian
/// product for each pair of an atom and an environment. The same bits for any number of threads.
void environment_rows(const Descriptor& descriptor, const Neighbours& batch, const double* features,
                      const double* scale, const Environments& environments, const RadialKernel& kernel,
                      int n_threads, const EnvironmentRows& rows);

}  // namespace gprann
