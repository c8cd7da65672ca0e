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
            const SquaredExponential& kernel) {
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

Index pairs_of(const FeatureSets& A, Index a, const FeatureSets& B, Index b) {
  Index n = 0;
  for (Index s = 0; s < A.n_kinds; ++s) n += rows_of(A, a, s).count * rows_of(B, b, s).count;
  return n;
}

struct Workspace {
  PairTerms terms;
  Vector first, second;  // phi', phi'' of all pairs of rows
  Matrix along_a;        // (pairs, m_A): J_i^T d
  Matrix along_b;        // (pairs, m_B): J'_i'^T d
  Matrix weighted;       // (rows_A D, m_B): sum_i' -2 phi' J'_i'
};

ConstBlock jacobian_rows(const FeatureSets& sets, Index structure, Index row, Index n_rows) {
  const Index m = sets.directions(structure);
  const Index local = row - sets.first_row[structure];
  return {sets.jacobians + sets.first_jacobian[structure] + local * sets.size * m, n_rows * sets.size, m, m};
}

/// Fills along_a and along_b for one kind, pairs from `pair` on: J^T (g_i - g_i') as a difference of two
/// products.
void directional_slopes(const FeatureSets& A, Index a, Rows ra, const FeatureSets& B, Index b, Rows rb,
                        const Blas& blas, Index pair, Workspace& work) {
  const Index D = A.size;
  const Index ma = A.directions(a);
  const Index mb = B.directions(b);
  Matrix difference;
  for (Index i = 0; i < ra.count; ++i) {
    difference = ConstMatrixMap(A.features + (ra.begin + i) * D, 1, D).replicate(rb.count, 1) -
                 ConstMatrixMap(B.features + rb.begin * D, rb.count, D);
    multiply(blas, 1.0, {difference.data(), rb.count, D, D}, jacobian_rows(A, a, ra.begin + i, 1), 0.0,
             {work.along_a.data() + (pair + i * rb.count) * ma, rb.count, ma, ma});
  }
  for (Index j = 0; j < rb.count; ++j) {
    difference = ConstMatrixMap(A.features + ra.begin * D, ra.count, D) -
                 ConstMatrixMap(B.features + (rb.begin + j) * D, 1, D).replicate(ra.count, 1);
    multiply(blas, 1.0, {difference.data(), ra.count, D, D}, jacobian_rows(B, b, rb.begin + j, 1), 0.0,
             {work.along_b.data() + (pair + j) * mb, ra.count, mb, rb.count * mb});
  }
}

void covariance_block(const FeatureSets& A, Index a, const FeatureSets& B, Index b,
                      const SquaredExponential& kernel, const Blas& blas, Workspace& work, Block K) {
  const Index D = A.size;
  const Index ma = A.directions(a);
  const Index mb = B.directions(b);
  const Index n_pairs = pairs_of(A, a, B, b);
  work.first.resize(n_pairs);
  work.second.resize(n_pairs);
  work.along_a.resize(n_pairs, ma);
  work.along_b.resize(n_pairs, mb);
  work.weighted.resize((A.first_row[a + 1] - A.first_row[a]) * D, mb);
  Index pair = 0;
  double energy = 0.0;
  for (Index s = 0; s < A.n_kinds; ++s) {
    const Rows ra = rows_of(A, a, s);
    const Rows rb = rows_of(B, b, s);
    double* weighted = work.weighted.data() + (ra.begin - A.first_row[a]) * D * mb;
    if (rb.count == 0) std::fill_n(weighted, ra.count * D * mb, 0.0);
    if (ra.count == 0 || rb.count == 0) continue;
    work.terms.fill(A.features + ra.begin * D, ra.count, B.features + rb.begin * D, rb.count, D, kernel);
    energy += work.terms.value.sum();
    MatrixMap(work.first.data() + pair, ra.count, rb.count) = work.terms.first;
    MatrixMap(work.second.data() + pair, ra.count, rb.count) = work.terms.second;
    directional_slopes(A, a, ra, B, b, rb, blas, pair, work);
    const ConstBlock J = jacobian_rows(B, b, rb.begin, rb.count);
    multiply(blas, -2.0, {work.terms.first.data(), ra.count, rb.count, rb.count},
             {J.data, rb.count, D * mb, D * mb}, 0.0, {weighted, ra.count, D * mb, D * mb});
    pair += ra.count * rb.count;
  }
  K.data[0] = energy;
  VectorMap(K.data + 1, mb).noalias() = -2.0 * (work.along_b.transpose() * work.first);
  Eigen::Map<Vector, 0, Eigen::InnerStride<>>(K.data + K.stride, ma, Eigen::InnerStride<>(K.stride))
      .noalias() = 2.0 * (work.along_a.transpose() * work.first);
  const Block gradients{K.data + K.stride + 1, ma, mb, K.stride};
  multiply_tn(blas, 1.0, jacobian_rows(A, a, A.first_row[a], A.first_row[a + 1] - A.first_row[a]),
              {work.weighted.data(), work.weighted.rows(), mb, mb}, 0.0, gradients);
  work.along_b.array().colwise() *= work.second.array();
  multiply_tn(blas, -4.0, {work.along_a.data(), n_pairs, ma, ma}, {work.along_b.data(), n_pairs, mb, mb}, 1.0,
              gradients);
}

}  // namespace

void covariance(const FeatureSets& A, const FeatureSets& B, const SquaredExponential& kernel,
                const Blas& blas, bool lower, int n_threads, Block K) {
  std::vector<Workspace> work(static_cast<std::size_t>(std::max(n_threads, 1)));
  parallel_for(A.n_structures, n_threads, [&](Index item, int thread) {
    const Index a = A.n_structures - 1 - item;  // the longest rows of a triangle first
    for (Index b = 0; b < (lower ? a + 1 : B.n_structures); ++b) {
      const Block block{K.data + A.first_observation[a] * K.stride + B.first_observation[b],
                        A.directions(a) + 1, B.directions(b) + 1, K.stride};
      covariance_block(A, a, B, b, kernel, blas, work[static_cast<std::size_t>(thread)], block);
    }
  });
}

void energy_covariance(const FeatureSets& A, const FeatureSets& B, const SquaredExponential& kernel,
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
    w.weighted.setZero(count, rows_b * D);  // sum_i -2 phi' d, one D-vector for each training row
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
        MatrixMap target(w.weighted.data() + q * rows_b * D + (rb.begin - B.first_row[b]) * D, rb.count, D);
        target.noalias() = -2.0 * (w.terms.first.matrix().transpose() * ga);
        const Vector total = w.terms.first.colwise().sum().transpose();
        target.noalias() += 2.0 * (total.asDiagonal() * gb);
      }
      K.data[(begin + q) * K.stride + B.first_observation[b]] = energy;
    }
    multiply(blas, 1.0, {w.weighted.data(), count, rows_b * D, rows_b * D},
             jacobian_rows(B, b, B.first_row[b], rows_b), 0.0,
             {K.data + begin * K.stride + B.first_observation[b] + 1, count, mb, K.stride});
  });
}

void energy_variance(const FeatureSets& A, const SquaredExponential& kernel, double* variance) {
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
                  const SquaredExponential& kernel, const Blas& blas, int n_threads, double* energies,
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
    multiply_nt(blas, 1.0, G, At, 0.0, {along.data(), count, T, T});
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
    multiply(blas, -2.0, {d1.data(), count, T, T}, At, 1.0, {slope.data(), count, D, D});
  });
}

}  // namespace gprann
