#include "gprann/coulomb.hpp"

#include <string>

#include "pybind.hpp"

namespace gprann::bindings {

namespace {

/// Potentials (n), gradient (n, 3) and virial (3, 3).
using Sums = std::tuple<Vector, Matrix, Matrix>;

ChargeShape shape_of(const std::string& name) {
  if (name == "point") return ChargeShape::point;
  if (name == "gaussian") return ChargeShape::gaussian;
  if (name == "slater") return ChargeShape::slater;
  throw std::invalid_argument("unknown shape of charges: " + name);
}

Charges view(const VectorIn& charges, const VectorIn& widths, const std::string& name) {
  const ChargeShape shape = shape_of(name);
  if (shape != ChargeShape::point) require_size(widths.size(), charges.size(), "widths");
  return {charges.size(), charges.data(), widths.data(), shape};
}

template <class Work>
Sums summed(const Charges& charges, Work&& work) {
  Vector potential = Vector::Zero(charges.n);
  Matrix gradient = Matrix::Zero(charges.n, 3), virial = Matrix::Zero(3, 3);
  work(CoulombOutput{potential.data(), gradient.data(), virial.data()});
  return {std::move(potential), std::move(gradient), std::move(virial)};
}

Sums molecule(const MatrixIn& positions, const VectorIn& charges, const VectorIn& widths,
              const std::string& shape, int n_threads) {
  const Charges own = view(charges, widths, shape);
  require_shape(positions, own.n, 3, "positions");
  return summed(own,
                [&](const CoulombOutput& out) { add_direct_sum(positions.data(), own, n_threads, out); });
}

EwaldSum ewald(const MatrixIn& lattice, double splitting, double cutoff, double reciprocal_cutoff) {
  require_shape(lattice, 3, 3, "lattice");
  if (!(splitting > 0.0 && cutoff > 0.0))
    throw std::invalid_argument("splitting and cutoff must be positive");
  return EwaldSum(lattice.data(), splitting, cutoff, reciprocal_cutoff);
}

Sums cell(const EwaldSum& sum, const MatrixIn& positions, const VectorIn& charges, const VectorIn& widths,
          const std::string& shape, int n_threads) {
  const Charges own = view(charges, widths, shape);
  require_shape(positions, own.n, 3, "positions");
  return summed(own, [&](const CoulombOutput& out) { sum.add(positions.data(), own, n_threads, out); });
}

}  // namespace

void bind_coulomb(py::module_& module) {
  module.def("coulomb_molecule", &molecule, py::arg("positions").noconvert(), py::arg("charges").noconvert(),
             py::arg("widths").noconvert(), py::arg("shape"), py::arg("n_threads"), ReleaseGil(),
             "Potentials, gradient and virial of fixed charges by a direct sum.");
  py::class_<EwaldSum>(module, "EwaldSum", "Ewald's sum in one cell, for any positions and charges.")
      .def(py::init(&ewald), py::arg("lattice").noconvert(), py::arg("splitting"), py::arg("cutoff"),
           py::arg("reciprocal_cutoff"))
      .def("sums", &cell, py::arg("positions").noconvert(), py::arg("charges").noconvert(),
           py::arg("widths").noconvert(), py::arg("shape"), py::arg("n_threads"), ReleaseGil(),
           "Potentials, gradient and virial of fixed charges.");
}

}  // namespace gprann::bindings
