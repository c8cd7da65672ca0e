#include "gprann/verlet_list.hpp"

#include <cmath>
#include <utility>

#include "owned.hpp"

namespace gprann::bindings {

namespace {

/// The neighbour lists of a structure that moves; each update changes what the view shows.
struct MovingNeighbours : OwnedNeighbours {
  VerletList list;
  Int32s kinds;
  std::int64_t first_atoms[2] = {0, 0};

  MovingNeighbours(Int32s kinds_, double cutoff, double skin) : list(cutoff, skin), kinds(std::move(kinds_)) {
    if (!(cutoff > 0.0)) throw std::invalid_argument("cutoff must be positive");
    if (!(skin >= 0.0)) throw std::invalid_argument("skin must not be negative");
    first_atoms[1] = kinds.size();
  }

  bool update(const Doubles& positions, const Doubles& cell,
              const py::array_t<bool, py::array::c_style>& periodic) {
    require_size(positions.size(), 3 * kinds.size(), "positions");
    require_size(cell.size(), 9, "cell");
    require_size(periodic.size(), 3, "periodic");
    const double* R = positions.data();
    const double* h = cell.data();
    const auto* flags = reinterpret_cast<const std::uint8_t*>(periodic.data());
    const Index n = kinds.size();
    const py::gil_scoped_release release;
    view = {};
    const bool searched = list.update(R, n, h, flags);
    view = {1, n, first_atoms, list.first_pair().data(), list.neighbour(), list.vectors(), kinds.data()};
    return searched;
  }

  py::tuple arrays() const {
    return py::make_tuple(
        Int64s(static_cast<py::ssize_t>(list.first_pair().size()), list.first_pair().data()),
        Int32s(list.n_pairs(), list.neighbour()),
        Doubles({static_cast<py::ssize_t>(list.n_pairs()), py::ssize_t{3}}, list.vectors()));
  }

  /// Both atoms of the shortest pair and its length; -1 and infinity without any.
  py::tuple nearest() const {
    const std::int64_t p = list.nearest_pair();
    if (p < 0) return py::make_tuple(-1, -1, std::numeric_limits<double>::infinity());
    const double* v = list.vectors() + 3 * p;
    return py::make_tuple(list.nearest_atom(), list.neighbour()[p],
                          std::sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]));
  }
};

}  // namespace

void bind_verlet_list(py::module_& module) {
  static_assert(sizeof(bool) == sizeof(std::uint8_t), "flags are read as bytes");
  py::class_<MovingNeighbours, OwnedNeighbours>(module, "MovingNeighbours",
                                                "Neighbour lists of one structure that moves.")
      .def(py::init<Int32s, double, double>(), py::arg("species").noconvert(), py::arg("cutoff"),
           py::arg("skin"))
      .def("update", &MovingNeighbours::update, py::arg("positions").noconvert(), py::arg("cell").noconvert(),
           py::arg("periodic").noconvert(), "Whether candidates were looked for.")
      .def("arrays", &MovingNeighbours::arrays, "Copies of first_pair, neighbour and vectors.")
      .def("nearest", &MovingNeighbours::nearest, "Atom, neighbour and distance of the shortest pair.")
      .def_property_readonly("n_candidates",
                             [](const MovingNeighbours& self) { return self.list.n_candidates(); });
}

}  // namespace gprann::bindings
