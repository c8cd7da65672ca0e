#include "gprann/covariance.hpp"

#include <vector>

#include "gprann/parallel.hpp"

namespace gprann {

namespace {

using Array = Eigen::Array<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// The pairs (i, i') of rows of one kind of two structures and the kernel's three functions of their
/// distances.
struct PairTerms {
  Array squared, value, first, second;  // (rows of A, rows of B)

  void fill(const double* a, Index rows_a, const double* b, Index rows_b, Index size,
            const RadialKernel& kernel) {
    squared.resize(rows_a, rows_b);
    value.resize(rows_a, rows_b);
    first.resize(rows_a, rows_b);
    second.resize(rows_a, rows_b);
    for (Index i = 0; i < rows_a; ++i)
      for (Index j = 0; j < rows_b; ++j)
        squared(i, j) =
            (ConstVectorMap(a + i * size, size) - ConstVectorMap(b + j * size, size)).squaredNorm();
    kernel.evaluate(squared, value, first, second);
  }
};

struct Rows {
  Index begin, count;
};

Rows rows_of(const FeatureSets& sets, Index structure, Index kind) {
  const std::int64_t* offsets = sets.kind_rows + structure * (sets.n_kinds + 1) + kind;
  return {offsets[0], offsets[1] - offsets[0]};
}

struct Workspace {
  PairTerms terms;
  Matrix weighted;  // (structures, rows_B D): sum_i -2 phi' d
};

ConstBlock jacobian_rows(const FeatureSets& sets, Index structure, Index row, Index n_rows) {
  const Index m = sets.directions(structure);
  const Index local = row - sets.first_row[structure];
  return {sets.jacobians + sets.first_jacobian[structure] + local * sets.size * m, n_rows * sets.size, m, m};
}

/// Rows of consecutive structures of A, gathered by kind, and what one structure of B leaves for them. Taking
/// several structures of A at a time reads each Jacobian of B once for all of them and makes the products
/// larger.
class CovarianceTile {
 public:
  CovarianceTile(const FeatureSets& A, const FeatureSets& B, const RadialKernel& kernel, const Blas& blas)
      : A_(A), B_(B), kernel_(kernel), blas_(blas) {}

  /// Gathers the rows of the structures [begin, end) of A.
  void gather(Index begin, Index end) {
    begin_ = begin;
    end_ = end;
    kinds_.resize(static_cast<std::size_t>(A_.n_kinds));
    for (Index s = 0; s < A_.n_kinds; ++s) {
      Kind& kind = kinds_[static_cast<std::size_t>(s)];
      kind.first.assign(1, 0);
      for (Index a = begin; a < end; ++a) kind.first.push_back(kind.first.back() + rows_of(A_, a, s).count);
      kind.features.resize(kind.first.back(), A_.size);
      for (Index a = begin; a < end; ++a) {
        const Rows rows = rows_of(A_, a, s);
        kind.features.middleRows(kind.first[static_cast<std::size_t>(a - begin)], rows.count) =
            ConstMatrixMap(A_.features + rows.begin * A_.size, rows.count, A_.size);
      }
    }
  }

  /// Writes the blocks of all gathered structures a (those with a >= b if `lower`) with structure b of B.
  void fill(Index b, bool lower, Block K) {
    const Index mb = B_.directions(b);
    const Index first_a = lower ? std::max(begin_, b) : begin_;
    energies_.setZero(end_ - begin_);
    to_b_.setZero(end_ - begin_, (B_.first_row[b + 1] - B_.first_row[b]) * B_.size);
    for (Index a = first_a; a < end_; ++a) map_block(K, a, b).setZero();
    for (Index s = 0; s < A_.n_kinds; ++s) {
      const Kind& kind = kinds_[static_cast<std::size_t>(s)];
      const Rows rb = rows_of(B_, b, s);
      if (kind.features.rows() == 0 || rb.count == 0) continue;
      terms_.fill(kind.features.data(), kind.features.rows(), B_.features + rb.begin * B_.size, rb.count,
                  A_.size, kernel_);
      project(kind, b, rb);
      contract(kind, b, rb);
      for (Index a = first_a; a < end_; ++a) add_gradients(kind, a, b, rows_of(A_, a, s), K);
    }
    energy_gradients_.resize(end_ - begin_, mb);
    multiply(blas_, 1.0, {to_b_.data(), to_b_.rows(), to_b_.cols(), to_b_.cols()},
             jacobian_rows(B_, b, B_.first_row[b], B_.first_row[b + 1] - B_.first_row[b]), 0.0,
             {energy_gradients_.data(), end_ - begin_, mb, mb});
    for (Index a = first_a; a < end_; ++a) {
      double* row = K.data + A_.first_observation[a] * K.stride + B_.first_observation[b];
      row[0] = energies_[a - begin_];
      VectorMap(row + 1, mb) = energy_gradients_.row(a - begin_).transpose();
    }
  }

