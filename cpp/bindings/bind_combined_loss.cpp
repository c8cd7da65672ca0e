#include <limits>

#include "gprann/combined_loss.hpp"
#include "owned.hpp"

namespace gprann::bindings {

namespace {

struct OwnedLabels {
  Doubles energies, energy_weights, forces, force_weights, virials, virial_weights;
  Labels view;

  OwnedLabels(Doubles energies_, Doubles energy_weights_, Doubles forces_, Doubles force_weights_,
              Doubles virials_, Doubles virial_weights_, double energy_threshold, double force_threshold,
              double virial_threshold)
      : energies(std::move(energies_)),
        energy_weights(std::move(energy_weights_)),
        forces(std::move(forces_)),
        force_weights(std::move(force_weights_)),
        virials(std::move(virials_)),
        virial_weights(std::move(virial_weights_)) {
    require_size(energy_weights.size(), energies.size(), "energy_weights");
    require_size(force_weights.size(), forces.size(), "force_weights");
    require_size(virials.size(), 6 * energies.size(), "virials");
    require_size(virial_weights.size(), virials.size(), "virial_weights");
    for (const Doubles* weights : {&energy_weights, &force_weights, &virial_weights})
      for (Index i = 0; i < weights->size(); ++i)
        if (!(weights->data()[i] >= 0.0)) throw std::invalid_argument("weights must not be negative");
    if (!(energy_threshold > 0.0 && force_threshold > 0.0 && virial_threshold > 0.0))
      throw std::invalid_argument("thresholds must be positive");
    view = {energies.data(),      energy_weights.data(), forces.data(),
            force_weights.data(), virials.data(),        virial_weights.data(),
            energy_threshold,     force_threshold,       virial_threshold};
  }
};

/// The loss and what its views belong to; Python keeps the arguments of the constructor alive.
struct OwnedLoss {
  const OwnedNeighbours& neighbours;
  Int64s order;
  Doubles inverse_scale;
  CombinedLoss loss;

  OwnedLoss(const Network& network, const Descriptor& descriptor, const OwnedNeighbours& neighbours_,
            const OwnedAtomFeatures& atoms, Int64s order_, Doubles inverse_scale_)
      : neighbours(neighbours_),
        order(std::move(order_)),
        inverse_scale(std::move(inverse_scale_)),
        loss(network, descriptor, neighbours_.view, atoms.view, order.data(), inverse_scale.data()) {
    require_species(descriptor, neighbours_);
    require_size(descriptor.size(), network.input_size(), "a descriptor");
    require_size(atoms.view.size, network.input_size(), "a feature vector");
    require_size(atoms.rows.shape(0), network.n_species(), "first dimension of rows");
    require_size(descriptor.n_species(), network.n_species(), "species of the descriptor");
    require_size(atoms.view.n_structures, neighbours_.view.n_structures, "structures of the features");
    require_size(order.size(), neighbours_.view.n_atoms, "order");
    require_size(atoms.features.shape(0), neighbours_.view.n_atoms, "features");
    require_size(inverse_scale.size(), network.n_species() * network.input_size(), "inverse_scale");
    std::vector<bool> seen(static_cast<std::size_t>(order.size()), false);
    for (Index t = 0; t < network.n_species(); ++t)
      for (Index s = 0; s < atoms.view.n_structures; ++s)
        for (Index row = atoms.view.begin(t, s); row < atoms.view.begin(t, s + 1); ++row) {
          const std::int64_t atom = order.data()[row];
          const bool known =
              atom >= neighbours_.view.first_atom[s] && atom < neighbours_.view.first_atom[s + 1];
          if (!known || seen[static_cast<std::size_t>(atom)] || neighbours_.view.species[atom] != t)
            throw std::invalid_argument("order: row " + std::to_string(row) +
                                        " is no atom of its structure and species, or one of another row");
          seen[static_cast<std::size_t>(atom)] = true;
        }
  }

  void require(const VectorIn& parameters, const OwnedLabels& labels, const Int64s& batch) const {
    require_size(parameters.size(), loss.network().n_parameters(), "parameters");
    require(labels, batch);
  }

