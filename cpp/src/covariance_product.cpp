#include "gprann/covariance_product.hpp"

#include <vector>

#include "gprann/parallel.hpp"

namespace gprann {

namespace {

using Row = Eigen::Array<double, 1, Eigen::Dynamic>;
using RowMap = Eigen::Map<Row>;

/// Rows of a tile. The two working arrays of a pair of tiles then take half a megabyte and stay in the cache.
constexpr Index tile_rows = 128;

/// Consecutive rows of one kind, with what every pair of tiles needs of them.
struct Tile {
  Index count;
  Index at;        // of the first row in the outputs
  Matrix stacked;  // (2 count, D): features, below them slopes
  Row weight;      // (count): energy weights
  Row norm;        // (count): |g|^2
  Row offset;      // (count): g . a
  double* energies;
  MatrixMap slopes;

  Tile(const FoldedRows& x, Index begin, Index n, double* all_energies, double* all_slopes)
      : count(n),
        at(begin),
        stacked(2 * n, x.size),
        weight(ConstVectorMap(x.energy_weight + begin, n).transpose()),
        energies(all_energies + begin),
        slopes(all_slopes + begin * x.size, n, x.size) {
    stacked.topRows(n) = ConstMatrixMap(x.features + begin * x.size, n, x.size);
    stacked.bottomRows(n) = ConstMatrixMap(x.slope + begin * x.size, n, x.size);
    norm = stacked.topRows(n).rowwise().squaredNorm().transpose();
    offset = stacked.topRows(n).cwiseProduct(stacked.bottomRows(n)).rowwise().sum().transpose();
  }

  ConstBlock features() const { return {stacked.data(), count, stacked.cols(), stacked.cols()}; }
  ConstBlock both() const { return {stacked.data(), 2 * count, stacked.cols(), stacked.cols()}; }
  ConstBlock folded() const {
    return {stacked.data() + count * stacked.cols(), count, stacked.cols(), stacked.cols()};
  }
};

Block block_of(Matrix& A) { return {A.data(), A.rows(), A.cols(), A.cols()}; }

/// What a pair of tiles, I and J, adds to the outputs of both.
class TilePair {
 public:
  TilePair(const RadialKernel& kernel, const Blas& blas) : kernel_(kernel), blas_(blas) {}

  void add(Tile& I, Tile& J) {
    const bool self = &I == &J;
    left_.resize(I.count, 2 * J.count);
    multiply_nt(blas_, 1.0, I.features(), J.both(), 0.0, block_of(left_));
    if (!self) {
      right_.resize(2 * I.count, J.count);
      multiply_nt(blas_, 1.0, I.folded(), J.features(), 0.0,
                  {right_.data(), I.count, J.count, right_.cols()});
    }
    row_total_.resize(I.count);
    column_total_.setZero(J.count);
    column_energy_.setZero(J.count);
    for (Index i = 0; i < I.count; ++i) {
      evaluate(I, J, i);
      to_row(I, J, i);
      if (!self) to_column(I, i);
    }
    finish(I, J, self);
  }

 private:
  /// phi, phi' and phi'' of row i of I and all rows of J, from g_i . g_j in the left half of `left_`. The
  /// expansion of s loses digits relative to s but not to l^2, on which phi depends.
  void evaluate(const Tile& I, const Tile& J, Index i) {
    squared_ = (I.norm[i] + J.norm - 2.0 * RowMap(&left_(i, 0), J.count)).max(0.0);
    value_.resize(J.count);
    first_.resize(J.count);
    second_.resize(J.count);
    kernel_.evaluate(squared_, value_, first_, second_);
  }

  /// Energy of row i, and over its products with J the factors of g_j and a_j in its slope.
  void to_row(Tile& I, const Tile& J, Index i) {
    RowMap by_feature(&left_(i, 0), J.count);
    RowMap along(&left_(i, J.count), J.count);
    along -= J.offset;  // d . a_j
    I.energies[i] += (value_ * J.weight - 2.0 * first_ * along).sum();
    by_feature = 4.0 * second_ * along - 2.0 * first_ * J.weight;
    row_total_[i] = -by_feature.sum();
    along = -2.0 * first_;
  }

  /// The same for every row j of J, to which row i of I is the other.
  void to_column(const Tile& I, Index i) {
    const Index n = right_.cols();
    RowMap back(&right_(i, 0), n);
    back = I.offset[i] - back;  // d . a_i = -(g_j - g_i) . a_i
    column_energy_ += value_ * I.weight[i] + 2.0 * first_ * back;
    back = -4.0 * second_ * back - 2.0 * I.weight[i] * first_;
    column_total_ -= back;
    RowMap(&right_(I.count + i, 0), n) = -2.0 * first_;
  }

  void finish(Tile& I, Tile& J, bool self) {
    const Index D = I.stacked.cols();
    I.slopes += row_total_.matrix().transpose().asDiagonal() * I.stacked.topRows(I.count);
    multiply(blas_, 1.0, block_of(left_), J.both(), 1.0, {I.slopes.data(), I.count, D, D});
    if (self) return;
    RowMap(J.energies, J.count) += column_energy_;
    J.slopes += column_total_.matrix().transpose().asDiagonal() * J.stacked.topRows(J.count);
    multiply_tn(blas_, 1.0, block_of(right_), I.both(), 1.0, {J.slopes.data(), J.count, D, D});
  }

  const RadialKernel& kernel_;
  const Blas& blas_;
  Matrix left_;   // (I, 2 J): products with [g_j | a_j], then factors of [g_j | a_j] in the slope of i
  Matrix right_;  // (2 I, J): a_i . g_j, then factors of [g_i ; a_i] in the slope of j
  Row squared_, value_, first_, second_, row_total_, column_total_, column_energy_;
};

std::vector<Tile> tiles_of(const FoldedRows& x, Index kind, double* energies, double* slopes) {
  std::vector<Tile> tiles;
  for (Index begin = x.first[kind]; begin < x.first[kind + 1]; begin += tile_rows)
    tiles.emplace_back(x, begin, std::min<Index>(tile_rows, x.first[kind + 1] - begin), energies, slopes);
  return tiles;
}

}  // namespace

void covariance_product(const FoldedRows& x, const RadialKernel& kernel, const Blas& blas, int n_threads,
                        double* energies, double* slopes) {
  std::fill_n(energies, x.first[x.n_kinds], 0.0);
  std::fill_n(slopes, x.first[x.n_kinds] * x.size, 0.0);
  std::vector<TilePair> work(static_cast<std::size_t>(std::max(n_threads, 1)), {kernel, blas});
  for (Index kind = 0; kind < x.n_kinds; ++kind) {
    std::vector<Tile> tiles = tiles_of(x, kind, energies, slopes);
    const auto n = static_cast<Index>(tiles.size());
    for (Index round = 0; round < n; ++round) {
      // The tiles i and j with i + j = round (mod n), each i with its only j; those with i <= j.
      std::vector<std::pair<Index, Index>> pairs;
      for (Index i = 0; i < n; ++i)
        if (const Index j = (round - i + n) % n; i <= j) pairs.emplace_back(i, j);
      parallel_for(static_cast<Index>(pairs.size()), n_threads, [&](Index item, int thread) {
        const auto [i, j] = pairs[static_cast<std::size_t>(item)];
        work[static_cast<std::size_t>(thread)].add(tiles[static_cast<std::size_t>(i)],
                                                   tiles[static_cast<std::size_t>(j)]);
      });
    }
  }
}

}  // namespace gprann
