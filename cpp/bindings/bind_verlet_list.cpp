#include <cmath>

#include "moving.hpp"

namespace gprann::bindings {

namespace {

bool update(MovingNeighbours& self, const Doubles& positions, const Doubles& cell,
            const py::array_t<bool, py::array::c_style>& periodic) {
  require_size(positions.size(), 3 * self.kinds.size(), "positions");
  require_size(cell.size(), 9, "cell");
  require_size(periodic.size(), 3, "periodic");
  const double* R = positions.data();
  const double* h = cell.data();
  const auto* flags = reinterpret_cast<const std::uint8_t*>(periodic.data());
  const py::gil_scoped_release release;
  return self.list.update(R, self.kinds.size(), h, flags);
}

py::tuple arrays(MovingNeighbours& self) {
  VerletList& list = self.list;
  list.measure();
  return py::make_tuple(Int64s(static_cast<py::ssize_t>(list.first_pair().size()), list.first_pair().data()),
                        Int32s(list.n_pairs(), list.neighbour()),
                        Doubles({static_cast<py::ssize_t>(list.n_pairs()), py::ssize_t{3}}, list.vectors()));
}

/// Both atoms of the shortest pair and its length; -1 and infinity without any.
py::tuple nearest(MovingNeighbours& self) {
  if (!self.list.nearest_known()) self.list.measure();
  const NearestPair& pair = self.list.nearest();
  return py::make_tuple(pair.atom, pair.neighbour, std::sqrt(pair.squared));
}

}  // namespace

void bind_verlet_list(py::module_& module) {
  static_assert(sizeof(bool) == sizeof(std::uint8_t), "flags are read as bytes");
  py::class_<MovingNeighbours>(module, "MovingNeighbours", "Neighbour lists of one structure that moves.")
      .def(py::init<Int32s, double, double>(), py::arg("species").noconvert(), py::arg("cutoff"),
           py::arg("skin"))
      .def("update", &update, py::arg("positions").noconvert(), py::arg("cell").noconvert(),
           py::arg("periodic").noconvert(), "Whether candidates were looked for.")
      .def("arrays", &arrays, "Copies of first_pair, neighbour and vectors.")
      .def("nearest", &nearest, "Atom, neighbour and distance of the shortest pair.")
      .def(
          "lower_bound", [](const MovingNeighbours& self) { return self.list.lower_bound(); },
          "A length that no pair is below; 0 if nothing is known.")
      .def_property_readonly("n_candidates",
                             [](const MovingNeighbours& self) { return self.list.n_candidates(); });
}

}  // namespace gprann::bindings
