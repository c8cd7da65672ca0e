#include "gprann/verlet_list.hpp"

#include <Eigen/SVD>
#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "lattice.hpp"

namespace gprann {

namespace {

using Cell3 = std::array<std::int64_t, 3>;
constexpr double margin = 1e-9;  // relative; far above rounding, so that no pair within the cutoff is missed
constexpr double bins_per_reach = 2.0;

std::int64_t floor_quotient(std::int64_t a, std::int64_t b) { return a / b - (a % b != 0 && a < 0); }

}  // namespace

/// Atoms sorted into boxes of about half the reach.
struct VerletList::Bins {
  Matrix3 cell;
  std::array<bool, 3> periodic;
  Cell3 count, look;             // boxes along each direction, and how many of them the reach spans
  std::vector<Cell3> box, wrap;  // of each atom: its box, and the cells it is away from the first one
  Eigen::Matrix<double, Eigen::Dynamic, 3, Eigen::RowMajor> wrapped;
  std::vector<std::int32_t> order;  // atoms box by box
  std::vector<std::int64_t> first;  // (number of boxes + 1)

  Bins(const std::vector<double>& positions, const std::array<double, 9>& cell_,
       const std::array<std::uint8_t, 3>& periodic_, double reach)
      : cell(complete_cell(cell_.data(), periodic_.data())),
        periodic{periodic_[0] != 0, periodic_[1] != 0, periodic_[2] != 0} {
    const Index n = static_cast<Index>(positions.size()) / 3;
    const Matrix3 inverse = cell.inverse();
    wrapped =
        Eigen::Map<const Eigen::Matrix<double, Eigen::Dynamic, 3, Eigen::RowMajor>>(positions.data(), n, 3);
    Eigen::Matrix<double, Eigen::Dynamic, 3> fractional = wrapped * inverse;
    box.resize(static_cast<std::size_t>(n));
    wrap.assign(static_cast<std::size_t>(n), {0, 0, 0});
    for (int d = 0; d < 3; ++d) {
      auto along = fractional.col(d);
      double low = 0.0, extent = 1.0;
      if (periodic[static_cast<std::size_t>(d)]) {
        for (Index i = 0; i < n; ++i) wrap_atom(i, d, along[i]);
      } else if (n > 0) {
        low = along.minCoeff();
        extent = along.maxCoeff() - low;
      }
      divide(d, along, low, extent, reach * inverse.col(d).norm(), n);
    }
    sort(n);
  }

  std::int64_t number(const Cell3& place) const {
    return (place[0] * count[1] + place[1]) * count[2] + place[2];
  }

 private:
  void wrap_atom(Index i, int d, double& fraction) {
    const double cells = std::floor(fraction);
    if (!(std::abs(cells) < 16000.0))
      throw std::domain_error("an atom is too many cells away from the others");
    wrap[static_cast<std::size_t>(i)][static_cast<std::size_t>(d)] = static_cast<std::int64_t>(cells);
    fraction -= cells;
    wrapped.row(i) -= cells * cell.row(d);
  }

  template <class Column>
  void divide(int d, const Column& along, double low, double extent, double reach, Index n) {
    const auto at = static_cast<std::size_t>(d);
    const double most =
        std::ceil(2.0 * std::cbrt(static_cast<double>(n) + 1.0)) + 8.0;  // empty boxes cost time
    const double boxes = std::clamp(std::floor(bins_per_reach * extent / reach), 1.0, most);
    count[at] = static_cast<std::int64_t>(boxes);
    const double spanned = extent > 0.0 ? std::ceil(reach * boxes / extent) : 0.0;
    look[at] = static_cast<std::int64_t>(periodic[at] ? spanned : std::min(spanned, boxes - 1.0));
    const double scale = extent > 0.0 ? boxes / extent : 0.0;
    for (Index i = 0; i < n; ++i)
      box[static_cast<std::size_t>(i)][at] =
          std::clamp<std::int64_t>(static_cast<std::int64_t>((along[i] - low) * scale), 0, count[at] - 1);
  }

