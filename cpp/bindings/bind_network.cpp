#include <memory>
#include <mutex>
#include <optional>

#include "gprann/committee.hpp"
#include "gprann/guard.hpp"
#include "gprann/network.hpp"

#include "moving.hpp"

namespace gprann::bindings {

namespace {

Activation activation_of(const std::string& name) {
  if (name == "linear") return Activation::linear;
  if (name == "tanh") return Activation::tanh;
  if (name == "softplus") return Activation::softplus;
  if (name == "silu") return Activation::silu;
  if (name == "twist") return Activation::twist;
  throw std::invalid_argument("unknown activation '" + name + "'");
}

Vector energies(const Network& self, const VectorIn& parameters, const OwnedAtomFeatures& atoms,
                int n_threads) {
  require_fit(self, parameters, atoms);
  Vector E(atoms.view.n_structures);
  self.energies(parameters.data(), atoms.view, n_threads, E.data());
  return E;
}

std::pair<Vector, Matrix> atom_energies(const Network& self, const VectorIn& parameters,
                                        const OwnedAtomFeatures& atoms, int n_threads) {
  require_fit(self, parameters, atoms);
  Vector eps(atoms.features.shape(0));
  Matrix slopes(atoms.features.shape(0), atoms.view.size);
  self.atoms(parameters.data(), atoms.view, n_threads, eps.data(), slopes.data());
  return {std::move(eps), std::move(slopes)};
}

std::pair<double, Vector> energy_loss(const Network& self, const VectorIn& parameters,
                                      const OwnedAtomFeatures& atoms, const Int64s& batch,
                                      const VectorIn& targets, const VectorIn& weights, int n_threads) {
  require_fit(self, parameters, atoms);
  require_size(targets.size(), atoms.view.n_structures, "targets");
  require_size(weights.size(), atoms.view.n_structures, "weights");
  for (Index i = 0; i < batch.size(); ++i)
    if (batch.data()[i] < 0 || batch.data()[i] >= atoms.view.n_structures)
      throw std::invalid_argument("batch index out of range");
  Vector gradient(self.n_parameters());
  const double loss = self.energy_loss(parameters.data(), atoms.view, batch.data(), batch.size(),
                                       targets.data(), weights.data(), n_threads, gradient.data());
  return {loss, std::move(gradient)};
}

std::pair<Vector, Matrix> energy_rows(const Network& self, const VectorIn& parameters,
                                      const OwnedAtomFeatures& atoms) {
  require_fit(self, parameters, atoms);
  Vector E(atoms.view.n_structures);
  Matrix rows(atoms.view.n_structures, self.n_parameters());
  self.energy_rows(parameters.data(), atoms.view, 0, atoms.view.n_structures, E.data(), rows.data());
  return {std::move(E), std::move(rows)};
}

double normal_equations(const Network& self, const VectorIn& parameters, const OwnedAtomFeatures& atoms,
                        const VectorIn& targets, const VectorIn& weights, const Blas& blas, int n_threads,
                        MatrixOut H, Eigen::Ref<Vector> b) {
  require_fit(self, parameters, atoms);
  require_size(targets.size(), atoms.view.n_structures, "targets");
  require_size(weights.size(), atoms.view.n_structures, "weights");
  require_size(H.rows(), self.n_parameters(), "first dimension of H");
  require_size(H.cols(), self.n_parameters(), "second dimension of H");
  require_size(H.outerStride(), H.cols(), "row stride of H");
  require_size(b.size(), self.n_parameters(), "b");
  return self.normal_equations(parameters.data(), atoms.view, targets.data(), weights.data(), blas, n_threads,
                               H.data(), b.data());
}

/// Memory of evaluations that Python keeps. A second thread that comes meanwhile takes its own.
struct KeptWorkspace {
  std::mutex lock;
  Committee::Workspace content;
  // for which it was made
  std::shared_ptr<const AtomModel> model;
  std::shared_ptr<const Descriptor> descriptor;

  void suit(const std::shared_ptr<AtomModel>& own_model, const std::shared_ptr<Descriptor>& own_descriptor) {
    if (model == own_model && descriptor == own_descriptor) return;
    content = Committee::Workspace();
    model = own_model;
    descriptor = own_descriptor;
  }
};

/// A guard that keeps its arrays alive.
struct OwnedGuard {
  Doubles factors, offset;
  Guard view;

