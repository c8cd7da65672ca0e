#include "stored_potential.hpp"

#include <algorithm>
#include <cmath>
#include <locale>
#include <sstream>

#include "checksums.hpp"
#include "failure.hpp"
#include "gprann/network.hpp"
#include "gprann/polynomial.hpp"
#include "settings.hpp"

namespace gprann {

namespace {

constexpr int format_version = 2;
constexpr double largest = 1e300;

Json read_header(const Archive& archive) {
  const auto [data, size] = archive.member("model.json");
  Json header = Json::parse(std::string(reinterpret_cast<const char*>(data), size));
  const Json* format = header.find("format");
  if (format == nullptr || !format->is(Json::Kind::text) || format->text() != "gprann model")
    throw damaged("it is not a gprann model file");
  const Json* version = header.find("version");
  if (version == nullptr || !version->is_whole() || version->number() > format_version)
    throw Failure(GPRANN_FORMAT_ERROR, "its model format is newer than this program reads (" +
                                           std::to_string(format_version) +
                                           "); update gprann: pip install -U gprann");
  return header;
}

std::map<std::string, Array> read_arrays(const Archive& archive, const Json& digests) {
  if (!digests.is(Json::Kind::table)) throw damaged("the list of its arrays is missing");
  std::map<std::string, Array> arrays;
  for (const std::string& name : digests.names()) {
    const auto [data, size] = archive.member(name + ".npy");
    const Json* digest = digests.find(name);
    if (!digest->is(Json::Kind::text) || sha256(data, size) != digest->text())
      throw damaged("checksum of '" + name + "' is wrong, the file is damaged");
    if (arrays.count(name) == 0) arrays.emplace(name, read_npy(name, data, size));
  }
  return arrays;
}

const Array& require_array(const std::map<std::string, Array>& arrays, const std::string& name) {
  const auto found = arrays.find(name);
  if (found == arrays.end()) throw damaged("the array '" + name + "' is missing");
  return found->second;
}

Activation read_activation(const Settings& settings) {
  const std::string name = !settings.has("activation") ? "tanh" : settings.text("activation");
  if (name == "linear") return Activation::linear;
  if (name == "tanh") return Activation::tanh;
  if (name == "softplus") return Activation::softplus;
  if (name == "silu") return Activation::silu;
  if (name == "twist") return Activation::twist;
  throw Failure(GPRANN_UNSUPPORTED, "its activation '" + name + "' is not known here; update gprann");
}

std::unique_ptr<AtomModel> make_polynomial(const Settings& settings, Index degree,
                                           const StoredPotential& potential) {
  settings.allow({"kind", "regularisation", "folds"});  // of the fit
  return std::make_unique<Polynomial>(potential.descriptor->size(), degree,
                                      static_cast<Index>(potential.species.size()));
}

std::unique_ptr<AtomModel> make_network(const Settings& settings, const StoredPotential& potential) {
  settings.allow({"kind", "hidden", "activation"});
  std::vector<Index> sizes = {potential.descriptor->size()};
  const Json* hidden = settings.value("hidden");
  if (!settings.has("hidden")) sizes.insert(sizes.end(), {10, 10});
  if (settings.has("hidden") && hidden == nullptr) throw damaged("'hidden' of the model is no list");
  if (hidden != nullptr && !hidden->is(Json::Kind::list)) throw damaged("'hidden' of the model is no list");
  for (std::size_t k = 0; hidden != nullptr && k < hidden->items().size(); ++k) {
    const Json& width = hidden->items()[k];
    if (!width.is_whole() || width.number() < 1 || width.number() > 1e6)
      throw damaged("'hidden' of the model");
    sizes.push_back(static_cast<Index>(width.number()));
  }
  sizes.push_back(1);
  return std::make_unique<Network>(sizes, read_activation(settings),
                                   static_cast<Index>(potential.species.size()));
}

/// Makes the model, if the parameters of the file fit it.
void make_model(const Json& table, const Array& parameters, StoredPotential& potential) {
  const Settings settings(table, "the model");
  const std::string kind = settings.text("kind");
  if (kind == "mlp" || kind == "network") {
    potential.model = make_network(settings, potential);
  } else if (kind == "linear" || kind == "quadratic") {
    potential.model = make_polynomial(settings, kind == "linear" ? 1 : 2, potential);
  } else {
    throw Failure(GPRANN_UNSUPPORTED,
                  "its model '" + kind + "' is not known here; use the potential in Python");
  }
  if (parameters.shape.size() != 2 || parameters.shape[0] < 1 ||
      static_cast<Index>(parameters.shape[1]) != potential.model->n_parameters())
    throw damaged("'parameters' do not fit the model");
  potential.members = static_cast<Index>(parameters.shape[0]);
  potential.parameters = parameters.values;
}

/// One sentence about what a program has to add, and how LAMMPS does.
Failure needs_coulomb(const StoredPotential& potential, const std::string& obstacle) {
  std::ostringstream text;
  text.imbue(std::locale::classic());
  text << "it builds on a Coulomb baseline, which this interface does not sum";
  if (!obstacle.empty()) {
    text << ", and " << obstacle << ", which LAMMPS has not either: use the potential in Python";
  } else {
    text.precision(10);
    text << ": in LAMMPS give the atoms these charges (e):";
    for (std::size_t t = 0; t < potential.species.size(); ++t)
      text << (t == 0 ? " " : ", ") << potential.species[t] << " " << potential.charges[t];
    text << "; and use pair_style hybrid/overlay gprann coulomb off coul/long 10.0 with kspace_style pppm "
            "1e-6; in C "
            "load with GPRANN_WITHOUT_COULOMB";
  }
  return {GPRANN_UNSUPPORTED, text.str()};
}

void add_coulomb(const Settings& settings, bool without, StoredPotential& potential) {
  settings.allow({"kind", "charges", "scale", "shape", "widths", "field", "field_charges"});
  std::string obstacle;
  if (settings.require("charges").is(Json::Kind::text)) obstacle = "its charges stand in structure files";
  if (settings.has("shape") && settings.text("shape") != "point")
    obstacle = "its charges are smeared (" + settings.text("shape") + ")";
  if (settings.value("field") != nullptr) obstacle = "it has an external field";
  if (obstacle.empty()) {
    const double scale = settings.number("scale", 1.0, 0.0, largest);
    const std::vector<double> charges = settings.numbers_of("charges", potential.species);
    for (std::size_t t = 0; t < charges.size(); ++t) potential.charges[t] += scale * charges[t];
  }
  if (!without || !obstacle.empty()) throw needs_coulomb(potential, obstacle);
}

void add_baseline(const Json& table, bool without_coulomb, StoredPotential& potential) {
  const Settings settings(table, "a baseline");
  const std::string kind = settings.text("kind");
  if (kind == "reference_energies") {
    settings.allow({"kind", "energies"});
    const std::vector<double> energies = settings.numbers_of("energies", potential.species);
    for (std::size_t t = 0; t < energies.size(); ++t) potential.reference[t] += energies[t];
  } else if (kind == "zbl") {
    settings.allow({"kind", "cutoff"});
    potential.repulsions.emplace_back(settings.number("cutoff", 0.75, 1e-6, 100.0), potential.species);
  } else if (kind == "coulomb") {
    add_coulomb(settings, without_coulomb, potential);
  } else if (kind == "calculator") {
    throw Failure(GPRANN_UNSUPPORTED,
                  "it builds on a calculator of ASE (" +
                      (settings.value("calculator") == nullptr ? "unknown" : settings.text("calculator")) +
                      "), which runs in Python alone; use gprann.Calculator, or fix external in LAMMPS");
  } else {
    throw Failure(GPRANN_UNSUPPORTED, "its baseline '" + kind +
                                          "' is written in Python, which this interface does not "
                                          "run; use gprann.Calculator");
  }
}

void read_std_factors(const Json& header, StoredPotential& potential) {
  const Json* factors = header.find("std_factors");
  if (factors == nullptr) return;
  const auto fits = [](const Json& item) { return item.is(Json::Kind::number) && item.number() > 0.0; };
  if (!factors->is(Json::Kind::list) || factors->items().size() != 2 || !fits(factors->items()[0]) ||
      !fits(factors->items()[1]))
    throw damaged("'std_factors' must be two positive numbers");
  potential.energy_std_factor = factors->items()[0].number();
  potential.force_std_factor = factors->items()[1].number();
}

void read_baselines(const Json& header, const std::map<std::string, Array>& arrays, bool without_coulomb,
                    StoredPotential& potential) {
  const std::size_t n = potential.species.size();
  potential.reference.assign(n, 0.0);
  potential.charges.assign(n, 0.0);
  const Json* baselines = header.find("baselines");
  if (baselines == nullptr) {  // version 1 knew reference energies alone
    const Array& values = require_array(arrays, "reference_energies");
    if (values.values.size() != n) throw damaged("'reference_energies' do not fit the elements");
    potential.reference = values.values;
    return;
  }
  if (!baselines->is(Json::Kind::list)) throw damaged("'baselines' is no list");
  for (const Json& baseline : baselines->items()) add_baseline(baseline, without_coulomb, potential);
}

/// Reads the extrapolation guard; files of older programs have none.
void read_guard(const std::map<std::string, Array>& arrays, StoredPotential& potential) {
  if (arrays.count("guard_factors") == 0) return;
  const Array& factors = require_array(arrays, "guard_factors");
  const Array& offset = require_array(arrays, "guard_offset");
  const std::size_t n = potential.species.size(),
                    size = static_cast<std::size_t>(potential.descriptor->size());
  if (factors.shape.size() != 3 || factors.shape[0] != n || factors.shape[1] != size ||
      factors.shape[2] == 0 || factors.shape[2] % static_cast<std::size_t>(lane_width) != 0)
    throw damaged("'guard_factors' has the wrong shape");
  if (offset.shape != std::vector<std::size_t>{n, factors.shape[2]})
    throw damaged("'guard_offset' has the wrong shape");
  potential.guard_factors = factors.values;
  potential.guard_offset = offset.values;
}

}  // namespace

double StoredPotential::cutoff() const {
  double cutoff = descriptor->cutoff();
  for (const ScreenedRepulsion& repulsion : repulsions) cutoff = std::max(cutoff, repulsion.cutoff());
  return cutoff;
}

StoredPotential read_potential(const std::string& path, bool without_coulomb) {
  const Archive archive(path);
  const Json header = read_header(archive);
  const Json* kind = header.find("kind");
  if (kind != nullptr && (!kind->is(Json::Kind::text) || kind->text() != "potential"))
    throw Failure(GPRANN_UNSUPPORTED,
                  "it holds no potential, but a " +
                      (kind->is(Json::Kind::text) ? kind->text() : std::string("damaged model")) +
                      "; use gprann.SurrogateCalculator");
  const Settings settings(header, "the model file");
  const std::map<std::string, Array> arrays = read_arrays(archive, settings.require("arrays"));
  const Array& mean = require_array(arrays, "feature_mean");
  const Array& inverse_scale = require_array(arrays, "feature_inverse_scale");
  if (mean.shape.size() != 2 || mean.shape[1] == 0) throw damaged("'feature_mean' has the wrong shape");
  StoredPotential potential;
  potential.descriptor =
      make_descriptor(settings.require("descriptor"), arrays, mean.shape[1], potential.species);
  if (mean.shape[0] != potential.species.size() || inverse_scale.shape != mean.shape)
    throw damaged("'feature_mean' or 'feature_inverse_scale' has the wrong shape");
  make_model(settings.require("model"), require_array(arrays, "parameters"), potential);
  potential.mean = mean.values;
  potential.inverse_scale = inverse_scale.values;
  settings.require("energy_scale");
  potential.energy_scale = settings.number("energy_scale", 1.0, -largest, largest);
  read_std_factors(header, potential);
  read_guard(arrays, potential);
  read_baselines(header, arrays, without_coulomb, potential);
  return potential;
}

}  // namespace gprann
