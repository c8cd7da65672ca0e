#include "gprann/covariance.hpp"

#include <algorithm>

#include "gprann/covariance_product.hpp"
#include "gprann/parallel.hpp"
#include "pybind.hpp"

namespace gprann::bindings {

namespace {

/// Feature sets that keep the arrays behind their views alive.
struct OwnedFeatureSets {
  Int64s kind_rows;
  Doubles features;
  Doubles jacobians;
  Int64s directions;
  std::vector<std::int64_t> first_row, first_jacobian, first_observation;
  FeatureSets view;

  OwnedFeatureSets(Int64s kind_rows_, Doubles features_, Doubles jacobians_, Int64s directions_)
      : kind_rows(std::move(kind_rows_)),
        features(std::move(features_)),
        jacobians(std::move(jacobians_)),
        directions(std::move(directions_)) {
    if (kind_rows.ndim() != 2 || features.ndim() != 2)
      throw std::invalid_argument("kind_rows and features must have two dimensions");
    const Index n = kind_rows.shape(0);
    const Index kinds = kind_rows.shape(1) - 1;
    const Index size = features.shape(1);
    require_size(directions.size(), n, "directions");
    first_row.assign(1, 0);
    first_jacobian.assign(1, 0);
    first_observation.assign(1, 0);
    for (Index a = 0; a < n; ++a) {
      const std::int64_t last = kind_rows.at(a, kinds);
      if (directions.data()[a] < 0) throw std::invalid_argument("directions must not be negative");
      require_offsets(kind_rows, a * (kinds + 1), kinds, first_row.back(), last, "kind_rows");
      first_jacobian.push_back(first_jacobian.back() +
                               (last - first_row.back()) * size * directions.data()[a]);
      first_observation.push_back(first_observation.back() + 1 + directions.data()[a]);
      first_row.push_back(last);
    }
    require_size(features.shape(0), first_row.back(), "features");
    if (jacobians.size() > 0) require_size(jacobians.size(), first_jacobian.back(), "jacobians");
    view = {n,
            kinds,
            size,
            first_row.data(),
            kind_rows.data(),
            features.data(),
            first_jacobian.data(),
            jacobians.data(),
            first_observation.data()};
  }
  OwnedFeatureSets(const OwnedFeatureSets&) = delete;

