#include "gprann/stored.hpp"

#include <algorithm>
#include <stdexcept>

#include "gprann/parallel.hpp"

namespace gprann {

/// Which atoms are surveyed.
struct StoredDescriptor::Found final : Descriptor::Surroundings {
  Index structure = 0, begin = 0, end = 0;
  Vector along;  // (3 pairs of an atom)
};

StoredDescriptor::StoredDescriptor(const Descriptor& base, const Neighbours& batch, int n_threads)
    : n_species_(base.n_species()), cutoff_(base.cutoff()), values_(batch.n_atoms, base.size()) {
  if (!base.has_slopes()) throw std::invalid_argument("a descriptor without slopes cannot be stored");
  const Index D = base.size();
  slopes_.resize(static_cast<std::size_t>(3 * batch.first_pair[batch.n_atoms] * D));
  std::vector<std::unique_ptr<Surroundings>> found(static_cast<std::size_t>(std::max(n_threads, 1)));
  parallel_for(batch.n_structures, n_threads, [&](Index s, int thread) {
    std::unique_ptr<Surroundings>& own = found[static_cast<std::size_t>(thread)];
    if (own == nullptr) own = base.make_surroundings();
    const Index last = batch.first_atom[s + 1];
    const Index step = base.divisible() ? 1 : std::max<Index>(1, batch.atoms_of(s));
    for (Index begin = batch.first_atom[s]; begin < last; begin += step) {
      base.survey(batch, s, begin, std::min(last, begin + step), *own);
      base.values(*own, values_.data() + begin * D);
      base.slopes(batch, *own, slopes_.data() + 3 * batch.first_pair[begin] * D);
    }
  });
}

std::unique_ptr<Descriptor::Surroundings> StoredDescriptor::make_surroundings() const {
  return std::make_unique<Found>();
}

void StoredDescriptor::survey(const Neighbours& batch, Index s, Index begin, Index end,
                              Surroundings& found) const {
  if (batch.n_atoms != values_.rows() ||
      3 * batch.first_pair[batch.n_atoms] * size() != static_cast<Index>(slopes_.size()))
    throw std::invalid_argument("the descriptor was stored for other structures");
  auto& own = static_cast<Found&>(found);
  own.structure = s;
  own.begin = begin;
  own.end = end;
}

void StoredDescriptor::values(const Surroundings& found, double* values) const {
  const auto& own = static_cast<const Found&>(found);
  std::copy_n(values_.data() + own.begin * size(), (own.end - own.begin) * size(), values);
}

void StoredDescriptor::jvp(const Neighbours& batch, Surroundings& found, const double* direction,
                           const double* strain, double* tangent) const {
  auto& own = static_cast<Found&>(found);
  const Index first = batch.first_atom[own.structure];
  MatrixMap out(tangent, own.end - own.begin, size());
  for (Index i = own.begin; i < own.end; ++i) {
    const std::int64_t begin = batch.first_pair[i];
    const std::int64_t end = batch.first_pair[i + 1];
    own.along.resize(3 * (end - begin));
    for (std::int64_t p = begin; p < end; ++p) {
      double* change = own.along.data() + 3 * (p - begin);
      const double* vector = batch.vectors + 3 * p;
      for (Index a = 0; a < 3; ++a) {
        change[a] = direction[3 * (batch.neighbour[p] - first) + a] - direction[3 * (i - first) + a];
        if (strain == nullptr) continue;
        for (Index b = 0; b < 3; ++b) change[a] += strain[3 * a + b] * vector[b];
      }
    }
    out.row(i - own.begin).noalias() = own.along.transpose() * slopes_of(batch, i);
  }
}

void StoredDescriptor::add_vjp(const Neighbours& batch, Surroundings& found, const double* cotangent,
                               double* gradient, double* virial) const {
  auto& own = static_cast<Found&>(found);
  const Index first = batch.first_atom[own.structure];
  for (Index i = own.begin; i < own.end; ++i) {
    const std::int64_t begin = batch.first_pair[i];
    own.along.resize(3 * (batch.first_pair[i + 1] - begin));
    own.along.noalias() = slopes_of(batch, i) * ConstVectorMap(cotangent + (i - own.begin) * size(), size());
    for (std::int64_t p = begin; p < batch.first_pair[i + 1]; ++p) {
      const double* slope = own.along.data() + 3 * (p - begin);
      const double* vector = batch.vectors + 3 * p;
      for (Index a = 0; a < 3; ++a) {
        gradient[3 * (batch.neighbour[p] - first) + a] += slope[a];
        gradient[3 * (i - first) + a] -= slope[a];
        if (virial == nullptr) continue;
        for (Index b = 0; b < 3; ++b) virial[3 * a + b] += slope[a] * vector[b];
      }
    }
  }
}

void StoredDescriptor::slopes(const Neighbours& batch, Surroundings& found, double* slopes) const {
  const auto& own = static_cast<const Found&>(found);
  const std::int64_t begin = batch.first_pair[own.begin];
  const std::int64_t end = batch.first_pair[own.end];
  std::copy_n(slopes_.data() + 3 * begin * size(), 3 * (end - begin) * size(), slopes);
}

}  // namespace gprann
