#pragma once

#include <memory>

#include "gprann/neighbours.hpp"
#include "gprann/types.hpp"

namespace gprann {

/// A descriptor of atomic environments: G(R) and the products with its Jacobian, which is never stored.
///
/// Losses, rows of normal equations and committees know nothing else. A descriptor defines its products for
/// some atoms of one structure: a virtual call costs nothing beside the work of a structure. `survey` finds
/// what the products share (distances, moments, ...) once; the products of whole batches are made here.
class Descriptor {
 public:
  /// What `survey` has found about some atoms of one structure. A workspace: made once for each thread.
  class Surroundings {
   public:
    Surroundings() = default;
    Surroundings(const Surroundings&) = delete;
    Surroundings& operator=(const Surroundings&) = delete;
    virtual ~Surroundings() = default;
  };

  Descriptor() = default;
  Descriptor(const Descriptor&) = default;
  Descriptor(Descriptor&&) = default;
  Descriptor& operator=(const Descriptor&) = default;
  Descriptor& operator=(Descriptor&&) = default;
  virtual ~Descriptor() = default;

  /// Number of components D.
  virtual Index size() const = 0;
  virtual Index n_species() const = 0;
  /// Distance beyond which an atom has no influence, Å.
  virtual double cutoff() const = 0;
  /// Whether a few atoms of a structure cost less than all of them.
  virtual bool divisible() const { return true; }

  /// Whether `add_vjp` takes atoms and neighbours of its gradients from the lists it is given then, so that
  /// lists in which every pair has an atom of its own yield the gradient of each pair.
  virtual bool has_pair_gradients() const { return true; }

  /// How many atoms are best surveyed together: one, of which what is found stays in the cache, or so many
  /// that a matrix is read once for all of them.
  virtual Index atoms_at_once() const { return 1; }

  virtual std::unique_ptr<Surroundings> make_surroundings() const = 0;

  /// Fills `found` with the surroundings of the atoms from `begin` to `end` of structure `s`.
  virtual void survey(const Neighbours& batch, Index s, Index begin, Index end,
                      Surroundings& found) const = 0;
  /// The same of all atoms of structure `s`.
  void survey(const Neighbours& batch, Index s, Surroundings& found) const {
    survey(batch, s, batch.first_atom[s], batch.first_atom[s + 1], found);
  }

  // Products for the atoms surveyed. values, tangent, cotangent: (atoms surveyed, D); direction, gradient:
  // (N, 3), all atoms of the structure; strain, virial: (9), or null.

  /// G.
  virtual void values(const Surroundings& found, double* values) const = 0;
  /// dG/dR . direction + dG/d(strain) . strain.
  virtual void jvp(const Neighbours& batch, Surroundings& found, const double* direction,
                   const double* strain, double* tangent) const = 0;
  /// Adds (dG/dR)^T . cotangent to `gradient`, and sum over pairs of vector x d(cotangent . G)/d(vector) to
  /// `virial`.
  virtual void add_vjp(const Neighbours& batch, Surroundings& found, const double* cotangent,
                       double* gradient, double* virial) const = 0;

  /// Whether there are `slopes`.
  virtual bool has_slopes() const { return false; }
  /// Derivatives of G of each atom surveyed with respect to the vectors to its neighbours, (pairs of these
  /// atoms, 3, D): zero for pairs beyond the cutoff. Rows of Jacobians and of normal equations are made of
  /// them.
  virtual void slopes(const Neighbours& batch, Surroundings& found, double* slopes) const;

  /// Dense Jacobian of structure `s`: (N, D, 3N), for covariance matrices and tests; 8 N D 3N bytes. With
  /// `strained` (N, D, 3N + 6), last the derivatives with respect to the strains in Voigt's order. Made of
  /// the slopes; where there are none, of one jvp for each column.
  void jacobian(const Neighbours& batch, Index s, bool strained, double* jacobian) const;

  /// The same without strains, one row of D numbers for each coordinate k and atom i of structure `s`, added
  /// to rows[i] + k strides[i]: dG_i/dR_k where a network wants it.
  void jacobian_rows(const Neighbours& batch, Index s, double* const* rows, const Index* strides) const;

  // Products for all atoms of a batch, with the same bits for any number of threads. values, tangent,
  // cotangent: (n_atoms, D); direction, gradient: (n_atoms, 3); strains, virials: (n_structures, 9), the
  // strains may be null.

  void values(const Neighbours& batch, int n_threads, double* values) const;
  void jvp(const Neighbours& batch, const double* direction, const double* strains, int n_threads,
           double* tangent) const;
  void vjp(const Neighbours& batch, const double* cotangent, int n_threads, double* gradient,
           double* virials) const;

 private:
  template <class Work>
  void for_each_block(const Neighbours& batch, int n_threads, Work&& work) const;
  template <class Visit>
  void for_each_slope(const Neighbours& batch, Index s, Visit&& visit) const;
  template <class Column>
  void for_each_column(const Neighbours& batch, Index s, bool strained, Column&& column) const;
};

}  // namespace gprann
