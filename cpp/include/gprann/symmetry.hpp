#pragma once

#include <memory>
#include <vector>

#include "gprann/descriptor.hpp"
#include "gprann/symmetry_cutoff.hpp"
#include "gprann/types.hpp"

namespace gprann {

// clang-format off
/// Atom-centred symmetry functions of Behler and Parrinello, PRL 98, 146401 (2007), and Behler, J. Chem. Phys. 134,
/// 074106 (2011), in the form and with the numbers of n2p2 (Singraber, Behler, Dellago, JCTC 15, 1827 (2019)).
///
///     2  radial   sum_j     exp(-eta (r_ij - Rs)^2) fc(r_ij)
///     3  narrow   2^(1-zeta) sum_{j<k} (1 + lambda cos theta_ijk)^zeta
///                     exp(-eta [(r_ij - Rs)^2 + (r_ik - Rs)^2 + (r_jk - Rs)^2]) fc(r_ij) fc(r_ik) fc(r_jk)
///     9  wide     the same without r_jk
///
/// j is of the first neighbour species, k of the second. Distances in Å, eta in 1/Å^2; components have no unit.
/// Every species of the central atom has a list of functions of its own. An atom's row has as many components as the
/// longest list; those behind its own are zero.
///
/// Flops of an atom with n_t neighbours of species t: about 30 n_t for a radial function; for each pair of neighbours
/// 60 once for the angular functions that share species and cutoff, and for each of these 10 + 20 for an exponential
/// that it does not share with the one before, 10 + 40 where a power is not whole; `jvp` and `vjp` about twice that.
// clang-format on
class SymmetryFunctionDescriptor final : public Descriptor {
 public:
  /// Columns of the table of functions.
  enum Column { centre, type, first, second, eta, shift, lambda, zeta, reach, n_columns };

  /// functions: (functions, n_columns), with species as indices; `second` is not read of radial ones.
  SymmetryFunctionDescriptor(Index n_species, const Matrix& functions, int cutoff_type, double inner_cutoff);

  Index size() const override { return size_; }
  Index n_species() const override { return n_species_; }
  double cutoff() const override { return cutoff_; }

  using Descriptor::jvp;
  using Descriptor::survey;
  using Descriptor::values;

  std::unique_ptr<Surroundings> make_surroundings() const override;
  void survey(const Neighbours& batch, Index s, Index begin, Index end, Surroundings& found) const override;
  void values(const Surroundings& found, double* values) const override;
  void jvp(const Neighbours& batch, Surroundings& found, const double* direction, const double* strain,
           double* tangent) const override;
  void add_vjp(const Neighbours& batch, Surroundings& found, const double* cotangent, double* gradient,
               double* virial) const override;
  bool has_slopes() const override { return true; }
  void slopes(const Neighbours& batch, Surroundings& found, double* slopes) const override;

 private:
  struct Function {
    double eta, shift, lambda, zeta, scale;
    Index component;
  };
  /// Functions of one kind that see the same neighbours: distances, angles and cutoffs are found once.
  struct Group {
    int type;
    std::size_t first, second, reach;  // species, and which of the cutoffs
    std::vector<Function> functions;   // sorted, so that equal exponentials and powers are neighbours
  };
  struct Environment;
  struct Found;
  struct Triangle;
  struct Term;

  void check(const Matrix& functions) const;
  void add_function(const Eigen::RowVectorXd& row, Index component);
  void gather(const Neighbours& batch, Index atom, Environment& env) const;
  bool find_triangle(const Environment& env, const Group& group, Index j, Index block,
                     Triangle& triangle) const;
  template <class Visit>
  void for_each_triangle(const Environment& env, const Group& group, Visit&& visit) const;
  template <class Visit>
  void for_each_angular(const Group& group, const Triangle& triangle, Visit&& visit) const;
  template <class Visit>
  void for_each_radial(const Environment& env, const Group& group, Visit&& visit) const;
  void atom_tangent(Environment& env, double* tangent) const;
  void atom_gradients(Environment& env, const double* cotangent) const;
  void atom_slopes(const Environment& env, std::int64_t first, MatrixMap& slopes) const;

  Index n_species_;
  Index size_ = 0;
  double cutoff_ = 0.0;
  SymmetryCutoff cutoff_type_;
  double inner_cutoff_;
  std::vector<double> cutoffs_;             // different ones
  std::vector<std::vector<Group>> groups_;  // of each species
};

}  // namespace gprann