  OwnedGuard(Doubles factors_, Doubles offset_)
      : factors(checked(std::move(factors_), offset_)),
        offset(std::move(offset_)),
        view(factors.data(), offset.data(), factors.shape(0), factors.shape(1), factors.shape(2)) {}

 private:
  static Doubles checked(Doubles factors, const Doubles& offset) {
    if (factors.ndim() != 3 || offset.ndim() != 2)
      throw std::invalid_argument("factors must have three dimensions, offset two");
    require_size(offset.shape(0), factors.shape(0), "first dimension of offset");
    require_size(offset.shape(1), factors.shape(2), "second dimension of offset");
    if (factors.shape(2) % lane_width != 0)
      throw std::invalid_argument("the third dimension of factors must be a multiple of " +
                                  std::to_string(lane_width));
    return factors;
  }
};

/// A committee as Python hands it over.
struct OwnedCommittee {
  const std::shared_ptr<AtomModel>& model;
  const std::shared_ptr<Descriptor>& descriptor;
  const MatrixIn &mean, &inverse_scale, &parameters;
  const OwnedGuard* guard;

  void check(const Neighbours& batch) const {
    require_species(*descriptor, batch);
    require_size(descriptor->size(), model->input_size(), "a descriptor");
    require_size(descriptor->n_species(), model->n_species(), "species of the descriptor");
    require_shape(mean, model->n_species(), model->input_size(), "mean");
    require_shape(inverse_scale, model->n_species(), model->input_size(), "inverse_scale");
    require_shape(parameters, parameters.rows(), model->n_parameters(), "parameters");
    if (guard != nullptr) {
      require_size(guard->view.n_species(), model->n_species(), "species of the guard");
      require_size(guard->view.size(), model->input_size(), "a descriptor of the guard");
    }
  }