  Index observations() const { return first_observation.back(); }
};

/// Weights of the energies, for each structure, and those of the gradients times the Jacobians, (rows, D).
std::pair<Vector, Matrix> fold(const OwnedFeatureSets& self, const VectorIn& weights, int n_threads) {
  require_size(weights.size(), self.observations(), "weights");
  if (self.observations() > self.view.n_structures)
    require_size(self.jacobians.size(), self.first_jacobian.back(), "jacobians");
  Vector energies(self.view.n_structures);
  Matrix slopes(self.first_row.back(), self.view.size);
  parallel_for(self.view.n_structures, n_threads, [&](Index a, int) {
    const auto at = static_cast<std::size_t>(a);
    const Index rows = (self.first_row[at + 1] - self.first_row[at]) * self.view.size;
    const Index m = self.view.directions(a);
    energies[a] = weights[self.first_observation[at]];
    VectorMap own(slopes.data() + self.first_row[at] * self.view.size, rows);
    if (m == 0) {
      own.setZero();
      return;
    }
    const ConstMatrixMap J(self.view.jacobians + self.first_jacobian[at], rows, m);
    own.noalias() = J * weights.segment(self.first_observation[at] + 1, m);
  });
  return {std::move(energies), std::move(slopes)};
}

void require_matching(const OwnedFeatureSets& A, const OwnedFeatureSets& B) {
  if (A.view.size != B.view.size || A.view.n_kinds != B.view.n_kinds)
    throw std::invalid_argument("the two sets of features differ in size or kinds");
}

void require_jacobians(const OwnedFeatureSets& sets) {
  require_size(sets.jacobians.size(), sets.first_jacobian.back(), "jacobians");
}

Block block_of(MatrixOut K, Index rows, Index columns) {
  require_size(K.rows(), rows, "first dimension of K");
  require_size(K.cols(), columns, "second dimension of K");
  return {K.data(), K.rows(), K.cols(), K.outerStride()};
}

void fill_covariance(const OwnedFeatureSets& A, const OwnedFeatureSets& B, const RadialKernel& kernel,
                     const Blas& blas, bool lower, int n_threads, MatrixOut K) {
  require_matching(A, B);
  require_jacobians(A);
  require_jacobians(B);
  if (lower) require_size(B.view.n_structures, A.view.n_structures, "B of a lower triangle");
  covariance(A.view, B.view, kernel, blas, lower, n_threads, block_of(K, A.observations(), B.observations()));
}

void fill_energy_covariance(const OwnedFeatureSets& A, const OwnedFeatureSets& B, const RadialKernel& kernel,
                            const Blas& blas, int n_threads, MatrixOut K) {
  require_matching(A, B);
  require_jacobians(B);
  energy_covariance(A.view, B.view, kernel, blas, n_threads,
                    block_of(K, A.view.n_structures, B.observations()));
}

Vector prior_energy_variance(const OwnedFeatureSets& A, const RadialKernel& kernel) {
  Vector variance(A.view.n_structures);
  energy_variance(A.view, kernel, variance.data());
  return variance;
}

std::pair<Vector, Matrix> predict(const Int64s& first, const MatrixIn& features,
                                  const VectorIn& energy_weight, const MatrixIn& slope,
                                  const Int64s& query_first, const MatrixIn& query,
                                  const RadialKernel& kernel, const Blas& blas, int n_threads) {
  const Index kinds = first.size() - 1;
  require_size(query_first.size(), kinds + 1, "query_first");
  require_offsets(first, 0, kinds, 0, features.rows(), "first");
  require_offsets(query_first, 0, kinds, 0, query.rows(), "query_first");
  require_size(energy_weight.size(), features.rows(), "energy_weight");
  require_shape(slope, features.rows(), features.cols(), "slope");
  require_shape(query, query.rows(), features.cols(), "query");
  Vector energies(query.rows());
  Matrix slopes(query.rows(), query.cols());
  predict_rows({kinds, features.cols(), first.data(), features.data(), energy_weight.data(), slope.data()},
               query.data(), query_first.data(), kernel, blas, n_threads, energies.data(), slopes.data());
  return {std::move(energies), std::move(slopes)};
}

std::pair<Vector, Matrix> product(const Int64s& first, const MatrixIn& features,
                                  const VectorIn& energy_weight, const MatrixIn& slope,
                                  const RadialKernel& kernel, const Blas& blas, int n_threads) {
  const Index kinds = first.size() - 1;
  require_offsets(first, 0, kinds, 0, features.rows(), "first");
  require_size(energy_weight.size(), features.rows(), "energy_weight");
  require_shape(slope, features.rows(), features.cols(), "slope");
  Vector energies(features.rows());
  Matrix slopes(features.rows(), features.cols());
  covariance_product(
      {kinds, features.cols(), first.data(), features.data(), energy_weight.data(), slope.data()}, kernel,
      blas, n_threads, energies.data(), slopes.data());
  return {std::move(energies), std::move(slopes)};
}

}  // namespace

void bind_covariance(py::module_& module) {
  py::class_<RadialKernel>(module, "RadialKernel", "Kernel as a function of s = |g - g'|^2.")
      .def_readonly("length", &RadialKernel::length);
  py::class_<SquaredExponential, RadialKernel>(module, "SquaredExponential", "exp(-s / (2 l^2)) + constant.")
      .def(py::init<double, bool, double>(), py::arg("length"), py::arg("log_length_derivative") = false,
           py::arg("constant") = 0.0);
  py::class_<Matern52, RadialKernel>(module, "Matern52",
                                     "(1 + u + u^2 / 3) exp(-u) + constant with u = sqrt(5 s) / l.")
      .def(py::init<double, bool, double>(), py::arg("length"), py::arg("log_length_derivative") = false,
           py::arg("constant") = 0.0);
  py::class_<OwnedFeatureSets>(module, "FeatureSets", "Structures as sets of feature vectors.")
      .def(py::init<Int64s, Doubles, Doubles, Int64s>(), py::arg("kind_rows").noconvert(),
           py::arg("features").noconvert(), py::arg("jacobians").noconvert(),
           py::arg("directions").noconvert())
      .def_property_readonly("observations", &OwnedFeatureSets::observations)
      .def_readonly("kind_rows", &OwnedFeatureSets::kind_rows)
      .def_readonly("features", &OwnedFeatureSets::features)
      .def("fold", &fold, py::arg("weights").noconvert(), py::arg("n_threads"), ReleaseGil(),
           "Weights of observations as those of energies (n) and of features (rows, D).");
  module.def("covariance", &fill_covariance, py::arg("A"), py::arg("B"), py::arg("kernel"), py::arg("blas"),
             py::arg("lower"), py::arg("n_threads"), py::arg("K").noconvert(), ReleaseGil(),
             "Fills K (observations of A, observations of B).");
  module.def("energy_covariance", &fill_energy_covariance, py::arg("A"), py::arg("B"), py::arg("kernel"),
             py::arg("blas"), py::arg("n_threads"), py::arg("K").noconvert(), ReleaseGil(),
             "Fills K (n_A, observations of B) with the rows of the energies.");
  module.def("energy_variance", &prior_energy_variance, py::arg("A"), py::arg("kernel"), ReleaseGil(),
             "Prior variances of the energies (n_A).");
  module.def("predict_rows", &predict, py::arg("first").noconvert(), py::arg("features").noconvert(),
             py::arg("energy_weight").noconvert(), py::arg("slope").noconvert(),
             py::arg("query_first").noconvert(), py::arg("query").noconvert(), py::arg("kernel"),
             py::arg("blas"), py::arg("n_threads"), ReleaseGil(),
             "Energies (rows) and slopes (rows, D) of query rows.");
  module.def("covariance_product", &product, py::arg("first").noconvert(), py::arg("features").noconvert(),
             py::arg("energy_weight").noconvert(), py::arg("slope").noconvert(), py::arg("kernel"),
             py::arg("blas"), py::arg("n_threads"), ReleaseGil(),
             "Energies (rows) and slopes (rows, D) of the rows themselves.");
}

}  // namespace gprann::bindings
