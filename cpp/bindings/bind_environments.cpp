#include "gprann/environment_rows.hpp"
#include "owned.hpp"
#include "pybind.hpp"

namespace gprann::bindings {

namespace {

void fill_rows(const Descriptor& descriptor, const OwnedNeighbours& batch, const MatrixIn& features,
               const MatrixIn& scale, const Int64s& first, const MatrixIn& environments,
               const RadialKernel& kernel, const Int64s& first_gradient, const VectorIn& strain_length,
               int n_threads, MatrixOut energies, MatrixOut gradients) {
  require_species(descriptor, batch);
  const Index D = descriptor.size();
  const Index kinds = first.size() - 1;
  const Index n = batch.view.n_structures;
  require_shape(features, batch.view.n_atoms, D, "features");
  require_shape(scale, descriptor.n_species(), D, "scale");
  require_size(kinds, descriptor.n_species(), "first");
  require_offsets(first, 0, kinds, 0, environments.rows(), "first");
  require_shape(environments, environments.rows(), D, "environments");
  require_size(first_gradient.size(), n + 1, "first_gradient");
  require_size(strain_length.size(), n, "strain_length");
  for (Index s = 0; s < n; ++s) {
    const Index rows = 3 * batch.view.atoms_of(s) + (strain_length[s] > 0.0 ? 6 : 0);
    require_size(first_gradient.data()[s + 1] - first_gradient.data()[s], rows, "gradients of a structure");
  }
  require_offsets(first_gradient, 0, n, 0, gradients.cols(), "first_gradient");
  require_shape(energies, environments.rows(), n, "energies");
  require_shape(gradients, environments.rows(), gradients.cols(), "gradients");
  environment_rows(descriptor, batch.view, features.data(), scale.data(),
                   {kinds, D, first.data(), environments.data()}, kernel, n_threads,
                   {energies.data(), energies.outerStride(), gradients.data(), gradients.outerStride(),
                    first_gradient.data(), strain_length.data()});
}

}  // namespace

void bind_environments(py::module_& module) {
  module.def("environment_rows", &fill_rows, py::arg("descriptor"), py::arg("neighbours"),
             py::arg("features").noconvert(), py::arg("scale").noconvert(), py::arg("first").noconvert(),
             py::arg("environments").noconvert(), py::arg("kernel"), py::arg("first_gradient").noconvert(),
             py::arg("strain_length").noconvert(), py::arg("n_threads"), py::arg("energies").noconvert(),
             py::arg("gradients").noconvert(), ReleaseGil(),
             "Fills energies (M, n_structures) and gradients (M, rows) of the kernel with M environments.");
}

}  // namespace gprann::bindings
