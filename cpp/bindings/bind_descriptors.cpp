#include "gprann/chebyshev.hpp"
#include "gprann/pair_distances.hpp"
#include "gprann/parallel.hpp"
#include "owned.hpp"

namespace gprann::bindings {

namespace {

Matrix values(const ChebyshevDescriptor& self, const OwnedNeighbours& batch, int n_threads) {
  require_species(self, batch);
  Matrix G(batch.view.n_atoms, self.size());
  self.values(batch.view, n_threads, G.data());
  return G;
}

Matrix jvp(const ChebyshevDescriptor& self, const OwnedNeighbours& batch, const MatrixIn& direction,
           int n_threads) {
  require_species(self, batch);
  require_shape(direction, batch.view.n_atoms, 3, "direction");
  Matrix tangent(batch.view.n_atoms, self.size());
  self.jvp(batch.view, direction.data(), n_threads, tangent.data());
  return tangent;
}

std::pair<Matrix, Matrix> vjp(const ChebyshevDescriptor& self, const OwnedNeighbours& batch,
                              const MatrixIn& cotangent, int n_threads) {
  require_species(self, batch);
  require_shape(cotangent, batch.view.n_atoms, self.size(), "cotangent");
  Matrix gradient(batch.view.n_atoms, 3);
  Matrix virial(batch.view.n_structures, 9);
  self.vjp(batch.view, cotangent.data(), n_threads, gradient.data(), virial.data());
  return {std::move(gradient), std::move(virial)};
}

Index atoms_of(const Neighbours& batch, Index s) {
  if (s < 0 || s >= batch.n_structures) throw std::invalid_argument("structure index out of range");
  return batch.first_atom[s + 1] - batch.first_atom[s];
}

Matrix chebyshev_jacobian(const ChebyshevDescriptor& self, const OwnedNeighbours& batch, Index s) {
  require_species(self, batch);
  const Index n = atoms_of(batch.view, s);
  Matrix J(n * self.size(), 3 * n);
  self.jacobian(batch.view, s, J.data());
  return J;
}

std::pair<Vector, Matrix> pair_distances(const OwnedNeighbours& batch, Index s, double exponent,
                                         double cutoff) {
  const Index n = atoms_of(batch.view, s);
  Vector values(n * (n - 1) / 2);
  Matrix jacobian(values.size(), 3 * n);
  PairDistances{exponent, cutoff}.evaluate(batch.view, s, values.data(), jacobian.data());
  return {std::move(values), std::move(jacobian)};
}

}  // namespace

void bind_descriptors(py::module_& module) {
  py::class_<OwnedNeighbours>(module, "Neighbours", "Neighbour lists of a batch of structures.")
      .def(py::init<Int64s, Int64s, Int32s, Doubles, Int32s>(), py::arg("first_atom").noconvert(),
           py::arg("first_pair").noconvert(), py::arg("neighbour").noconvert(),
           py::arg("vectors").noconvert(), py::arg("species").noconvert());
  py::class_<ChebyshevDescriptor>(module, "ChebyshevDescriptor",
                                  "Chebyshev descriptor, PRB 96, 014112 (2017).")
      .def(py::init<int, double, int, double, const Matrix&>(), py::arg("radial_order"),
           py::arg("radial_cutoff"), py::arg("angular_order"), py::arg("angular_cutoff"), py::arg("weights"))
      .def_property_readonly("size", &ChebyshevDescriptor::size)
      .def_property_readonly("cutoff", &ChebyshevDescriptor::cutoff)
      .def("values", &values, py::arg("neighbours"), py::arg("n_threads"), ReleaseGil(), "G (n_atoms, D).")
      .def("jvp", &jvp, py::arg("neighbours"), py::arg("direction").noconvert(), py::arg("n_threads"),
           ReleaseGil(), "dG/dR . direction (n_atoms, D).")
      .def("vjp", &vjp, py::arg("neighbours"), py::arg("cotangent").noconvert(), py::arg("n_threads"),
           ReleaseGil(), "(dG/dR)^T . cotangent (n_atoms, 3) and virials (n_structures, 9).")
      .def("jacobian", &chebyshev_jacobian, py::arg("neighbours"), py::arg("structure"), ReleaseGil(),
           "Dense dG/dR (N D, 3N) of one structure.");
  module.def("pair_distances", &pair_distances, py::arg("neighbours"), py::arg("structure"),
             py::arg("exponent"), py::arg("cutoff"), ReleaseGil(),
             "Pair fingerprint (pairs) and its Jacobian (pairs, 3N).");
}

}  // namespace gprann::bindings
