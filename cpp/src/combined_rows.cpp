#include "gprann/combined_loss.hpp"
#include "gprann/parallel.hpp"
#include "huber.hpp"
#include "voigt.hpp"

namespace gprann {

/// What the rows of one structure need of the atoms of one species.
struct CombinedLoss::RowsOfSpecies {
  Matrix tangents;                   // (directions n_t, D): dg/d(coordinate), direction by direction
  std::vector<Mlp::Array> zdot, zb;  // of each hidden layer, (directions n_t, width)
  Mlp::Pass pass;
};

/// Workspace for the rows of one structure.
struct CombinedLoss::Rows {
  std::vector<Index> directions;  // that count: 3 i + d, then 3 N + v
  std::vector<RowsOfSpecies> species;
  std::vector<double*> targets;
  std::vector<Index> strides;
  std::unique_ptr<Descriptor::Surroundings> surroundings;
  Matrix rest, strained;
  Vector derivative;  // of the energy along each direction
};

namespace {

/// a (K n, width) *= factor (n, width), for each of the K directions.
void scale_directions(Mlp::Array& a, const Mlp::Array& factor) {
  for (Index begin = 0; begin < a.rows(); begin += factor.rows())
    a.middleRows(begin, factor.rows()) *= factor;
}

/// Tangents of z of all hidden layers for every direction, and what the reverse pass makes of them.
void second_pass(const Mlp& mlp, const double* w, ConstMatrixMap tangents, const Mlp::Pass& pass,
                 std::vector<Mlp::Array>& zdot, std::vector<Mlp::Array>& zb) {
  const auto hidden = static_cast<std::size_t>(mlp.layers() - 1);
  zdot.resize(hidden);
  zb.resize(hidden);
  for (std::size_t l = 0; l < hidden; ++l) {
    const auto layer = static_cast<Index>(l);
    const ConstMatrixMap W(w + mlp.weight_at(layer), mlp.width(layer + 1), mlp.width(layer));
    zdot[l].resize(tangents.rows(), W.rows());
    if (l == 0) {
      zdot[l].matrix().noalias() = tangents * W.transpose();
      continue;
    }
    zb[l - 1] = zdot[l - 1];
    scale_directions(zb[l - 1], pass.slope[l - 1]);
    zdot[l].matrix().noalias() = zb[l - 1].matrix() * W.transpose();
  }
  for (std::size_t l = hidden; l-- > 0;) {
    Mlp::Array& z = zb[l];
    if (l + 1 == hidden) {
      z.setZero(tangents.rows(), mlp.width(static_cast<Index>(l) + 1));
    } else {
      const auto above = static_cast<Index>(l) + 1;
      const ConstMatrixMap W(w + mlp.weight_at(above), mlp.width(above + 1), mlp.width(above));
      z.matrix().noalias() = zb[l + 1].matrix() * W;
      scale_directions(z, pass.slope[l]);
    }
    const Mlp::Array bend = pass.curvature[l] * pass.adjoint[l];
    for (Index begin = 0; begin < z.rows(); begin += bend.rows())
      z.middleRows(begin, bend.rows()) += zdot[l].middleRows(begin, bend.rows()) * bend;
    scale_directions(zdot[l], pass.slope[l]);  // now the tangents of a
  }
}

}  // namespace

Index CombinedLoss::count_rows(const Labels& labels, Index s) const {
  auto counts = [](double weight) { return weight > 0.0; };
  return (labels.energy_weights[s] > 0.0 ? 1 : 0) +
         std::count_if(labels.force_weights + 3 * neighbours_.first_atom[s],
                       labels.force_weights + 3 * neighbours_.first_atom[s + 1], counts) +
         std::count_if(labels.virial_weights + 6 * s, labels.virial_weights + 6 * (s + 1), counts);
}

void CombinedLoss::tangent_features(Index s, bool virial, Rows& rows) const {
  const Index first = neighbours_.first_atom[s];
  const Index n = neighbours_.first_atom[s + 1] - first;
  const Index D = atoms_.size;
  rows.targets.resize(static_cast<std::size_t>(n));
  rows.strides.resize(static_cast<std::size_t>(n));
  for (Index t = 0; t < network_.n_species(); ++t) {
    RowsOfSpecies& own = rows.species[static_cast<std::size_t>(t)];
    const Index begin = atoms_.begin(t, s);
    const Index n_t = atoms_.begin(t, s + 1) - begin;
    own.tangents.setZero((3 * n + 6) * n_t, D);
    for (Index a = 0; a < n_t; ++a) {
      const auto atom = static_cast<std::size_t>(order_[begin + a] - first);
      rows.targets[atom] = own.tangents.data() + a * D;
      rows.strides[atom] = n_t * D;
    }
  }
  descriptor_.jacobian_rows(neighbours_, s, rows.targets.data(), rows.strides.data());
  if (!virial) return;
  if (rows.surroundings == nullptr) rows.surroundings = descriptor_.make_surroundings();
  descriptor_.survey(neighbours_, s, *rows.surroundings);
  rows.rest.setZero(n, 3);
  rows.strained.resize(n, D);
  for (int v = 0; v < 6; ++v) {
    Eigen::Matrix<double, 9, 1> strain = Eigen::Matrix<double, 9, 1>::Zero();
    strain[voigt_first[v]] += 0.5;
    strain[voigt_second[v]] += 0.5;
    descriptor_.jvp(neighbours_, *rows.surroundings, rows.rest.data(), strain.data(), rows.strained.data());
    for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i)
      VectorMap(rows.targets[i] + (3 * n + v) * rows.strides[i], D) =
          rows.strained.row(static_cast<Index>(i)).transpose();
  }
}

