#include "screened_repulsion.hpp"

#include <algorithm>
#include <cmath>

#include "elements.hpp"

namespace gprann {

namespace {

constexpr double coulomb_constant = 14.399645478425668;  // e^2 / (4 pi epsilon_0), eV Å
constexpr double weights[4] = {0.18175, 0.50986, 0.28022, 0.02817};
constexpr double decays[4] = {3.19980, 0.94229, 0.40290, 0.20162};
constexpr double screening = 0.46850;  // Å
constexpr double power = 0.23;

}  // namespace

ScreenedRepulsion::ScreenedRepulsion(double cutoff, const std::vector<std::string>& species) {
  for (const std::string& symbol : species) numbers_.push_back(atomic_number(symbol));
  const auto n = static_cast<Index>(species.size());
  cutoffs_.resize(n, n);
  for (Index a = 0; a < n; ++a)
    for (Index b = 0; b < n; ++b)
      cutoffs_(a, b) = cutoff * (covalent_radius(numbers_[static_cast<std::size_t>(a)]) +
                                 covalent_radius(numbers_[static_cast<std::size_t>(b)]));
}

void ScreenedRepulsion::pair(int first, int second, double r, double& energy, double& slope) const {
  const double cutoff = cutoffs_(first, second);
  energy = slope = 0.0;
  if (r >= cutoff) return;
  const double z1 = numbers_[static_cast<std::size_t>(first)];
  const double z2 = numbers_[static_cast<std::size_t>(second)];
  const double scale = (std::pow(z1, power) + std::pow(z2, power)) / screening;
  double phi = 0.0, change = 0.0;
  for (int k = 0; k < 4; ++k) {
    const double term = weights[k] * std::exp(-decays[k] * scale * r);
    phi += term;
    change += decays[k] * scale * term;
  }
  const double charge = coulomb_constant * z1 * z2;
  const double value = charge * phi / r;
  const double derivative = -charge * (phi / (r * r) + change / r);
  const double t = std::clamp(2.0 * r / cutoff - 1.0, 0.0, 1.0);
  const double taper = 1.0 - t * t * t * (10.0 - 15.0 * t + 6.0 * t * t);
  const double taper_slope = -30.0 * t * t * (1.0 - t) * (1.0 - t) * 2.0 / cutoff;
  energy = value * taper;
  slope = derivative * taper + value * taper_slope;
}

}  // namespace gprann
