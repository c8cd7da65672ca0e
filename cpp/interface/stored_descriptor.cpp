#include <algorithm>
#include <stdexcept>
#include <utility>

#include "elements.hpp"
#include "failure.hpp"
#include "gprann/chebyshev.hpp"
#include "gprann/density.hpp"
#include "gprann/projected.hpp"
#include "gprann/symmetry.hpp"
#include "settings.hpp"
#include "stored_potential.hpp"

namespace gprann {

namespace {

constexpr double longest = 1e3;  // Å, of a cutoff
constexpr double shortest = 1e-3;
constexpr std::size_t most_channels = 1000;

void read_species(const Settings& settings, std::vector<std::string>& species) {
  species = settings.texts("species");
  if (species.empty() || species.size() > 118) throw damaged("the descriptor has no elements, or too many");
  for (std::size_t k = 0; k < species.size(); ++k) {
    if (atomic_number(species[k]) == 0) throw damaged("'" + species[k] + "' of the descriptor is no element");
    for (std::size_t other = 0; other < k; ++other)
      if (species[other] == species[k]) throw damaged("the descriptor lists " + species[k] + " twice");
  }
}

Matrix read_channels(const Settings& settings, std::size_t n_species, bool ones_first) {
  std::vector<std::vector<double>> rows = settings.rows("weights", n_species);
  if (ones_first) rows.insert(rows.begin(), std::vector<double>(n_species, 1.0));
  if (rows.empty() || rows.size() > most_channels)
    throw damaged("the descriptor has no channels, or too many");
  Matrix channels(static_cast<Index>(rows.size()), static_cast<Index>(n_species));
  for (std::size_t c = 0; c < rows.size(); ++c)
    channels.row(static_cast<Index>(c)) = ConstVectorMap(rows[c].data(), channels.cols()).transpose();
  return channels;
}

/// Sizes are compared before anything is made, so that no file makes tables that fill the memory.
void require_size(double components, std::size_t size) {
  if (components > static_cast<double>(size))
    throw damaged("the descriptor does not fit the arrays of the file");
}

std::shared_ptr<const Descriptor> make_chebyshev(const Settings& settings, std::size_t size,
                                                 std::vector<std::string>& species) {
  settings.allow(
      {"kind", "species", "radial_order", "radial_cutoff", "angular_order", "angular_cutoff", "weights"});
  read_species(settings, species);
  const Json* angular = settings.value("angular_order");
  const bool none = angular == nullptr ? settings.has("angular_order")
                                       : (angular->is(Json::Kind::text) && angular->text() == "none");
  const int radial_order = settings.whole("radial_order", 12, 0, 200);
  const int angular_order = none ? -1 : settings.whole("angular_order", 4, 0, 24);
  const Matrix channels = read_channels(settings, species.size(), true);
  require_size(static_cast<double>(channels.rows()) * (radial_order + 1 + angular_order + 1), size);
  return std::make_shared<ChebyshevDescriptor>(
      radial_order, settings.number("radial_cutoff", 6.5, shortest, longest), angular_order,
      settings.number("angular_cutoff", 4.0, shortest, longest), channels);
}

std::shared_ptr<const Descriptor> make_density(const Settings& settings, std::size_t size,
                                               std::vector<std::string>& species) {
  settings.allow({"kind", "species", "radial_order", "radial_cutoff", "n_max", "l_max", "angular_cutoff",
                  "four_body", "four_body_l", "four_body_cutoff", "decay", "weights"});
  read_species(settings, species);
  const double angular_cutoff = settings.number("angular_cutoff", 5.0, shortest, longest);
  const DensityPart two{settings.whole("radial_order", 12, 0, 50) + 1, 0,
                        settings.number("radial_cutoff", 6.5, shortest, longest)};
  const DensityPart three{settings.whole("n_max", 6, 0, 20), settings.whole("l_max", 4, 0, 8),
                          angular_cutoff};
  const DensityPart four{settings.whole("four_body", 1, 0, 10), settings.whole("four_body_l", 4, 2, 6),
                         settings.value("four_body_cutoff") == nullptr
                             ? angular_cutoff
                             : settings.number("four_body_cutoff", angular_cutoff, shortest, longest)};
  const Matrix channels = read_channels(settings, species.size(), false);
  const auto n = static_cast<double>(channels.rows());
  const double q3 = n * three.n_max, q4 = n * four.n_max;
  require_size(n * two.n_max + q3 * (q3 + 1) / 2 * (three.l_max + 1) + q4 * (q4 + 1) * (q4 + 2) / 6, size);
  return std::make_shared<DensityDescriptor>(two, three, four, settings.number("decay", 3.0, 0.0, 20.0),
                                             channels);
}

int find_cutoff_type(const std::string& name) {
  const std::vector<std::string> names{"cosine", "tanhu", "tanh", "exp", "poly1", "poly2", "poly3", "poly4"};
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) throw damaged("the descriptor has no cutoff function '" + name + "'");
  return static_cast<int>(found - names.begin()) + 1;
}

std::shared_ptr<const Descriptor> make_symmetry(const Settings& settings, std::vector<std::string>& species) {
  constexpr std::size_t columns = SymmetryFunctionDescriptor::n_columns;
  // The functions themselves are in the file, so that the options of the rule say nothing more.
  settings.allow({"kind", "species", "functions", "cutoff_function", "inner_cutoff", "radial",
                  "radial_cutoff", "grid", "nearest", "angular", "angular_cutoff", "zetas", "wide"});
  read_species(settings, species);
  const std::vector<std::vector<double>> rows = settings.rows("functions", columns);
  Matrix functions(static_cast<Index>(rows.size()), static_cast<Index>(columns));
  for (std::size_t f = 0; f < rows.size(); ++f)
    functions.row(static_cast<Index>(f)) = ConstVectorMap(rows[f].data(), functions.cols()).transpose();
  try {
    return std::make_shared<SymmetryFunctionDescriptor>(static_cast<Index>(species.size()), functions,
                                                        find_cutoff_type(settings.text("cutoff_function")),
                                                        settings.number("inner_cutoff", 0.0, 0.0, 1.0));
  } catch (const std::invalid_argument& error) {
    throw damaged(std::string("the descriptor is impossible: ") + error.what());
  }
}

const Array& find_array(const Settings& settings, const std::string& key,
                        const std::map<std::string, Array>& arrays) {
  const Settings place(settings.require(key), "'" + key + "'");
  const auto found = arrays.find(place.text("__array__"));
  if (found == arrays.end()) throw damaged("the array '" + key + "' of the descriptor is missing");
  return found->second;
}

std::shared_ptr<const Descriptor> make_projected(const Settings& settings,
                                                 const std::map<std::string, Array>& arrays, std::size_t size,
                                                 std::vector<std::string>& species) {
  settings.allow({"kind", "base", "matrices", "offsets"});
  const Array& matrices = find_array(settings, "matrices", arrays);
  const Array& offsets = find_array(settings, "offsets", arrays);
  if (offsets.shape.size() != 2 || matrices.shape.size() != 3 || matrices.shape[0] != offsets.shape[0] ||
      matrices.shape[1] != offsets.shape[1] || matrices.shape[2] != size || matrices.values.empty())
    throw damaged("matrices and offsets of the descriptor do not fit each other");
  const std::size_t rows = offsets.shape[1];
  auto base = make_descriptor(settings.require("base"), arrays, rows, species);
  if (species.size() != offsets.shape[0]) throw damaged("the descriptor needs one matrix for each element");
  const auto D = static_cast<Index>(rows), d = static_cast<Index>(size);
  std::vector<Matrix> all;
  for (std::size_t t = 0; t < species.size(); ++t)
    all.emplace_back(ConstMatrixMap(matrices.values.data() + t * rows * size, D, d));
  return std::make_shared<ProjectedDescriptor>(
      std::move(base), std::move(all),
      ConstMatrixMap(offsets.values.data(), static_cast<Index>(species.size()), D));
}

}  // namespace

std::shared_ptr<const Descriptor> make_descriptor(const Json& table,
                                                  const std::map<std::string, Array>& arrays,
                                                  std::size_t size, std::vector<std::string>& species) {
  const Settings settings(table, "the descriptor");
  const std::string kind = settings.text("kind");
  std::shared_ptr<const Descriptor> made;
  if (kind == "chebyshev")
    made = make_chebyshev(settings, size, species);
  else if (kind == "density")
    made = make_density(settings, size, species);
  else if (kind == "symmetry_functions")
    made = make_symmetry(settings, species);
  else if (kind == "projected")
    made = make_projected(settings, arrays, size, species);
  else
    throw Failure(GPRANN_UNSUPPORTED,
                  "its descriptor '" + kind +
                      "' is written in Python, which this interface does not run; train with the "
                      "descriptor chebyshev, density or symmetry_functions");
  if (made->size() != static_cast<Index>(size))
    throw damaged("the descriptor does not fit the arrays of the file");
  return made;
}

}  // namespace gprann
