#include "gprann/symmetry.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <tuple>

#include "symmetry_environment.hpp"

namespace gprann {

SymmetryFunctionDescriptor::SymmetryFunctionDescriptor(Index n_species, const Matrix& functions,
                                                       int cutoff_type, double inner_cutoff)
    : n_species_(n_species),
      cutoff_type_(static_cast<SymmetryCutoff>(cutoff_type)),
      inner_cutoff_(inner_cutoff),
      groups_(static_cast<std::size_t>(std::max<Index>(n_species, 0))) {
  if (cutoff_type < 1 || cutoff_type > 8)
    throw std::invalid_argument("cutoff type must be 1 to 8, got " + std::to_string(cutoff_type));
  if (!(inner_cutoff >= 0 && inner_cutoff < 1))
    throw std::invalid_argument("inner cutoff must be at least 0 and below 1, got " +
                                std::to_string(inner_cutoff));
  check(functions);
  std::vector<Index> count(groups_.size(), 0);
  for (Index row = 0; row < functions.rows(); ++row) {
    Index& component = count[static_cast<std::size_t>(functions(row, centre))];
    add_function(functions.row(row), component++);
  }
  size_ = *std::max_element(count.begin(), count.end());
  for (auto& groups : groups_)
    for (Group& group : groups)
      std::stable_sort(
          group.functions.begin(), group.functions.end(), [](const Function& a, const Function& b) {
            return std::tie(a.eta, a.shift, a.lambda, a.zeta) < std::tie(b.eta, b.shift, b.lambda, b.zeta);
          });
}

void SymmetryFunctionDescriptor::check(const Matrix& functions) const {
  if (n_species_ < 1 || functions.rows() < 1 || functions.cols() != n_columns)
    throw std::invalid_argument("functions must have shape (functions, 9), of one species at least");
  for (Index row = 0; row < functions.rows(); ++row) {
    const auto f = functions.row(row);
    const std::string name = "function " + std::to_string(row);
    const bool radial = f[type] == 2;
    if (!f.allFinite()) throw std::invalid_argument(name + ": expected finite numbers");
    if (!radial && f[type] != 3 && f[type] != 9)
      throw std::invalid_argument(name + ": its type must be 2, 3 or 9");
    for (const Column species : {centre, first, radial ? first : second})
      if (!(f[species] >= 0 && f[species] < static_cast<double>(n_species_) &&
            f[species] == std::floor(f[species])))
        throw std::invalid_argument(name + ": there is no such species");
    if (!(f[reach] > 0)) throw std::invalid_argument(name + ": its cutoff must be positive");
    if (f[eta] < 0) throw std::invalid_argument(name + ": its eta must not be negative");
    if (!radial && (f[zeta] < 1 || std::abs(f[lambda]) > 1))
      throw std::invalid_argument(name + ": expected zeta >= 1 and lambda from -1 to 1");
  }
}

void SymmetryFunctionDescriptor::add_function(const Eigen::RowVectorXd& row, Index component) {
  const auto found = std::find(cutoffs_.begin(), cutoffs_.end(), row[reach]);
  const auto which = static_cast<std::size_t>(found - cutoffs_.begin());
  if (found == cutoffs_.end()) cutoffs_.push_back(row[reach]);
  cutoff_ = std::max(cutoff_, row[reach]);
  const int kind = static_cast<int>(row[type]);
  const auto one = static_cast<std::size_t>(row[first]);
  const auto two = kind == 2 ? one : static_cast<std::size_t>(row[second]);
  const auto key = std::make_tuple(kind, std::min(one, two), std::max(one, two), which);
  std::vector<Group>& groups = groups_[static_cast<std::size_t>(row[centre])];
  auto group = std::find_if(groups.begin(), groups.end(), [&](const Group& other) {
    return std::make_tuple(other.type, other.first, other.second, other.reach) == key;
  });
  if (group == groups.end()) {
    groups.push_back({kind, std::get<1>(key), std::get<2>(key), which, {}});
    group = groups.end() - 1;
  }
  const double scale = kind == 2 ? 1.0 : std::pow(2.0, 1.0 - row[zeta]);
  group->functions.push_back({row[eta], row[shift], row[lambda], row[zeta], scale, component});
}

void SymmetryFunctionDescriptor::gather(const Neighbours& batch, Index atom, Environment& env) const {
  const std::int64_t begin = batch.first_pair[atom];
  const std::int64_t end = batch.first_pair[atom + 1];
  const auto n = groups_.size();
  env.species = static_cast<std::size_t>(batch.species[atom]);
  env.shells.resize(n);
  env.fades.resize(n * cutoffs_.size());
  for (Shell& shell : env.shells) shell.clear(chunk_count(end - begin, lane_width) * lane_width, 0);
  for (std::int64_t p = begin; p < end; ++p) {
    const double* v = batch.vectors + 3 * p;
    const double r = std::sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
    if (!(r < cutoff_)) continue;
    Shell& shell = env.shells[static_cast<std::size_t>(batch.species[batch.neighbour[p]])];
    const auto b = static_cast<std::size_t>(shell.count / lane_width);
    const Index e = shell.count % lane_width;
    shell.r[b][e] = r;
    shell.inverse_r[b][e] = 1.0 / r;
    shell.x[b][e] = v[0] / r;
    shell.y[b][e] = v[1] / r;
    shell.z[b][e] = v[2] / r;
    shell.pair[static_cast<std::size_t>(shell.count++)] = p;
  }
  for (std::size_t t = 0; t < n; ++t) {
    Shell& shell = env.shells[t];
    shell.fill_lane(cutoff_);
    const auto blocks = static_cast<std::size_t>(shell.blocks());
    for (std::size_t c = 0; c < cutoffs_.size(); ++c) {
      Fade& fade = env.fades[t * cutoffs_.size() + c];
      fade.resize(blocks);
      for (std::size_t b = 0; b < blocks; ++b)
        symmetry_cutoff(cutoff_type_, shell.r[b], cutoffs_[c], inner_cutoff_, fade.f[b], fade.df[b]);
    }
  }
}

std::unique_ptr<Descriptor::Surroundings> SymmetryFunctionDescriptor::make_surroundings() const {
  return std::make_unique<Found>();
}

void SymmetryFunctionDescriptor::survey(const Neighbours& batch, Index s, Index begin, Index end,
                                        Surroundings& found) const {
  auto& content = static_cast<Found&>(found);
  content.origin = batch.first_atom[s];
  content.first = begin;
  content.n_atoms = end - begin;
  if (content.environments.size() < static_cast<std::size_t>(content.n_atoms))
    content.environments.resize(static_cast<std::size_t>(content.n_atoms));
  for (Index i = 0; i < content.n_atoms; ++i)
    gather(batch, begin + i, content.environments[static_cast<std::size_t>(i)]);
}

}  // namespace gprann
