#include "gprann/density.hpp"

#include <algorithm>
#include <stdexcept>

#include "density_shell.hpp"

namespace gprann {

/// The neighbours of one atom within the cutoff of one part, and the moments of their density.
struct DensityDescriptor::Environment {
  DensityShell shell;
  std::vector<Lane> moments;
};

/// The surroundings of some atoms of one structure: for each atom one environment for each part.
struct DensityDescriptor::Found final : Descriptor::Surroundings {
  Index origin = 0;  // first atom of the structure
  Index first = 0;   // first atom surveyed
  Index n_atoms = 0;
  std::vector<Environment> environments;
  std::vector<Lane> change;  // of the moments, or their cotangent
  DensityExpansion::Workspace expansion;
  mutable DensityInvariants::Workspace invariants;
};

DensityDescriptor::DensityDescriptor(const DensityPart& two_body, const DensityPart& three_body,
                                     const DensityPart& four_body, double decay, const Matrix& weights)
    : n_species_(weights.cols()) {
  if (two_body.l_max != 0) throw std::invalid_argument("the 2-body part has l = 0 alone");
  add_part(two_body, decay, weights, make_pair_invariants);
  add_part(three_body, decay, weights, make_power_spectrum);
  add_part(four_body, decay, weights, make_four_body_invariants);
  if (size_ == 0) throw std::invalid_argument("a descriptor of no components");
}

void DensityDescriptor::add_part(const DensityPart& part, double decay, const Matrix& weights,
                                 std::unique_ptr<DensityInvariants> (*make)(const DensityExpansion&)) {
  if (part.n_max == 0) return;
  DensityExpansion expansion(part.n_max, part.l_max, part.cutoff, decay, weights);
  std::unique_ptr<DensityInvariants> invariants = make(expansion);
  const Index size = invariants->size();
  parts_.push_back({std::move(expansion), std::move(invariants), size_});
  size_ += size;
}

double DensityDescriptor::cutoff() const {
  double longest = 0.0;
  for (const Part& part : parts_) longest = std::max(longest, part.expansion.cutoff());
  return longest;
}

std::vector<DensityInvariants::Term> DensityDescriptor::terms() const {
  std::vector<DensityInvariants::Term> all;
  for (const Part& part : parts_)
    for (const auto& term : part.invariants->terms()) all.push_back(term);
  return all;
}

std::unique_ptr<Descriptor::Surroundings> DensityDescriptor::make_surroundings() const {
  return std::make_unique<Found>();
}

void DensityDescriptor::survey(const Neighbours& batch, Index s, Index begin, Index end,
                               Surroundings& found) const {
  auto& content = static_cast<Found&>(found);
  content.origin = batch.first_atom[s];
  content.first = begin;
  content.n_atoms = end - begin;
  const std::size_t n_parts = parts_.size();
  const std::size_t n = static_cast<std::size_t>(content.n_atoms) * n_parts;
  if (content.environments.size() < n) content.environments.resize(n);
  for (std::size_t k = 0; k < n; ++k) {
    const DensityExpansion& expansion = parts_[k % n_parts].expansion;
    Environment& env = content.environments[k];
    env.moments.resize(static_cast<std::size_t>(expansion.n_lanes()));
    expansion.gather(batch, begin + static_cast<Index>(k / n_parts), env.shell);
    expansion.moments(env.shell, content.expansion, env.moments.data());
  }
}

void DensityDescriptor::values(const Surroundings& found, double* values) const {
  const auto& content = static_cast<const Found&>(found);
  const Environment* env = content.environments.data();
  for (Index i = 0; i < content.n_atoms; ++i)
    for (const Part& part : parts_)
      part.invariants->values((env++)->moments.data(), content.invariants, values + i * size_ + part.first);
}

void DensityDescriptor::jvp(const Neighbours& batch, Surroundings& found, const double* direction,
                            const double* strain, double* tangent) const {
  auto& content = static_cast<Found&>(found);
  Environment* env = content.environments.data();
  for (Index i = 0; i < content.n_atoms; ++i)
    for (const Part& part : parts_) {
      content.change.resize(static_cast<std::size_t>(part.expansion.n_lanes()));
      set_direction(batch, content.first + i, direction - 3 * content.origin, strain, env->shell);
      part.expansion.tangents(env->shell, content.expansion, content.change.data());
      part.invariants->tangents(env->moments.data(), content.change.data(), content.invariants,
                                tangent + i * size_ + part.first);
      ++env;
    }
}

void DensityDescriptor::add_vjp(const Neighbours& batch, Surroundings& found, const double* cotangent,
                                double* gradient, double* virial) const {
  auto& content = static_cast<Found&>(found);
  Environment* env = content.environments.data();
  for (Index i = 0; i < content.n_atoms; ++i)
    for (const Part& part : parts_) {
      content.change.resize(static_cast<std::size_t>(part.expansion.n_lanes()));
      part.invariants->gradients(env->moments.data(), cotangent + i * size_ + part.first, content.invariants,
                                 content.change.data());
      part.expansion.gradients(env->shell, content.expansion, content.change.data());
      add_pair_gradients(batch, content.first + i, env->shell, gradient - 3 * content.origin, virial);
      ++env;
    }
}

/// Calls work(row) for every pair of the shell and direction, `found.change` the changes of the moments;
/// `first` is the first pair of the atom.
template <class Work>
void DensityDescriptor::for_each_slope(const Part& part, const DensityShell& shell, std::int64_t first,
                                       Found& found, Work&& work) const {
  found.change.resize(static_cast<std::size_t>(part.expansion.n_lanes()));
  for (const auto& segment : shell.segments)
    for (Index block = segment.first; block < segment.last; ++block) {
      part.expansion.prepare_slopes(shell, block, found.expansion);
      for (Index e = 0; e < lane_width; ++e) {
        const std::int64_t pair = shell.pair[static_cast<std::size_t>(block * lane_width + e)];
        for (int d = 0; pair >= 0 && d < 3; ++d) {
          part.expansion.slope(shell, block, e, d, segment.species, found.expansion, found.change.data());
          work(3 * (pair - first) + d);
        }
      }
    }
}

/// Slopes of the components of one part: by their derivatives by the moments, or by tangents one by one.
void DensityDescriptor::part_slopes(const Part& part, const Environment& env, std::int64_t first,
                                    Found& found, double* slopes) const {
  if (part.invariants->has_jacobian()) {
    product_slopes(part, env, first, found, slopes);
    return;
  }
  for_each_slope(part, env.shell, first, found, [&](Index row) {
    part.invariants->tangents(env.moments.data(), found.change.data(), found.invariants,
                              slopes + row * size_ + part.first);
  });
}

void DensityDescriptor::product_slopes(const Part& part, const Environment& env, std::int64_t first,
                                       Found& found, double* slopes) const {
  const Index q = part.expansion.n_functions(), stride = part.expansion.stride() * lane_width;
  const Index width = part.expansion.rows() * q;
  DensityInvariants::Workspace& work = found.invariants;
  work.jacobian.resize(part.invariants->size(), width);
  part.invariants->jacobian(env.moments.data(), work, work.jacobian.data());
  work.changes.resize(3 * lane_width * static_cast<Index>(env.shell.pair.size() / lane_width), width);
  std::vector<Index> rows;
  for_each_slope(part, env.shell, first, found, [&](Index row) {
    const double* change = found.change.data()->data();
    double* out = work.changes.row(static_cast<Index>(rows.size())).data();
    for (Index lm = 0; lm < part.expansion.rows(); ++lm) std::copy_n(change + lm * stride, q, out + lm * q);
    rows.push_back(row);
  });
  const auto n = static_cast<Index>(rows.size());
  work.slopes.noalias() = work.changes.topRows(n) * work.jacobian.transpose();
  for (Index k = 0; k < n; ++k)
    std::copy_n(work.slopes.row(k).data(), work.slopes.cols(),
                slopes + rows[static_cast<std::size_t>(k)] * size_ + part.first);
}

void DensityDescriptor::slopes(const Neighbours& batch, Surroundings& found, double* slopes) const {
  auto& content = static_cast<Found&>(found);
  const Environment* env = content.environments.data();
  for (Index i = 0; i < content.n_atoms; ++i) {
    const std::int64_t first = batch.first_pair[content.first + i];
    const Index count = 3 * (batch.first_pair[content.first + i + 1] - first) * size_;
    std::fill_n(slopes, count, 0.0);
    for (const Part& part : parts_) part_slopes(part, *env++, first, content, slopes);
    slopes += count;
  }
}

}  // namespace gprann
