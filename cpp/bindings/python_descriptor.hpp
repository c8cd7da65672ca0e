#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "gprann/descriptor.hpp"
#include "pybind.hpp"

namespace gprann::bindings {

/// A descriptor that is written in Python: its methods `values`, `jvp` and `vjp` are called for one structure
/// at a time, from whatever thread, with the GIL. What they raise reaches the caller of the kernel.
class PythonDescriptor final : public Descriptor {
 public:
  /// descriptor: has species, size, cutoff, values, jvp and vjp. make_neighbours: makes the neighbour lists
  /// that these take of first_atom, first_pair, neighbour, vectors and species.
  PythonDescriptor(py::object descriptor, py::object make_neighbours)
      : python_(std::move(descriptor)),
        make_neighbours_(std::move(make_neighbours)),
        name_(py::str(py::type::handle_of(python_).attr("__name__"))),
        size_(python_.attr("size").cast<Index>()),
        n_species_(static_cast<Index>(py::len(python_.attr("species")))),
        cutoff_(python_.attr("cutoff").cast<double>()) {
    if (size_ < 1) throw std::invalid_argument("size of " + name_ + " must be positive");
  }

  Index size() const override { return size_; }
  Index n_species() const override { return n_species_; }
  double cutoff() const override { return cutoff_; }
  bool divisible() const override { return false; }
  bool has_pair_gradients() const override { return false; }

  std::unique_ptr<Surroundings> make_surroundings() const override { return std::make_unique<Found>(); }

  void survey(const Neighbours& batch, Index s, Index begin, Index end, Surroundings& found) const override {
    const py::gil_scoped_acquire acquire;
    auto& own = static_cast<Found&>(found);
    const std::int64_t first = batch.first_atom[s];
    own.n_atoms = batch.atoms_of(s);
    own.begin = begin - first;
    own.count = end - begin;
    const std::int64_t* pairs = batch.first_pair + first;
    const Index n_pairs = pairs[own.n_atoms] - pairs[0];
    Int64s first_atom(2), first_pair(own.n_atoms + 1);
    Int32s neighbour(n_pairs), species(own.n_atoms);
    Doubles vectors({n_pairs, Index{3}});
    first_atom.mutable_data()[0] = 0;
    first_atom.mutable_data()[1] = own.n_atoms;
    std::transform(pairs, pairs + own.n_atoms + 1, first_pair.mutable_data(),
                   [&](std::int64_t pair) { return pair - pairs[0]; });
    std::transform(batch.neighbour + pairs[0], batch.neighbour + pairs[0] + n_pairs, neighbour.mutable_data(),
                   [&](std::int32_t atom) { return atom - static_cast<std::int32_t>(first); });
    std::copy_n(batch.vectors + 3 * pairs[0], 3 * n_pairs, vectors.mutable_data());
    std::copy_n(batch.species + first, own.n_atoms, species.mutable_data());
    own.neighbours = make_neighbours_(first_atom, first_pair, neighbour, vectors, species);
  }

  void values(const Surroundings& found, double* values) const override {
    const py::gil_scoped_acquire acquire;
    const auto& own = static_cast<const Found&>(found);
    copy_rows(own, matrix(python_.attr("values")(own.neighbours), own.n_atoms, size_, "values"), values);
  }

  void jvp(const Neighbours&, Surroundings& found, const double* direction, const double* strain,
           double* tangent) const override {
    const py::gil_scoped_acquire acquire;
    const auto& own = static_cast<const Found&>(found);
    const Doubles directions({own.n_atoms, Index{3}}, direction);
    const py::object strains = strain == nullptr
                                   ? py::object(py::none())
                                   : py::object(Doubles({Index{1}, Index{3}, Index{3}}, strain));
    const py::object result = python_.attr("jvp")(own.neighbours, directions, strains);
    copy_rows(own, matrix(result, own.n_atoms, size_, "jvp"), tangent);
  }

  void add_vjp(const Neighbours&, Surroundings& found, const double* cotangent, double* gradient,
               double* virial) const override {
    const py::gil_scoped_acquire acquire;
    const auto& own = static_cast<const Found&>(found);
    Doubles whole({own.n_atoms, size_});  // zero for atoms that were not surveyed
    std::fill_n(whole.mutable_data(), whole.size(), 0.0);
    std::copy_n(cotangent, own.count * size_, whole.mutable_data() + own.begin * size_);
    const py::object result = python_.attr("vjp")(own.neighbours, whole);
    if (!py::isinstance<py::tuple>(result) || py::len(result) != 2)
      throw py::type_error("vjp of " + name_ + " must return the gradient and the virials");
    const auto pair = py::reinterpret_borrow<py::tuple>(result);
    const Doubles slopes = matrix(pair[0], own.n_atoms, 3, "vjp (gradient)");
    const Doubles virials = matrix(pair[1], 1, 9, "vjp (virials)");
    VectorMap(gradient, slopes.size()) += ConstVectorMap(slopes.data(), slopes.size());
    if (virial != nullptr) VectorMap(virial, 9) += ConstVectorMap(virials.data(), 9);
  }

 private:
  /// One structure as Python sees it; its object may be let go by any thread.
  struct Found final : Surroundings {
    py::object neighbours;
    Index n_atoms = 0, begin = 0, count = 0;

    ~Found() override {
      if (!neighbours) return;
      const py::gil_scoped_acquire acquire;
      neighbours.release().dec_ref();
    }
  };

  /// What a method returned, as numbers in rows.
  Doubles matrix(const py::object& result, Index rows, Index columns, const char* method) const {
    const auto array = py::array_t<double, py::array::c_style | py::array::forcecast>::ensure(result);
    if (!array) throw py::error_already_set();
    if (array.size() != rows * columns || array.ndim() < 2 || array.shape(0) != rows)
      throw std::invalid_argument(std::string(method) + " of " + name_ + " has shape " +
                                  py::str(array.attr("shape")).cast<std::string>() + ", expected (" +
                                  std::to_string(rows) + ", " + std::to_string(columns) + ")");
    return array;
  }

  void copy_rows(const Found& own, const Doubles& rows, double* target) const {
    std::copy_n(rows.data() + own.begin * size_, own.count * size_, target);
  }

  py::object python_, make_neighbours_;
  std::string name_;
  Index size_, n_species_;
  double cutoff_;
};

}  // namespace gprann::bindings
