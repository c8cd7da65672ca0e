#include "bench_counts.hpp"

namespace gprann::bench {

ChebyshevDescriptor Shape::make() const {
  Matrix weights = Matrix::Ones(n_channels, n_species);
  for (Index t = 0; t < n_species; ++t)
    weights.row(n_channels - 1)[t] = static_cast<double>(t) - 0.5 * static_cast<double>(n_species - 1);
  return {radial_order, radial_cutoff, angular_order, angular_cutoff, weights};
}

DescriptorFlops::DescriptorFlops(const System& system, const Shape& shape) {
  const auto channels = static_cast<double>(shape.n_channels);
  const double orders = shape.radial_order;
  const double L = shape.angular_order;
  const double m = (L + 1) * (L + 1);
  const double D = channels * (orders + L + 2);
  const double unit = 10;    // distance, its inverse, unit vector
  const double cutoff = 45;  // two series of eight terms, sine and cosine, value and slope
  // Legendre functions by recursion, powers of x + iy, products of both; then three derivatives of each.
  const double harmonics = 1.5 * (L + 1) * (L + 2) + 6 * L + m;
  const double gradients = harmonics + 4 * m;
  const double recursion = 7;  // the next T_a and dT_a/dx

  const auto radial = static_cast<double>(system.n_pairs(shape.radial_cutoff));
  const double angular =
      shape.angular_order < 0 ? 0.0 : static_cast<double>(system.n_pairs(shape.angular_cutoff));
  survey = radial * (unit + cutoff) + angular * (cutoff + harmonics + channels * (2 * m + 3));
  values = radial * (2 + channels * 4 * orders);
  // Tangent of the vector and along it, 11 for every order: recursion, product with two factors, sum.
  jvp = radial * (13 + channels * (recursion + 4) * orders) +
        angular * (19 + gradients + 7 * m + channels * (2 * m + 5));
  // 11 for every order again; 6 to hand a gradient to both atoms, 18 for the virial.
  vjp = radial * (29 + channels * (5 + (recursion + 4) * orders)) +
        angular * (54 + gradients + channels * (8 * m + 10));
  // Slopes of all components along x, y, z, and their sums in the rows of both atoms.
  jacobian = radial * ((orders + 1) * (4 + recursion + 6 * channels) + 6 * D) +
             angular * (gradients + channels * (8 * m + (L + 1) * (25 + 6 * (L + 1))) + 6 * D);
}

NetworkFlops::NetworkFlops(const std::vector<Index>& sizes)
    : weights(0), first(static_cast<double>(sizes[0] * sizes[1])) {
  for (std::size_t layer = 0; layer + 1 < sizes.size(); ++layer)
    weights += static_cast<double>(sizes[layer] * sizes[layer + 1]);
  output = static_cast<double>(sizes[sizes.size() - 2]);
}

}  // namespace gprann::bench