 private:
  struct Kind {
    std::vector<Index> first;  // first gathered row of each structure
    Matrix features;
  };

  Eigen::Map<Matrix, 0, Eigen::OuterStride<>> map_block(Block K, Index a, Index b) const {
    return {K.data + A_.first_observation[a] * K.stride + B_.first_observation[b], A_.directions(a) + 1,
            B_.directions(b) + 1, Eigen::OuterStride<>(K.stride)};
  }

  /// along_: J'_i'^T d of every pair, i' by i'; and the sums of 2 phi' d over either side, which give the
  /// covariances of energies with gradients.
  void project(const Kind& kind, Index b, Rows rb) {
    const Index D = A_.size;
    const Index mb = B_.directions(b);
    const Index n = kind.features.rows();
    along_.resize(rb.count * n, mb);
    to_a_.setZero(n, D);
    for (Index j = 0; j < rb.count; ++j) {
      difference_ = kind.features.rowwise() - ConstMatrixMap(B_.features + (rb.begin + j) * D, 1, D).row(0);
      multiply(blas_, 1.0, {difference_.data(), n, D, D}, jacobian_rows(B_, b, rb.begin + j, 1), 0.0,
               {along_.data() + j * n * mb, n, mb, mb});
      difference_.array().colwise() *= 2.0 * terms_.first.col(j);
      to_a_ += difference_;
      for (Index a = begin_; a < end_; ++a) {
        const Index at = kind.first[static_cast<std::size_t>(a - begin_)];
        const Index count = kind.first[static_cast<std::size_t>(a - begin_) + 1] - at;
        to_b_.row(a - begin_).segment((rb.begin - B_.first_row[b] + j) * D, D) -=
            difference_.middleRows(at, count).colwise().sum();
        energies_[a - begin_] += terms_.value.col(j).segment(at, count).sum();
      }
    }
  }

  /// weighted_: sum_i' [ -2 phi' I - 4 phi'' d d^T ] J'_i' for every row i, (rows, D m_B).
  void contract(const Kind& kind, Index b, Rows rb) {
    const Index D = A_.size;
    const Index mb = B_.directions(b);
    const Index n = kind.features.rows();
    weighted_.resize(n, D * mb);
    multiply(blas_, -2.0, {terms_.first.data(), n, rb.count, rb.count},
             {jacobian_rows(B_, b, rb.begin, rb.count).data, rb.count, D * mb, D * mb}, 0.0,
             {weighted_.data(), n, D * mb, D * mb});
    const ConstMatrixMap others(B_.features + rb.begin * D, rb.count, D);
    for (Index i = 0; i < n; ++i) {
      difference_ = (others.rowwise() - kind.features.row(i)).array().colwise() *
                    (4.0 * terms_.second.row(i).transpose());  // -4 phi'' d
      multiply_tn(blas_, 1.0, {difference_.data(), rb.count, D, D},
                  {along_.data() + i * mb, rb.count, mb, n * mb}, 1.0,
                  {weighted_.data() + i * D * mb, D, mb, mb});
    }
  }

  /// Adds the part of one kind to cov(dE/dR_a, E_b) and cov(dE/dR_a, dE/dR_b).
  void add_gradients(const Kind& kind, Index a, Index b, Rows ra, Block K) {
    const Index D = A_.size;
    const Index mb = B_.directions(b);
    const Index at = kind.first[static_cast<std::size_t>(a - begin_)];
    if (ra.count == 0 || A_.directions(a) == 0) return;
    const ConstBlock J = jacobian_rows(A_, a, ra.begin, ra.count);
    Block target{K.data + (A_.first_observation[a] + 1) * K.stride + B_.first_observation[b],
                 A_.directions(a), 1, K.stride};
    multiply_tn(blas_, 1.0, J, {to_a_.data() + at * D, ra.count * D, 1, 1}, 1.0, target);
    target.data += 1;
    target.columns = mb;
    multiply_tn(blas_, 1.0, J, {weighted_.data() + at * D * mb, ra.count * D, mb, mb}, 1.0, target);
  }

