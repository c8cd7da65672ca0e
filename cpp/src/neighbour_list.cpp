#include "gprann/neighbour_list.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "gprann/parallel.hpp"
#include "lattice.hpp"

namespace gprann {

namespace {

constexpr Index chunk = 8;  // structures a thread takes at a time

}  // namespace

template <class Found>
void NeighbourList::visit(Index s, Found&& found) const {
  const std::uint8_t* periodic = cells_.periodic + 3 * s;
  const Matrix3 cell = complete_cell(cells_.cells + 9 * s, periodic);
  const Matrix3 inverse = cell.inverse();
  double reach[3];  // cutoff over the distance of lattice planes
  for (int d = 0; d < 3; ++d) reach[d] = cutoff_ * inverse.col(d).norm();
  const double squared = cutoff_ * cutoff_;
  const std::int64_t first = cells_.first_atom[s];
  const std::int64_t end = cells_.first_atom[s + 1];
  for (std::int64_t i = first; i < end; ++i) {
    for (std::int64_t j = first; j < end; ++j) {
      const Eigen::RowVector3d direct = Eigen::Map<const Eigen::RowVector3d>(cells_.positions + 3 * j) -
                                        Eigen::Map<const Eigen::RowVector3d>(cells_.positions + 3 * i);
      int lowest[3] = {0, 0, 0};
      int highest[3] = {0, 0, 0};
      const Eigen::RowVector3d fractional = direct * inverse;
      for (int d = 0; d < 3; ++d) {
        if (periodic[d] == 0) continue;
        lowest[d] = static_cast<int>(std::ceil(-reach[d] - fractional[d]));
        highest[d] = static_cast<int>(std::floor(reach[d] - fractional[d]));
      }
      for (int a = lowest[0]; a <= highest[0]; ++a)
        for (int b = lowest[1]; b <= highest[1]; ++b)
          for (int c = lowest[2]; c <= highest[2]; ++c) {
            if (i == j && a == 0 && b == 0 && c == 0) continue;
            const Eigen::RowVector3d v = direct + a * cell.row(0) + b * cell.row(1) + c * cell.row(2);
            if (v.squaredNorm() < squared) found(i, j, v);
          }
    }
  }
}

NeighbourList::NeighbourList(const Cells& cells, double cutoff, int n_threads, std::int64_t* first_pair)
    : cells_(cells), cutoff_(cutoff) {
  const Index n_atoms = cells.first_atom[cells.n_structures];
  std::fill_n(first_pair, n_atoms + 1, 0);
  parallel_for(chunk_count(cells.n_structures, chunk), n_threads, [&](Index item, int) {
    for (Index s = item * chunk; s < std::min(cells.n_structures, (item + 1) * chunk); ++s)
      visit(s, [&](std::int64_t i, std::int64_t, const auto&) { ++first_pair[i + 1]; });
  });
  for (Index i = 0; i < n_atoms; ++i) first_pair[i + 1] += first_pair[i];
}

std::int64_t NeighbourList::fill(const std::int64_t* first_pair, int n_threads, std::int32_t* neighbour,
                                 double* vectors) const {
  const Index n_chunks = chunk_count(cells_.n_structures, chunk);
  std::vector<std::int64_t> nearest(static_cast<std::size_t>(n_chunks), -1);
  auto squared = [&](std::int64_t p) {
    return Eigen::Map<const Eigen::Vector3d>(vectors + 3 * p).squaredNorm();
  };
  parallel_for(n_chunks, n_threads, [&](Index item, int) {
    double smallest = std::numeric_limits<double>::infinity();
    for (Index s = item * chunk; s < std::min(cells_.n_structures, (item + 1) * chunk); ++s) {
      std::int64_t p = first_pair[cells_.first_atom[s]];
      visit(s, [&](std::int64_t, std::int64_t j, const Eigen::RowVector3d& v) {
        neighbour[p] = static_cast<std::int32_t>(j);
        Eigen::Map<Eigen::RowVector3d>(vectors + 3 * p) = v;
        const double distance = v.squaredNorm();
        if (distance < smallest) {
          smallest = distance;
          nearest[static_cast<std::size_t>(item)] = p;
        }
        ++p;
      });
    }
  });
  std::int64_t best = -1;
  for (const std::int64_t p : nearest)
    if (p >= 0 && (best < 0 || squared(p) < squared(best))) best = p;
  return best;
}

}  // namespace gprann