void CombinedLoss::fill_rows(const double* parameters, const Labels& labels, Index s, Rows& rows, double* J,
                             double* r, LossParts& loss) const {
  const Mlp& mlp = network_.mlp();
  const Index P = network_.n_parameters();
  const Index D = atoms_.size;
  const Index first = neighbours_.first_atom[s];
  const Index n = neighbours_.first_atom[s + 1] - first;
  rows.species.resize(static_cast<std::size_t>(network_.n_species()));
  rows.directions.clear();
  for (Index c = 0; c < 3 * n; ++c)
    if (labels.force_weights[3 * first + c] > 0.0) rows.directions.push_back(c);
  const auto n_forces = rows.directions.size();
  for (Index v = 0; v < 6; ++v)
    if (labels.virial_weights[6 * s + v] > 0.0) rows.directions.push_back(3 * n + v);
  const auto K = static_cast<Index>(rows.directions.size());
  const Index energy_rows = labels.energy_weights[s] > 0.0 ? 1 : 0;
  if (K > 0) tangent_features(s, rows.directions.size() > n_forces, rows);
  std::fill_n(J, (energy_rows + K) * P, 0.0);
  rows.derivative.setZero(K);
  double energy = 0.0;
  for (Index t = 0; t < network_.n_species(); ++t) {
    RowsOfSpecies& own = rows.species[static_cast<std::size_t>(t)];
    const Index n_t = atoms_.begin(t, s + 1) - atoms_.begin(t, s);
    if (n_t == 0) continue;
    const ConstMatrixMap features(atoms_.features + atoms_.begin(t, s) * D, n_t, D);
    const double* w = parameters + t * mlp.n_parameters();
    mlp.forward(w, features, own.pass, K > 0);
    mlp.backward(w, own.pass, K > 0);
    energy += own.pass.energy.sum();
    if (energy_rows > 0) {
      const Vector ones = Vector::Ones(n_t);
      mlp.add_gradient(features, ones.data(), own.pass, J + t * mlp.n_parameters());
    }
    if (K == 0) continue;
    const ConstVectorMap scale(inverse_scale_ + t * D, D);
    for (Index u = 0; u < K; ++u)  // directions that do not count make way, and the rest is standardised
      own.tangents.middleRows(u * n_t, n_t) =
          (own.tangents.middleRows(rows.directions[static_cast<std::size_t>(u)] * n_t, n_t)
               .array()
               .rowwise() *
           scale.transpose().array())
              .matrix();
    second_pass(mlp, w, {own.tangents.data(), K * n_t, D}, own.pass, own.zdot, own.zb);
    for (Index u = 0; u < K; ++u) {
      rows.derivative[u] += own.tangents.middleRows(u * n_t, n_t).cwiseProduct(own.pass.input.matrix()).sum();
      add_row(own, u, features, J + (energy_rows + u) * P + t * mlp.n_parameters());
    }
  }
  weigh_rows(labels, s, energy, rows, J, r, loss);
}

void CombinedLoss::add_row(const RowsOfSpecies& own, Index u, ConstMatrixMap features, double* row) const {
  const Mlp& mlp = network_.mlp();
  const Index n = features.rows();
  for (Index layer = 0; layer < mlp.layers(); ++layer) {
    const auto l = static_cast<std::size_t>(layer);
    const Index in = mlp.width(layer);
    const Index out = mlp.width(layer + 1);
    const double* a = layer == 0 ? features.data() : own.pass.value[l - 1].data();
    const double* adot = (layer == 0 ? own.tangents.data() : own.zdot[l - 1].data()) + u * n * in;
    add_outer_products(own.pass.backward[l].data(), out, adot, in, n, row + mlp.weight_at(layer));
    if (layer + 1 == mlp.layers()) return;  // the output is linear
    const double* zb = own.zb[l].data() + u * n * out;
    add_outer_products(zb, out, a, in, n, row + mlp.weight_at(layer));
    VectorMap(row + mlp.bias_at(layer), out) += ConstMatrixMap(zb, n, out).colwise().sum().transpose();
  }
}