  void require(const OwnedLabels& labels, const Int64s& batch) const {
    require_size(labels.energies.size(), neighbours.view.n_structures, "energies");
    require_size(labels.forces.size(), 3 * neighbours.view.n_atoms, "forces");
    for (Index i = 0; i < batch.size(); ++i)
      if (batch.data()[i] < 0 || batch.data()[i] >= neighbours.view.n_structures)
        throw std::invalid_argument("batch index out of range");
  }
};

using Parts = std::tuple<double, double, double>;
Parts tuple_of(const LossParts& parts) { return {parts.energy, parts.force, parts.virial}; }

Parts loss_value(const OwnedLoss& self, const VectorIn& parameters, const OwnedLabels& labels,
                 const Int64s& batch, int n_threads) {
  self.require(parameters, labels, batch);
  return tuple_of(
      self.loss.evaluate(parameters.data(), labels.view, batch.data(), batch.size(), n_threads, nullptr));
}

std::pair<Parts, Vector> loss_gradient(const OwnedLoss& self, const VectorIn& parameters,
                                       const OwnedLabels& labels, const Int64s& batch, int n_threads) {
  self.require(parameters, labels, batch);
  Vector gradient(parameters.size());
  const LossParts parts = self.loss.evaluate(parameters.data(), labels.view, batch.data(), batch.size(),
                                             n_threads, gradient.data());
  return {tuple_of(parts), std::move(gradient)};
}

Vector gauss_newton(const OwnedLoss& self, const VectorIn& parameters, const OwnedLabels& labels,
                    const Int64s& batch, const VectorIn& v, int n_threads) {
  self.require(parameters, labels, batch);
  require_size(v.size(), parameters.size(), "v");
  Vector result(parameters.size());
  self.loss.gauss_newton(parameters.data(), labels.view, batch.data(), batch.size(), v.data(), n_threads,
                         result.data());
  return result;
}

Vector adjoint_product(const OwnedLoss& self, const VectorIn& parameters, const OwnedLabels& labels,
                       const Int64s& batch, const VectorIn& energies, const MatrixIn& forces,
                       const MatrixIn& virials, int n_threads) {
  self.require(parameters, labels, batch);
  require_size(energies.size(), self.neighbours.view.n_structures, "energies");
  require_shape(forces, self.neighbours.view.n_atoms, 3, "forces");
  require_shape(virials, self.neighbours.view.n_structures, 6, "virials");
  Vector result(parameters.size());
  self.loss.adjoint_product(parameters.data(), labels.view, batch.data(), batch.size(), energies.data(),
                            forces.data(), virials.data(), n_threads, result.data());
  return result;
}

Index loss_row_count(const OwnedLoss& self, const OwnedLabels& labels, const Int64s& batch) {
  self.require(labels, batch);
  return self.loss.row_count(labels.view, batch.data(), batch.size());
}

Parts loss_rows(const OwnedLoss& self, const VectorIn& parameters, const OwnedLabels& labels,
                const Int64s& batch, int n_threads, MatrixOut J, Eigen::Ref<Vector> r) {
  self.require(parameters, labels, batch);
  require_shape(J, self.loss.row_count(labels.view, batch.data(), batch.size()), parameters.size(), "J");
  require_size(r.size(), J.rows(), "r");
  return tuple_of(self.loss.rows(parameters.data(), labels.view, batch.data(), batch.size(), n_threads,
                                 J.data(), r.data()));
}

Parts loss_normal_equations(const OwnedLoss& self, const VectorIn& parameters, const OwnedLabels& labels,
                            const Int64s& batch, const Blas& blas, int n_threads, MatrixOut H,
                            Eigen::Ref<Vector> b) {
  self.require(parameters, labels, batch);
  require_shape(H, parameters.size(), parameters.size(), "H");
  require_size(H.outerStride(), H.cols(), "row stride of H");
  require_size(b.size(), parameters.size(), "b");
  return tuple_of(self.loss.normal_equations(parameters.data(), labels.view, batch.data(), batch.size(), blas,
                                             n_threads, H.data(), b.data()));
}

}  // namespace

void bind_combined_loss(py::module_& module) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  py::class_<OwnedLabels>(module, "Labels", "Energies, forces and virials to be fitted, with their weights.")
      .def(py::init<Doubles, Doubles, Doubles, Doubles, Doubles, Doubles, double, double, double>(),
           py::arg("energies").noconvert(), py::arg("energy_weights").noconvert(),
           py::arg("forces").noconvert(), py::arg("force_weights").noconvert(),
           py::arg("virials").noconvert(), py::arg("virial_weights").noconvert(),
           py::arg("energy_threshold") = infinity, py::arg("force_threshold") = infinity,
           py::arg("virial_threshold") = infinity);
  py::class_<OwnedLoss>(module, "CombinedLoss", "Squared errors of energies, forces and virials.")
      .def(py::init<const Network&, const Descriptor&, const OwnedNeighbours&, const OwnedAtomFeatures&,
                    Int64s, Doubles>(),
           py::arg("network"), py::arg("descriptor"), py::arg("neighbours"), py::arg("atoms"),
           py::arg("order").noconvert(), py::arg("inverse_scale").noconvert(), py::keep_alive<1, 2>(),
           py::keep_alive<1, 3>(), py::keep_alive<1, 4>(), py::keep_alive<1, 5>())
      .def("value", &loss_value, py::arg("parameters").noconvert(), py::arg("labels"),
           py::arg("batch").noconvert(), py::arg("n_threads"), ReleaseGil(),
           "Loss of energies, forces and virials.")
      .def("gradient", &loss_gradient, py::arg("parameters").noconvert(), py::arg("labels"),
           py::arg("batch").noconvert(), py::arg("n_threads"), ReleaseGil(), "The loss and its gradient (P).")
      .def("gauss_newton", &gauss_newton, py::arg("parameters").noconvert(), py::arg("labels"),
           py::arg("batch").noconvert(), py::arg("v").noconvert(), py::arg("n_threads"), ReleaseGil(),
           "J^T W J v (P).")
      .def("adjoint_product", &adjoint_product, py::arg("parameters").noconvert(), py::arg("labels"),
           py::arg("batch").noconvert(), py::arg("energies").noconvert(), py::arg("forces").noconvert(),
           py::arg("virials").noconvert(), py::arg("n_threads"), ReleaseGil(), "J^T W^(1/2) z (P).")
      .def("row_count", &loss_row_count, py::arg("labels"), py::arg("batch").noconvert(),
           "Residuals of the structures of a batch that have a weight.")
      .def("rows", &loss_rows, py::arg("parameters").noconvert(), py::arg("labels"),
           py::arg("batch").noconvert(), py::arg("n_threads"), py::arg("J").noconvert(),
           py::arg("r").noconvert(), ReleaseGil(),
           "Fills the weighted rows J (rows, P) of the Jacobian and residuals r; returns the loss.")
      .def("normal_equations", &loss_normal_equations, py::arg("parameters").noconvert(), py::arg("labels"),
           py::arg("batch").noconvert(), py::arg("blas"), py::arg("n_threads"), py::arg("H").noconvert(),
           py::arg("b").noconvert(), ReleaseGil(),
           "Fills H (lower triangle) and b of the normal equations; returns the loss.");
}

}  // namespace gprann::bindings