  const FeatureSets& A_;
  const FeatureSets& B_;
  const RadialKernel& kernel_;
  const Blas& blas_;
  Index begin_ = 0;
  Index end_ = 0;
  std::vector<Kind> kinds_;
  PairTerms terms_;
  Matrix difference_, along_, to_a_, to_b_, weighted_, energy_gradients_;
  Vector energies_;
};

/// How many structures of A to take at a time: their part of one kind should stay within half a megabyte.
Index tile_structures(const FeatureSets& A, const FeatureSets& B) {
  Index rows = 1;
  Index directions = 1;
  for (Index a = 0; a < A.n_structures; ++a)
    for (Index s = 0; s < A.n_kinds; ++s) rows = std::max(rows, rows_of(A, a, s).count);
  for (Index b = 0; b < B.n_structures; ++b) directions = std::max(directions, B.directions(b));
  return std::clamp<Index>((1 << 16) / (rows * A.size * directions), 1, 8);
}

}  // namespace

void covariance(const FeatureSets& A, const FeatureSets& B, const RadialKernel& kernel, const Blas& blas,
                bool lower, int n_threads, Block K) {
  const Index tile = tile_structures(A, B);
  const Index n_tiles = chunk_count(A.n_structures, tile);
  std::vector<CovarianceTile> tiles(static_cast<std::size_t>(std::max(n_threads, 1)), {A, B, kernel, blas});
  parallel_for(n_tiles, n_threads, [&](Index item, int thread) {
    const Index begin = (n_tiles - 1 - item) * tile;  // the longest rows of a triangle first
    const Index end = std::min(A.n_structures, begin + tile);
    CovarianceTile& work = tiles[static_cast<std::size_t>(thread)];
    work.gather(begin, end);
    for (Index b = 0; b < (lower ? end : B.n_structures); ++b) work.fill(b, lower, K);
  });
}

void energy_covariance(const FeatureSets& A, const FeatureSets& B, const RadialKernel& kernel,
                       const Blas& blas, int n_threads, Block K) {
  const Index D = A.size;
  constexpr Index chunk = 64;
  const Index n_chunks = chunk_count(A.n_structures, chunk);
  std::vector<Workspace> work(static_cast<std::size_t>(std::max(n_threads, 1)));
  parallel_for(B.n_structures * n_chunks, n_threads, [&](Index item, int thread) {
    Workspace& w = work[static_cast<std::size_t>(thread)];
    const Index b = item / n_chunks;
    const Index begin = item % n_chunks * chunk;
    const Index count = std::min(chunk, A.n_structures - begin);
    const Index rows_b = B.first_row[b + 1] - B.first_row[b];
    const Index mb = B.directions(b);
    // sum_i -2 phi' d, one D-vector for each training row
    w.weighted.setZero(mb > 0 ? count : 0, rows_b * D);
    for (Index q = 0; q < count; ++q) {
      double energy = 0.0;
      for (Index s = 0; s < A.n_kinds; ++s) {
        const Rows ra = rows_of(A, begin + q, s);
        const Rows rb = rows_of(B, b, s);
        if (ra.count == 0 || rb.count == 0) continue;
        const ConstMatrixMap ga(A.features + ra.begin * D, ra.count, D);
        const ConstMatrixMap gb(B.features + rb.begin * D, rb.count, D);
        w.terms.fill(ga.data(), ra.count, gb.data(), rb.count, D, kernel);
        energy += w.terms.value.sum();
        if (mb == 0) continue;
        MatrixMap target(w.weighted.data() + q * rows_b * D + (rb.begin - B.first_row[b]) * D, rb.count, D);
        target.noalias() = -2.0 * (w.terms.first.matrix().transpose() * ga);
        const Vector total = w.terms.first.colwise().sum().transpose();
        target.noalias() += 2.0 * (total.asDiagonal() * gb);
      }
      K.data[(begin + q) * K.stride + B.first_observation[b]] = energy;
    }
    if (mb == 0) return;
    multiply(blas, 1.0, {w.weighted.data(), count, rows_b * D, rows_b * D},
             jacobian_rows(B, b, B.first_row[b], rows_b), 0.0,
             {K.data + begin * K.stride + B.first_observation[b] + 1, count, mb, K.stride});
  });
}

void energy_variance(const FeatureSets& A, const RadialKernel& kernel, double* variance) {
  PairTerms terms;
  for (Index a = 0; a < A.n_structures; ++a) {
    variance[a] = 0.0;
    for (Index s = 0; s < A.n_kinds; ++s) {
      const Rows r = rows_of(A, a, s);
      if (r.count == 0) continue;
      const double* g = A.features + r.begin * A.size;
      terms.fill(g, r.count, g, r.count, A.size, kernel);
      variance[a] += terms.value.sum();
    }
  }
}

void predict_rows(const FoldedRows& training, const double* features, const std::int64_t* first,
                  const RadialKernel& kernel, const Blas& blas, int n_threads, double* energies,
                  double* slopes) {
  constexpr Index chunk = 32;
  const Index D = training.size;
  struct Item {
    Index kind, begin, count;
  };
  std::vector<Item> items;
  for (Index s = 0; s < training.n_kinds; ++s)
    for (Index begin = first[s]; begin < first[s + 1]; begin += chunk)
      items.push_back({s, begin, std::min<Index>(chunk, first[s + 1] - begin)});
  const Index n_training = training.first[training.n_kinds];
  // Environments of a sparse model have none.
  const bool sloped = !ConstVectorMap(training.slope, n_training * D).isZero(0.0);
  Vector norm(n_training);    // |g_t|^2
  Vector offset(n_training);  // g_t . a_t
  for (Index t = 0; t < n_training; ++t) {
    norm[t] = ConstVectorMap(training.features + t * D, D).squaredNorm();
    offset[t] = ConstVectorMap(training.features + t * D, D).dot(ConstVectorMap(training.slope + t * D, D));
  }
  parallel_for(static_cast<Index>(items.size()), n_threads, [&](Index item, int) {
    const auto [kind, begin, count] = items[static_cast<std::size_t>(item)];
    const Index t0 = training.first[kind];
    const Index T = training.first[kind + 1] - t0;
    const ConstBlock G(features + begin * D, count, D, D);
    const ConstBlock Gt(training.features + t0 * D, T, D, D);
    const ConstBlock At(training.slope + t0 * D, T, D, D);
    VectorMap energy(energies + begin, count);
    MatrixMap slope(slopes + begin * D, count, D);
    energy.setZero();
    slope.setZero();
    if (T == 0) return;
    Array squared(count, T), along(count, T), value(count, T), d1(count, T), d2(count, T);
    // s = |g|^2 + |g_t|^2 - 2 g.g_t loses digits relative to s but not to l^2, on which phi depends.
    multiply_nt(blas, -2.0, G, Gt, 0.0, {squared.data(), count, T, T});
    along.setZero();
    if (sloped) multiply_nt(blas, 1.0, G, At, 0.0, {along.data(), count, T, T});
    const Vector query_norm = ConstMatrixMap(G.data, count, D).rowwise().squaredNorm();
    squared.colwise() += query_norm.array();
    squared.rowwise() += norm.segment(t0, T).array().transpose();
    squared = squared.max(0.0);
    along.rowwise() -= offset.segment(t0, T).array().transpose();
    kernel.evaluate(squared, value, d1, d2);
    const auto weight = ConstVectorMap(training.energy_weight + t0, T).array().transpose();
    energy = (value.rowwise() * weight - 2.0 * d1 * along).rowwise().sum().matrix();
    d2 = 2.0 * (d1.rowwise() * weight) - 4.0 * d2 * along;  // factor of d in the slope
    slope = ConstMatrixMap(G.data, count, D).array().colwise() * d2.rowwise().sum();
    multiply(blas, -1.0, {d2.data(), count, T, T}, Gt, 1.0, {slope.data(), count, D, D});
    if (sloped) multiply(blas, -2.0, {d1.data(), count, T, T}, At, 1.0, {slope.data(), count, D, D});
  });
}

}  // namespace gprann