  py::tuple evaluate(const CommitteeInput& input, int n_threads, KeptWorkspace& workspace) const {
    const Neighbours& batch = input.batch;
    const Index members = parameters.rows();
    Doubles energies({members, batch.n_atoms});
    Doubles gradients({members, batch.n_atoms, Index{3}});
    Doubles virials({members, batch.n_structures, Index{3}, Index{3}});
    std::optional<Doubles> grades;
    if (guard != nullptr) grades.emplace(Index{batch.n_atoms});
    const CommitteeOutput output = {energies.mutable_data(), gradients.mutable_data(), virials.mutable_data(),
                                    nullptr, grades ? grades->mutable_data() : nullptr};
    const std::unique_lock<std::mutex> own(workspace.lock, std::try_to_lock);
    Committee::Workspace other;
    if (own.owns_lock()) workspace.suit(model, descriptor);
    {
      const py::gil_scoped_release release;
      Committee(*model, *descriptor, mean.data(), inverse_scale.data(),
                guard == nullptr ? nullptr : &guard->view)
          .evaluate(parameters.data(), members, input, n_threads, own.owns_lock() ? workspace.content : other,
                    output);
    }
    return py::make_tuple(energies, gradients, virials, grades);
  }
};

py::tuple evaluate_committee(const std::shared_ptr<AtomModel>& model,
                             const std::shared_ptr<Descriptor>& descriptor, const MatrixIn& mean,
                             const MatrixIn& inverse_scale, const MatrixIn& parameters,
                             const OwnedNeighbours& batch, int n_threads, KeptWorkspace& workspace,
                             const OwnedGuard* guard) {
  const OwnedCommittee committee = {model, descriptor, mean, inverse_scale, parameters, guard};
  committee.check(batch.view);
  return committee.evaluate({batch.view}, n_threads, workspace);
}

/// The same for a structure that moves: its pairs are made a few atoms at a time, where the descriptor
/// allows.
py::tuple evaluate_moving(const std::shared_ptr<AtomModel>& model,
                          const std::shared_ptr<Descriptor>& descriptor, const MatrixIn& mean,
                          const MatrixIn& inverse_scale, const MatrixIn& parameters, MovingNeighbours& moving,
                          int n_threads, KeptWorkspace& workspace, const OwnedGuard* guard) {
  const OwnedCommittee committee = {model, descriptor, mean, inverse_scale, parameters, guard};
  if (!descriptor->divisible()) moving.list.measure();
  const Neighbours batch = moving.view();
  committee.check(batch);
  if (moving.list.measured()) return committee.evaluate({batch}, n_threads, workspace);
  VerletSource source(moving.list, batch);
  const py::tuple found = committee.evaluate({batch, &source}, n_threads, workspace);
  moving.list.set_nearest(source.nearest());
  return found;
}

}  // namespace

void bind_network(py::module_& module) {
  py::class_<OwnedAtomFeatures>(module, "AtomFeatures",
                                "Standardised descriptors sorted by species and structure.")
      .def(py::init<Doubles, Int64s>(), py::arg("features").noconvert(), py::arg("rows").noconvert());
  py::class_<AtomModel, std::shared_ptr<AtomModel>>(module, "AtomModel",
                                                    "Energies of atoms as a function of their descriptors.")
      .def_property_readonly("n_parameters", &AtomModel::n_parameters);
  py::class_<Network, AtomModel, std::shared_ptr<Network>>(module, "Network",
                                                           "One multilayer perceptron per species.")
      .def(py::init([](std::vector<Index> sizes, const std::string& activation, Index n_species) {
             return Network(std::move(sizes), activation_of(activation), n_species);
           }),
           py::arg("sizes"), py::arg("activation"), py::arg("n_species"))
      .def("energies", &energies, py::arg("parameters").noconvert(), py::arg("atoms"), py::arg("n_threads"),
           ReleaseGil(), "Energies (n).")
      .def("atoms", &atom_energies, py::arg("parameters").noconvert(), py::arg("atoms"), py::arg("n_threads"),
           ReleaseGil(), "Atomic energies (n_atoms) and their slopes (n_atoms, D).")
      .def("energy_loss", &energy_loss, py::arg("parameters").noconvert(), py::arg("atoms"),
           py::arg("batch").noconvert(), py::arg("targets").noconvert(), py::arg("weights").noconvert(),
           py::arg("n_threads"), ReleaseGil(), "Weighted sum of squared energy errors and its gradient (P).")
      .def("energy_rows", &energy_rows, py::arg("parameters").noconvert(), py::arg("atoms"), ReleaseGil(),
           "Energies (n) and dE/dw (n, P).")
      .def("normal_equations", &normal_equations, py::arg("parameters").noconvert(), py::arg("atoms"),
           py::arg("targets").noconvert(), py::arg("weights").noconvert(), py::arg("blas"),
           py::arg("n_threads"), py::arg("H").noconvert(), py::arg("b").noconvert(), ReleaseGil(),
           "Fills H (lower triangle) and b of the normal equations; returns the loss.");
  py::class_<KeptWorkspace>(module, "CommitteeWorkspace", "Memory of evaluations, kept from one to the next.")
      .def(py::init<>())
      .def("__reduce__", [](const py::object& self) {  // a copy begins with none
        return py::make_tuple(py::type::of(self), py::tuple());
      });
  py::class_<OwnedGuard>(module, "Guard", "Distances of environments to those of a training set.")
      .def(py::init<Doubles, Doubles>(), py::arg("factors").noconvert(), py::arg("offset").noconvert());
  module.def(
      "evaluate_committee", &evaluate_committee, py::arg("model"), py::arg("descriptor"),
      py::arg("mean").noconvert(), py::arg("inverse_scale").noconvert(), py::arg("parameters").noconvert(),
      py::arg("neighbours"), py::arg("n_threads"), py::arg("workspace"), py::arg("guard") = py::none(),
      "Atomic energies (K, n_atoms), dE/dR (K, n_atoms, 3), virials (K, n, 3, 3), and grades (n_atoms) "
      "or None.");
  module.def("evaluate_moving", &evaluate_moving, py::arg("model"), py::arg("descriptor"),
             py::arg("mean").noconvert(), py::arg("inverse_scale").noconvert(),
             py::arg("parameters").noconvert(), py::arg("neighbours"), py::arg("n_threads"),
             py::arg("workspace"), py::arg("guard") = py::none(), "The same for a structure that moves.");
}

}  // namespace gprann::bindings
