#pragma once

#include <memory>

#include "gprann/atom_model.hpp"
#include "gprann/descriptor.hpp"
#include "gprann/guard.hpp"
#include "gprann/neighbour_source.hpp"

namespace gprann {

struct GradientPiece;

/// Which atoms an evaluation is about.
struct CommitteeInput {
  /// The structures. Their lists are not looked at where there is a `source`.
  const Neighbours& batch;
  /// Lists of the only structure, made when they are needed; or null.
  NeighbourSource* source = nullptr;
  /// The first atoms of the only structure, which have energies; the others, ghosts, are neighbours alone,
  /// have none, and receive gradients. -1: all atoms of all structures.
  Index n_centres = -1;
};

/// Where an evaluation writes its results.
struct CommitteeOutput {
  double* energies;                // (members, n_atoms), or (members, n_centres)
  double* gradients;               // (members, n_atoms, 3): dE/dR
  double* virials;                 // (members, n_structures, 9): dE/d(strain)
  double* atom_virials = nullptr;  // (n_atoms, 9), sums over the members, or null: see `Committee::evaluate`
  double* grades = nullptr;        // (n_atoms), or (n_centres), of the guard, or null
};

/// Models of one shape on one descriptor, in use: energies, forces and virials of all members from one look
/// at the neighbours of each atom. A few dozen atoms at a time, so that everything between neighbour list and
/// forces stays in the cache: values, models forward and back, one sweep over the neighbours for each
/// member.
class Committee {
 public:
  /// The arrays that evaluations need, kept from one to the next of the same model and descriptor. For one
  /// evaluation at a time.
  class Workspace {
   public:
    Workspace();
    ~Workspace();
    Workspace(Workspace&&) noexcept;
    Workspace& operator=(Workspace&&) noexcept;

   private:
    friend class Committee;
    struct Content;
    std::unique_ptr<Content> content_;
  };

  /// mean, inverse_scale: (S, D), g = (G - mean) inverse_scale. guard: grades every atom, or null. All must
  /// outlive this.
  Committee(const AtomModel& model, const Descriptor& descriptor, const double* mean,
            const double* inverse_scale, const Guard* guard = nullptr)
      : model_(model), descriptor_(descriptor), mean_(mean), inverse_scale_(inverse_scale), guard_(guard) {}

  const AtomModel& model() const { return model_; }
  const Descriptor& descriptor() const { return descriptor_; }

  /// parameters: (members, P); energies: (members, n_atoms); gradients dE/dR: (members, n_atoms, 3);
  /// virials dE/d(strain): (members, n_structures, 9). The same bits for any number of threads.
  void evaluate(const double* parameters, Index members, const Neighbours& batch, int n_threads,
                double* energies, double* gradients, double* virials) const;

  // clang-format off
  /// The same with what `CommitteeInput` and `CommitteeOutput` tell. The virial of a pair belongs to its
  /// neighbour,
  ///
  ///     W_j = sum_i r_ij (x) dE_i/dr_ij,      r_ij = R_j - R_i,
  ///
  /// the division with which J = -sum_j W_j v_j is the heat flux of a many-body potential (Fan et al., PRB 92,
  /// 094301 (2015)). Its sum over the atoms, ghosts included, is the virial. For a descriptor of which
  /// `has_pair_gradients`.
  // clang-format on
  void evaluate(const double* parameters, Index members, const CommitteeInput& input, int n_threads,
                Workspace& workspace, const CommitteeOutput& output) const;

 private:
  struct Work;

  void evaluate_piece(const double* parameters, Index members, const CommitteeInput& input, int thread,
                      Work& work, GradientPiece& piece, const CommitteeOutput& output) const;
  void grade_block(Work& work, double* grades) const;
  void sort_by_species(const Neighbours& batch, Index begin, Index count, Work& work) const;
  void add_gradients(const Neighbours& lists, Index begin, Index count, Index member, Work& work,
                     GradientPiece& piece) const;

  const AtomModel& model_;
  const Descriptor& descriptor_;
  const double* mean_;
  const double* inverse_scale_;
  const Guard* guard_;
};

}  // namespace gprann
