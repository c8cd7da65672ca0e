#pragma once

#include <vector>

#include "gprann/activation.hpp"
#include "gprann/small_products.hpp"
#include "gprann/types.hpp"

namespace gprann {

// clang-format off
/// One multilayer perceptron with a scalar output, and its derivatives for a block of atoms at a time:
///
///     a_0 = g,   z_l = W_l a_{l-1} + b_l,   a_l = phi(z_l),   eps = z_L      (linear output)
///
/// Parameters: layer by layer, W_l (out, in) row-major, then b_l. Features of n atoms: (n, D). A forward or
/// backward pass costs two operations for each weight and atom.
// clang-format on
class Mlp {
 public:
  using Array = Eigen::Array<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

  /// What the passes through one block of atoms leave behind, layer by layer; each needs those before it.
  struct Pass {
    // forward
    std::vector<Array> value;      // a_l of the hidden layers, (n, width)
    std::vector<Array> slope;      // phi'(z_l)
    std::vector<Array> curvature;  // phi''(z_l), on demand
    Vector energy;                 // (n)
    // backward
    std::vector<Array> adjoint;   // d eps / d a_l of the hidden layers
    std::vector<Array> backward;  // d eps / d z_l of all layers
    Array input;                  // d eps / d g, (n, D), on demand
    // tangent
    std::vector<Array> tangent;  // change of z_l, then of a_l
    Vector energy_tangent;       // (n)
    Array input_tangent;         // change of d eps / d g
    // workspace
    Array reverse, scratch;
    RightFactor factor;
  };

  /// sizes: D, hidden layers..., 1.
  Mlp(std::vector<Index> sizes, Activation activation);

  Index n_parameters() const { return n_parameters_; }
  Index input_size() const { return sizes_.front(); }
  /// Layers of weights, the output included.
  Index layers() const { return static_cast<Index>(sizes_.size()) - 1; }
  Index width(Index layer) const { return sizes_[static_cast<std::size_t>(layer)]; }
  Index weight_at(Index layer) const { return offsets_[static_cast<std::size_t>(layer)]; }
  Index bias_at(Index layer) const { return weight_at(layer) + width(layer + 1) * width(layer); }

  /// Energies, and slopes of the activations; with `curvature` also their second derivatives.
  void forward(const double* parameters, ConstMatrixMap features, Pass& pass, bool curvature = false) const;

  /// d eps / d z_l, and with `to_input` d eps / d g.
  void backward(const double* parameters, Pass& pass, bool to_input) const;

  /// Adds the gradient of sum_i factor_i eps_i to `gradient`.
  void add_gradient(ConstMatrixMap features, const double* factor, Pass& pass, double* gradient) const;

  /// Adds the gradient of sum_i [factor_i eps_i + (d eps_i / d g_i) . direction_i] to `gradient`: a forward
  /// pass of tangents and one reverse pass through both (Pearlmutter, Neural Comput. 6, 147 (1994)); about
  /// twice the cost of `add_gradient`. Needs forward with curvature, and backward. direction: (n, D).
  void add_second_gradient(const double* parameters, ConstMatrixMap features, const double* factor,
                           ConstMatrixMap direction, Pass& pass, double* gradient) const;

  /// Changes of energies when the parameters change along `direction` (parameters), `energy_tangent`; with
  /// `to_input` also of d eps / d g, `input_tangent`, which needs forward with curvature, and backward.
  void parameter_tangent(const double* parameters, const double* direction, ConstMatrixMap features,
                         Pass& pass, bool to_input) const;

 private:
  ConstMatrixMap weights(const double* parameters, Index layer) const {
    return {parameters + weight_at(layer), width(layer + 1), width(layer)};
  }
  /// a_{l} below layer `layer`.
  ConstMatrixMap below(ConstMatrixMap features, const Pass& pass, Index layer) const;
  void feature_tangent(const double* parameters, ConstMatrixMap direction, Pass& pass) const;

  std::vector<Index> sizes_;
  Activation activation_;
  std::vector<Index> offsets_;  // of the weights of each layer
  Index n_parameters_ = 0;
};

}  // namespace gprann
