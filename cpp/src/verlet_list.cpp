#include "gprann/verlet_list.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
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

bool VerletList::is_valid(const double* positions, Index n_atoms, const double* cell,
                          const std::uint8_t* periodic) const {
  if (static_cast<Index>(positions_.size()) != 3 * n_atoms ||
      std::memcmp(cell, cell_.data(), sizeof(cell_)) != 0 ||
      !std::equal(periodic, periodic + 3, periodic_.begin()))
    return false;
  const double most = 0.25 * used_skin_ * used_skin_;
  for (Index i = 0; i < n_atoms; ++i) {
    double moved = 0.0;
    for (Index k = 3 * i; k < 3 * i + 3; ++k) {
      const double shift = positions[k] - positions_[static_cast<std::size_t>(k)];
      moved += shift * shift;
    }
    if (!(moved <= most)) return false;
  }
  return true;
}

bool VerletList::update(const double* positions, Index n_atoms, const double* cell,
                        const std::uint8_t* periodic) {
  const bool valid = is_valid(positions, n_atoms, cell, periodic);
  if (!valid) {
    for (Index k = 0; k < 3 * n_atoms; ++k)
      if (!std::isfinite(positions[k])) throw std::domain_error("a position is not finite");
    const bool strained = !positions_.empty() && std::memcmp(cell, cell_.data(), sizeof(cell_)) != 0;
    used_skin_ = strained ? 0.0 : skin_;  // a cell that changes will change again at the next step
    positions_.clear();                   // not valid, should the search fail
    std::vector<double> now(positions, positions + 3 * n_atoms);
    std::copy_n(cell, 9, cell_.begin());
    std::copy_n(periodic, 3, periodic_.begin());
    positions_.swap(now);
    try {
      search((cutoff_ + used_skin_) * (1.0 + margin));
    } catch (...) {
      positions_.clear();
      throw;
    }
  }
  measure(positions);
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

/// Fills in the vectors of now, and drops the pairs beyond the cutoff.
void VerletList::measure(const double* positions) {
  const Index n = static_cast<Index>(positions_.size()) / 3;
  const Matrix3 cell = complete_cell(cell_.data(), periodic_.data());
  const double squared = cutoff_ * cutoff_;
  double smallest = std::numeric_limits<double>::infinity();
  first_pair_.resize(static_cast<std::size_t>(n + 1));
  neighbour_.resize(candidates_.size() + 1);  // a pair is written before it is known whether it stays
  vectors_.resize(3 * neighbour_.size());
  nearest_pair_ = nearest_atom_ = -1;
  std::int64_t p = 0;
  for (Index i = 0; i < n; ++i) {
    const auto own = static_cast<std::size_t>(i);
    first_pair_[own] = p;
    const Eigen::RowVector3d here = Eigen::Map<const Eigen::RowVector3d>(positions + 3 * i);
    for (std::int64_t c = first_candidate_[own]; c < first_candidate_[own + 1]; ++c) {
      const Candidate& pair = candidates_[static_cast<std::size_t>(c)];
      const Eigen::RowVector3d direct =
          Eigen::Map<const Eigen::RowVector3d>(positions + 3 * pair.neighbour) - here;
      const Eigen::RowVector3d v =
          direct + pair.image[0] * cell.row(0) + pair.image[1] * cell.row(1) + pair.image[2] * cell.row(2);
      neighbour_[static_cast<std::size_t>(p)] = pair.neighbour;
      Eigen::Map<Eigen::RowVector3d>(vectors_.data() + 3 * p) = v;
      const double distance = v.squaredNorm();
      if (distance < smallest) {
        smallest = distance;
        nearest_pair_ = p;
        nearest_atom_ = i;
      }
      p += distance < squared;
    }
  }
  first_pair_[static_cast<std::size_t>(n)] = p;
  if (!(smallest < squared)) nearest_pair_ = nearest_atom_ = -1;
}

}  // namespace gprann
