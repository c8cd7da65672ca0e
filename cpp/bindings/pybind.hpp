#pragma once

// The only place that includes pybind11, so that all files of the module agree on its casters.
#include <pybind11/eigen.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <stdexcept>
#include <string>

#include "gprann/types.hpp"

namespace gprann::bindings {

namespace py = pybind11;

/// Inputs: no silent copies (with py::arg().noconvert()). Outputs are returned by value.
using MatrixIn = Eigen::Ref<const Matrix>;
using MatrixOut = Eigen::Ref<Matrix>;
using VectorIn = Eigen::Ref<const Vector>;
using Doubles = py::array_t<double, py::array::c_style>;
using Int64s = py::array_t<std::int64_t, py::array::c_style>;
using Int32s = py::array_t<std::int32_t, py::array::c_style>;

using ReleaseGil = py::call_guard<py::gil_scoped_release>;

inline void require_size(Index got, Index expected, const char* name) {
  if (got != expected)
    throw std::invalid_argument(std::string(name) + " has " + std::to_string(got) + " elements, expected " +
                                std::to_string(expected));
}

inline void require_shape(const MatrixIn& A, Index rows, Index columns, const char* name) {
  if (A.rows() != rows || A.cols() != columns)
    throw std::invalid_argument(std::string(name) + " has shape (" + std::to_string(A.rows()) + ", " +
                                std::to_string(A.cols()) + "), expected (" + std::to_string(rows) + ", " +
                                std::to_string(columns) + ")");
}

/// Offsets must start at `first`, never fall, and end at `last`.
template <class Offsets>
void require_offsets(const Offsets& offsets, Index begin, Index count, Index first, Index last,
                     const char* name) {
  if (count < 0) throw std::invalid_argument(std::string(name) + " is empty");
  const auto* data = offsets.data() + begin;
  bool good = data[0] == first && data[count] == last;
  for (Index i = 0; i < count && good; ++i) good = data[i] <= data[i + 1];
  if (!good) throw std::invalid_argument(std::string(name) + " is no list of offsets");
}

void bind_blas(py::module_& module);
void bind_descriptors(py::module_& module);
void bind_covariance(py::module_& module);
void bind_environments(py::module_& module);
void bind_coulomb(py::module_& module);
void bind_network(py::module_& module);
void bind_polynomial(py::module_& module);
void bind_combined_loss(py::module_& module);
void bind_verlet_list(py::module_& module);

}  // namespace gprann::bindings