void CombinedLoss::weigh_rows(const Labels& labels, Index s, double energy, const Rows& rows, double* J,
                              double* r, LossParts& loss) const {
  const Index P = network_.n_parameters();
  const Index first = 3 * neighbours_.first_atom[s];
  const Index n_coordinates = 3 * neighbours_.first_atom[s + 1] - first;
  auto weigh = [&](Index row, double residual, double weight, double threshold, double sign, double& part) {
    const Huber huber(residual, threshold);
    const double root = std::sqrt(weight * huber.weight);
    part += weight * huber.value;
    r[row] = root * residual;
    VectorMap(J + row * P, P) *= sign * root;
  };
  Index row = 0;
  if (labels.energy_weights[s] > 0.0)
    weigh(row++, energy - labels.energies[s], labels.energy_weights[s], labels.energy_threshold, 1.0,
          loss.energy);
  for (std::size_t u = 0; u < rows.directions.size(); ++u, ++row) {
    const Index c = rows.directions[u];
    const double derivative = rows.derivative[static_cast<Index>(u)];
    if (c < n_coordinates) {
      weigh(row, -derivative - labels.forces[first + c], labels.force_weights[first + c],
            labels.force_threshold, -1.0, loss.force);
    } else {
      const Index v = 6 * s + c - n_coordinates;
      weigh(row, derivative - labels.virials[v], labels.virial_weights[v], labels.virial_threshold, 1.0,
            loss.virial);
    }
  }
}

LossParts CombinedLoss::rows(const double* parameters, const Labels& labels, const std::int64_t* batch,
                             Index batch_size, int n_threads, double* J, double* r) const {
  std::vector<Rows> works(static_cast<std::size_t>(std::max(n_threads, 1)));
  return fill_rows_of(parameters, labels, batch, batch_size, n_threads, works, J, r);
}

Index CombinedLoss::row_count(const Labels& labels, const std::int64_t* batch, Index batch_size) const {
  Index count = 0;
  for (Index k = 0; k < batch_size; ++k) count += count_rows(labels, batch[k]);
  return count;
}

LossParts CombinedLoss::fill_rows_of(const double* parameters, const Labels& labels,
                                     const std::int64_t* batch, Index batch_size, int n_threads,
                                     std::vector<Rows>& works, double* J, double* r) const {
  constexpr Index few = 1 << 16;  // numbers of J that are there before another thread has begun
  const Index P = network_.n_parameters();
  std::vector<Index> offsets{0};
  for (Index k = 0; k < batch_size; ++k) offsets.push_back(offsets.back() + count_rows(labels, batch[k]));
  std::vector<LossParts> parts(static_cast<std::size_t>(batch_size));
  parallel_for(batch_size, offsets.back() * P < few ? 1 : n_threads, [&](Index item, int thread) {
    const Index at = offsets[static_cast<std::size_t>(item)];
    fill_rows(parameters, labels, batch[item], works[static_cast<std::size_t>(thread)], J + at * P, r + at,
              parts[static_cast<std::size_t>(item)]);
  });
  LossParts total;
  for (const LossParts& part : parts) total += part;
  return total;
}

LossParts CombinedLoss::normal_equations(const double* parameters, const Labels& labels,
                                         const std::int64_t* batch, Index batch_size, const Blas& blas,
                                         int n_threads, double* H, double* b) const {
  constexpr Index panel = 512;  // rows of J at a time, or those of one structure if it has more
  const Index P = network_.n_parameters();
  MatrixMap(H, P, P).setZero();
  VectorMap gradient(b, P);
  gradient.setZero();
  std::vector<Rows> works(static_cast<std::size_t>(std::max(n_threads, 1)));
  Matrix J;
  Vector r;
  LossParts total;
  for (Index begin = 0; begin < batch_size;) {
    Index count = 0;
    Index end = begin;
    while (end < batch_size) {
      const Index own = count_rows(labels, batch[end]);
      if (end > begin && count + own > panel) break;
      count += own;
      ++end;
    }
    if (J.rows() < count) J.resize(count, P);
    if (r.size() < count) r.resize(count);
    total +=
        fill_rows_of(parameters, labels, batch + begin, end - begin, n_threads, works, J.data(), r.data());
    gradient.noalias() += J.topRows(count).transpose() * r.head(count);
    add_normal_rows(blas, J.data(), count, P, n_threads, H);
    begin = end;
  }
  return total;
}

}  // namespace gprann
