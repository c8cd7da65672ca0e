#include <optional>

#include "gprann/polynomial.hpp"
#include "owned.hpp"

namespace gprann::bindings {

namespace {

double* output_of(std::optional<MatrixOut>& out, Index rows, Index columns, const char* name) {
  if (!out) return nullptr;
  require_size(out->rows(), rows, name);
  require_size(out->cols(), columns, name);
  require_size(out->outerStride(), columns, name);
  return out->data();
}

void fill_polynomial_rows(const Polynomial& model, const Descriptor& descriptor, const OwnedNeighbours& batch,
                          const MatrixIn& features, const MatrixIn& inverse_scale, int n_threads,
                          MatrixOut energies, std::optional<MatrixOut> forces,
                          std::optional<MatrixOut> strains) {
  require_species(descriptor, batch);
  require_size(descriptor.size(), model.input_size(), "a descriptor");
  require_size(descriptor.n_species(), model.n_species(), "species of the descriptor");
  require_shape(features, batch.view.n_atoms, model.input_size(), "features");
  require_shape(inverse_scale, model.n_species(), model.input_size(), "inverse_scale");
  std::optional<MatrixOut> first(energies);
  const Index n = batch.view.n_structures, P = model.n_parameters();
  const PolynomialRows rows{output_of(first, n, P, "energies"),
                            output_of(forces, 3 * batch.view.n_atoms, P, "forces"),
                            output_of(strains, 6 * n, P, "strains")};
  const py::gil_scoped_release release;
  polynomial_rows(model, descriptor, batch.view, features.data(), inverse_scale.data(), n_threads, rows);
}

}  // namespace

void bind_polynomial(py::module_& module) {
  py::class_<Polynomial, AtomModel, std::shared_ptr<Polynomial>>(
      module, "Polynomial", "One polynomial in the components of the descriptor per species.")
      .def(py::init<Index, Index, Index>(), py::arg("input_size"), py::arg("degree"), py::arg("n_species"));
  module.def(
      "polynomial_rows", &fill_polynomial_rows, py::arg("model"), py::arg("descriptor"),
      py::arg("neighbours"), py::arg("features").noconvert(), py::arg("inverse_scale").noconvert(),
      py::arg("n_threads"), py::arg("energies").noconvert(), py::arg("forces").noconvert(),
      py::arg("strains").noconvert(),
      "Fills derivatives by the parameters: of energies (n, P), forces (3 n_atoms, P) and dE/d(strain) "
      "(6 n, P); the last two may be None.");
}

}  // namespace gprann::bindings
