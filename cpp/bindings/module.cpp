#include "pybind.hpp"

#ifndef GPRANN_MODULE_NAME
#define GPRANN_MODULE_NAME _core
#endif

PYBIND11_MODULE(GPRANN_MODULE_NAME, module) {
  module.doc() = "Compiled kernels of gprann. Private: use the Python package.";
  gprann::bindings::bind_blas(module);
  gprann::bindings::bind_descriptors(module);
  gprann::bindings::bind_covariance(module);
  gprann::bindings::bind_environments(module);
  gprann::bindings::bind_coulomb(module);
  gprann::bindings::bind_network(module);
  gprann::bindings::bind_polynomial(module);
  gprann::bindings::bind_combined_loss(module);
  gprann::bindings::bind_verlet_list(module);
}