  void sort(Index n) {
    first.assign(static_cast<std::size_t>(count[0] * count[1] * count[2] + 1), 0);
    for (const Cell3& place : box) ++first[static_cast<std::size_t>(number(place) + 1)];
    for (std::size_t b = 1; b < first.size(); ++b) first[b] += first[b - 1];
    order.resize(static_cast<std::size_t>(n));
    std::vector<std::int64_t> next(first.begin(), first.end() - 1);
    for (Index i = 0; i < n; ++i)
      order[static_cast<std::size_t>(
          next[static_cast<std::size_t>(number(box[static_cast<std::size_t>(i)]))]++)] =
          static_cast<std::int32_t>(i);
  }
};

/// Whether the candidates hold all pairs of these positions; see the class.
bool VerletList::is_valid(const double* positions, Index n_atoms, const double* cell,
                          const std::uint8_t* periodic) const {
  if (static_cast<Index>(positions_.size()) != 3 * n_atoms || n_atoms == 0 ||
      !std::equal(periodic, periodic + 3, periodic_.begin()))
    return false;
  using Positions = Eigen::Map<const Eigen::Matrix<double, Eigen::Dynamic, 3, Eigen::RowMajor>>;
  const Positions before(positions_.data(), n_atoms, 3), now(positions, n_atoms, 3);
  Matrix3 strain = Matrix3::Identity();
  double least = 1.0;  // singular value of the strain
  if (std::memcmp(cell, cell_.data(), sizeof(cell_)) != 0) {
    strain = complete_cell(cell_.data(), periodic).inverse() * complete_cell(cell, periodic);
    least = strain.jacobiSvd().singularValues()[2] * (1.0 - margin);
  }
  const double room = 0.5 * (least * (cutoff_ + skin_) - cutoff_);
  if (!(room >= 0.0)) return false;
  for (Index i = 0; i < n_atoms; ++i) {
    const Eigen::RowVector3d moved = now.row(i) - before.row(i) * strain;
    if (!(moved.squaredNorm() <= room * room)) return false;
  }
  return true;
}

/// What no pair of these positions is below, from the shortest pair of the last ones.
double VerletList::bound_shortest(const double* positions, Index n_atoms, const double* cell,
                                  const std::uint8_t* periodic) const {
  if (!nearest_known_ || n_atoms != this->n_atoms() ||
      std::memcmp(cell, cell_now_.data(), sizeof(cell_now_)) != 0 ||
      !std::equal(periodic, periodic + 3, periodic_.begin()))
    return 0.0;
  double most = 0.0;
  for (Index i = 0; i < n_atoms; ++i) {
    double moved = 0.0;
    for (Index k = 3 * i; k < 3 * i + 3; ++k) {
      const double shift = positions[k] - now_[static_cast<std::size_t>(k)];
      moved += shift * shift;
    }
    if (!(moved <= most)) most = moved;  // NaN as well
  }
  const double bound = std::min(std::sqrt(nearest_.squared), cutoff_) - 2.0 * std::sqrt(most);
  return bound > 0.0 ? bound : 0.0;
}

bool VerletList::update(const double* positions, Index n_atoms, const double* cell,
                        const std::uint8_t* periodic) {
  const bool valid = is_valid(positions, n_atoms, cell, periodic);
  lower_bound_ = bound_shortest(positions, n_atoms, cell, periodic);
  measured_ = nearest_known_ = false;
  if (!valid) {
    positions_.clear();  // not valid, should the search fail
    now_.clear();
    for (Index k = 0; k < 3 * n_atoms; ++k)
      if (!std::isfinite(positions[k])) throw std::domain_error("a position is not finite");
    std::vector<double> now(positions, positions + 3 * n_atoms);
    std::copy_n(cell, 9, cell_.begin());
    std::copy_n(periodic, 3, periodic_.begin());
    positions_.swap(now);
    try {
      search((cutoff_ + skin_) * (1.0 + margin));
    } catch (...) {
      positions_.clear();
      throw;
    }
  }
  now_.assign(positions, positions + 3 * n_atoms);
  std::copy_n(cell, 9, cell_now_.begin());
  Eigen::Map<Matrix3>(full_cell_.data()) = complete_cell(cell, periodic);
  return !valid;
}

/// Finds the candidates of all atoms.
void VerletList::search(double reach) {
  const Bins bins(positions_, cell_, periodic_, reach);
  const Index n = static_cast<Index>(positions_.size()) / 3;
  const double squared = reach * reach;
  std::vector<Candidate> found;
  found.reserve(candidates_.size());
  std::vector<std::int64_t> first(1, 0);
  for (Index i = 0; i < n; ++i) {
    const auto own = static_cast<std::size_t>(i);
    const Eigen::RowVector3d here = bins.wrapped.row(i);
    Cell3 step;
    auto next_box = [&](std::size_t d, std::int64_t& place, std::int64_t& image) {
      place = bins.box[own][d] + step[d];
      image = floor_quotient(place, bins.count[d]);
      place -= image * bins.count[d];
      return image == 0 || bins.periodic[d];
    };
    Cell3 place, image;
    for (step[0] = -bins.look[0]; step[0] <= bins.look[0]; ++step[0]) {
      if (!next_box(0, place[0], image[0])) continue;
      for (step[1] = -bins.look[1]; step[1] <= bins.look[1]; ++step[1]) {
        if (!next_box(1, place[1], image[1])) continue;
        for (step[2] = -bins.look[2]; step[2] <= bins.look[2]; ++step[2]) {
          if (!next_box(2, place[2], image[2])) continue;
          const auto box = static_cast<std::size_t>(bins.number(place));
          if (bins.first[box] == bins.first[box + 1]) continue;
          const Eigen::RowVector3d origin = static_cast<double>(image[0]) * bins.cell.row(0) +
                                            static_cast<double>(image[1]) * bins.cell.row(1) +
                                            static_cast<double>(image[2]) * bins.cell.row(2) - here;
          for (std::int64_t k = bins.first[box]; k < bins.first[box + 1]; ++k) {
            const std::int32_t j = bins.order[static_cast<std::size_t>(k)];
            if ((bins.wrapped.row(j) + origin).squaredNorm() >= squared) continue;
            Candidate pair{j, {}};
            for (std::size_t d = 0; d < 3; ++d)
              pair.image[d] = static_cast<std::int16_t>(image[d] + bins.wrap[own][d] -
                                                        bins.wrap[static_cast<std::size_t>(j)][d]);
            if (j != i || pair.image != Image{0, 0, 0}) found.push_back(pair);
          }
        }
      }
    }
    first.push_back(static_cast<std::int64_t>(found.size()));
  }
  sort_candidates(found, first);
}

/// Sorts by atom, neighbour and image: in the order of the atoms, each enters itself into the lists of its
/// neighbours.
void VerletList::sort_candidates(const std::vector<Candidate>& found,
                                 const std::vector<std::int64_t>& first) {
  const std::size_t n = first.size() - 1;
  first_candidate_ = first;  // each pair stands twice, so that the numbers are the same
  candidates_.resize(found.size());
  std::vector<std::int64_t> next(first.begin(), first.end() - 1);
  for (std::size_t i = 0; i < n; ++i)
    for (std::int64_t p = first[i]; p < first[i + 1]; ++p) {
      const Candidate& pair = found[static_cast<std::size_t>(p)];
      const auto j = static_cast<std::size_t>(pair.neighbour);
      if (next[j] == first[j + 1]) throw std::logic_error("a pair of atoms was found from one side alone");
      candidates_[static_cast<std::size_t>(next[j]++)] = {
          static_cast<std::int32_t>(i),
          {static_cast<std::int16_t>(-pair.image[0]), static_cast<std::int16_t>(-pair.image[1]),
           static_cast<std::int16_t>(-pair.image[2])}};
    }
  for (std::size_t i = 0; i < n; ++i) {
    const auto end = candidates_.begin() + first[i + 1];
    for (auto begin = candidates_.begin() + first[i]; begin != end;) {
      auto stop = begin + 1;
      while (stop != end && stop->neighbour == begin->neighbour) ++stop;
      if (stop - begin > 1)
        std::sort(begin, stop, [](const Candidate& a, const Candidate& b) { return a.image < b.image; });
      begin = stop;
    }
  }
}

/// Writes the pairs of an atom within the cutoff, for which there must be room of `n_candidates(atom) + 1`;
/// returns how many these are.
Index VerletList::write_pairs(Index atom, std::int32_t* neighbour, double* vectors,
                              NearestPair& nearest) const {
  const Eigen::Map<const Matrix3> cell(full_cell_.data());
  const double squared = cutoff_ * cutoff_;
  const Eigen::RowVector3d here = Eigen::Map<const Eigen::RowVector3d>(now_.data() + 3 * atom);
  Index p = 0;
  const auto own = static_cast<std::size_t>(atom);
  for (std::int64_t c = first_candidate_[own]; c < first_candidate_[own + 1]; ++c) {
    const Candidate& pair = candidates_[static_cast<std::size_t>(c)];
    const Eigen::RowVector3d direct =
        Eigen::Map<const Eigen::RowVector3d>(now_.data() + 3 * pair.neighbour) - here;
    const Eigen::RowVector3d v =
        direct + pair.image[0] * cell.row(0) + pair.image[1] * cell.row(1) + pair.image[2] * cell.row(2);
    // Written in any case and counted if it is near enough: no branch to be guessed wrongly.
    neighbour[p] = pair.neighbour;
    Eigen::Map<Eigen::RowVector3d>(vectors + 3 * p) = v;
    const double distance = v.squaredNorm();
    if (distance < nearest.squared && distance < squared) nearest = {atom, pair.neighbour, distance};
    p += distance < squared;
  }
  return p;
}

void VerletList::measure() {
  if (measured_) return;
  const Index n = n_atoms();
  first_pair_.resize(static_cast<std::size_t>(n + 1));
  neighbour_.resize(candidates_.size() + 1);
  vectors_.resize(3 * neighbour_.size());
  NearestPair nearest;
  std::int64_t p = 0;
  for (Index i = 0; i < n; ++i) {
    first_pair_[static_cast<std::size_t>(i)] = p;
    p += write_pairs(i, neighbour_.data() + p, vectors_.data() + 3 * p, nearest);
  }
  first_pair_[static_cast<std::size_t>(n)] = p;
  measured_ = true;
  set_nearest(nearest);
}

NearestPair VerletSource::nearest() const {
  NearestPair nearest;
  for (const Block& block : blocks_)
    if (block.nearest.precedes(nearest)) nearest = block.nearest;
  return nearest;
}

void VerletSource::prepare(int n_threads) {
  blocks_.resize(std::max(blocks_.size(), static_cast<std::size_t>(n_threads)));
}

const Neighbours& VerletSource::lists(Index begin, Index end, int thread) {
  Block& block = blocks_[static_cast<std::size_t>(thread)];
  return block.fill(batch_, begin, end, [&](Index atom, std::size_t n_pairs) {
    block.reserve(n_pairs, static_cast<std::size_t>(list_.n_candidates(atom)) + 1);
    NearestPair nearest;
    const Index added = list_.write_pairs(atom, block.neighbour.data() + n_pairs,
                                          block.vectors.data() + 3 * n_pairs, nearest);
    if (nearest.precedes(block.nearest)) block.nearest = nearest;
    return n_pairs + static_cast<std::size_t>(added);
  });
}

}  // namespace gprann
