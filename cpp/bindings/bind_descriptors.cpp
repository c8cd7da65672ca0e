#include "gprann/chebyshev.hpp"
#include "gprann/density.hpp"
#include "gprann/neighbour_list.hpp"
#include "gprann/pair_distances.hpp"
#include "gprann/parallel.hpp"
#include "gprann/projected.hpp"
#include "gprann/stored.hpp"
#include "gprann/symmetry.hpp"
#include "owned.hpp"
#include "python_descriptor.hpp"

namespace gprann::bindings {

namespace {

Matrix values(const Descriptor& self, const OwnedNeighbours& batch, int n_threads) {
  require_species(self, batch);
  Matrix G(batch.view.n_atoms, self.size());
  self.values(batch.view, n_threads, G.data());
  return G;
}

Matrix jvp(const Descriptor& self, const OwnedNeighbours& batch, const MatrixIn& direction,
           const MatrixIn& strains, int n_threads) {
  require_species(self, batch);
  require_shape(direction, batch.view.n_atoms, 3, "direction");
  require_shape(strains, strains.rows() == 0 ? 0 : batch.view.n_structures, 9, "strains");
  Matrix tangent(batch.view.n_atoms, self.size());
  self.jvp(batch.view, direction.data(), strains.rows() == 0 ? nullptr : strains.data(), n_threads,
           tangent.data());
  return tangent;
}

std::pair<Matrix, Matrix> vjp(const Descriptor& self, const OwnedNeighbours& batch, const MatrixIn& cotangent,
                              int n_threads) {
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

Matrix jacobian(const Descriptor& self, const OwnedNeighbours& batch, Index s, bool strained) {
  require_species(self, batch);
  const Index n = atoms_of(batch.view, s);
  Matrix J(n * self.size(), 3 * n + (strained ? 6 : 0));
  self.jacobian(batch.view, s, strained, J.data());
  return J;
}

Eigen::Matrix<int, Eigen::Dynamic, 10, Eigen::RowMajor> density_terms(const DensityDescriptor& self) {
  const auto terms = self.terms();
  Eigen::Matrix<int, Eigen::Dynamic, 10, Eigen::RowMajor> table(static_cast<Index>(terms.size()), 10);
  for (Index i = 0; i < table.rows(); ++i) {
    const auto& term = terms[static_cast<std::size_t>(i)];
    table(i, 0) = term.body;
    for (Index k = 0; k < 3; ++k) {
      const auto at = static_cast<std::size_t>(k);
      table(i, 1 + k) = term.channel[at];
      table(i, 4 + k) = term.n[at];
      table(i, 7 + k) = term.l[at];
    }
  }
  return table;
}

py::tuple neighbour_list(const Int64s& first_atom, const Doubles& positions, const Doubles& cells,
                         const py::array_t<bool, py::array::c_style>& periodic, double cutoff,
                         int n_threads) {
  const Index n = first_atom.size() - 1;
  require_offsets(first_atom, 0, n, 0, positions.size() / 3, "first_atom");
  require_size(cells.size(), 9 * n, "cells");
  require_size(periodic.size(), 3 * n, "periodic");
  static_assert(sizeof(bool) == sizeof(std::uint8_t), "flags are read as bytes");
  const Cells batch{n, first_atom.data(), positions.data(), cells.data(),
                    reinterpret_cast<const std::uint8_t*>(periodic.data())};
  Int64s first_pair(positions.size() / 3 + 1);
  std::int64_t* first = first_pair.mutable_data();
  auto released = [&](auto&& work) {
    const py::gil_scoped_release release;
    return work();
  };
  const NeighbourList list = released([&] { return NeighbourList(batch, cutoff, n_threads, first); });
  const std::int64_t n_pairs = first[first_pair.size() - 1];
  Int32s neighbour(n_pairs);
  Doubles vectors(std::vector<py::ssize_t>{n_pairs, 3});
  std::int32_t* j = neighbour.mutable_data();
  double* v = vectors.mutable_data();
  const std::int64_t nearest = released([&] { return list.fill(first, n_threads, j, v); });
  return py::make_tuple(first_pair, neighbour, vectors, nearest);
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
  py::class_<Descriptor, std::shared_ptr<Descriptor>>(
      module, "Descriptor", "Values of a descriptor and products with its Jacobian.")
      .def_property_readonly("size", &Descriptor::size)
      .def_property_readonly("cutoff", &Descriptor::cutoff)
      .def("values", &values, py::arg("neighbours"), py::arg("n_threads"), ReleaseGil(), "G (n_atoms, D).")
      .def("jvp", &jvp, py::arg("neighbours"), py::arg("direction").noconvert(),
           py::arg("strains").noconvert(), py::arg("n_threads"), ReleaseGil(),
           "dG/dR . direction + dG/d(strain) . strains, (n_structures, 9) or (0, 9): (n_atoms, D).")
      .def("vjp", &vjp, py::arg("neighbours"), py::arg("cotangent").noconvert(), py::arg("n_threads"),
           ReleaseGil(), "(dG/dR)^T . cotangent (n_atoms, 3) and virials (n_structures, 9).")
      .def("jacobian", &jacobian, py::arg("neighbours"), py::arg("structure"), py::arg("strained"),
           ReleaseGil(), "Dense dG/dR (N D, 3N) of one structure; with the strains (N D, 3N + 6).");
  py::class_<ChebyshevDescriptor, Descriptor, std::shared_ptr<ChebyshevDescriptor>>(
      module, "ChebyshevDescriptor", "Chebyshev descriptor, PRB 96, 014112 (2017).")
      .def(py::init<int, double, int, double, const Matrix&>(), py::arg("radial_order"),
           py::arg("radial_cutoff"), py::arg("angular_order"), py::arg("angular_cutoff"), py::arg("weights"));
  py::class_<DensityDescriptor, Descriptor, std::shared_ptr<DensityDescriptor>>(
      module, "DensityDescriptor", "Invariants of the atomic density.")
      .def(py::init([](const std::array<int, 3>& n_max, const std::array<int, 3>& l_max,
                       const std::array<double, 3>& cutoffs, double decay, const Matrix& weights) {
             return std::make_shared<DensityDescriptor>(
                 DensityPart{n_max[0], l_max[0], cutoffs[0]}, DensityPart{n_max[1], l_max[1], cutoffs[1]},
                 DensityPart{n_max[2], l_max[2], cutoffs[2]}, decay, weights);
           }),
           py::arg("n_max"), py::arg("l_max"), py::arg("cutoffs"), py::arg("decay"), py::arg("weights"))
      .def("terms", &density_terms,
           "Body order, channels, n and l of every component, (D, 10); -1 for none.");
  py::class_<SymmetryFunctionDescriptor, Descriptor, std::shared_ptr<SymmetryFunctionDescriptor>>(
      module, "SymmetryFunctionDescriptor", "Symmetry functions of Behler and Parrinello.")
      .def(py::init<Index, const Matrix&, int, double>(), py::arg("n_species"), py::arg("functions"),
           py::arg("cutoff_type"), py::arg("inner_cutoff"));
  py::class_<ProjectedDescriptor, Descriptor, std::shared_ptr<ProjectedDescriptor>>(
      module, "ProjectedDescriptor", "Another descriptor, seen through one matrix for each species.")
      .def(py::init([](std::shared_ptr<Descriptor> base, const std::vector<Matrix>& matrices,
                       const Matrix& offsets) {
             return std::make_shared<ProjectedDescriptor>(std::move(base), matrices, offsets);
           }),
           py::arg("base"), py::arg("matrices"), py::arg("offsets"));
  py::class_<StoredDescriptor, Descriptor, std::shared_ptr<StoredDescriptor>>(
      module, "StoredDescriptor", "Values and slopes of another descriptor, kept for one batch.")
      .def(py::init([](const Descriptor& base, const OwnedNeighbours& batch, int n_threads) {
             require_species(base, batch);
             return std::make_shared<StoredDescriptor>(base, batch.view, n_threads);
           }),
           py::arg("base"), py::arg("neighbours"), py::arg("n_threads"), ReleaseGil());
  py::class_<PythonDescriptor, Descriptor, std::shared_ptr<PythonDescriptor>>(
      module, "PythonDescriptor", "A descriptor written in Python.")
      .def(py::init<py::object, py::object>(), py::arg("descriptor"), py::arg("make_neighbours"));
  module.def(
      "neighbour_list", &neighbour_list, py::arg("first_atom").noconvert(), py::arg("positions").noconvert(),
      py::arg("cells").noconvert(), py::arg("periodic").noconvert(), py::arg("cutoff"), py::arg("n_threads"),
      "first_pair (n_atoms + 1), neighbour (n_pairs), vectors (n_pairs, 3) and the shortest pair or -1.");
  module.def("pair_distances", &pair_distances, py::arg("neighbours"), py::arg("structure"),
             py::arg("exponent"), py::arg("cutoff"), ReleaseGil(),
             "Pair fingerprint (pairs) and its Jacobian (pairs, 3N).");
}

}  // namespace gprann::bindings
