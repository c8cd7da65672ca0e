#include "gprann/mlp.hpp"

#include <stdexcept>
#include <string>
#include <utility>

namespace gprann {

Mlp::Mlp(std::vector<Index> sizes, Activation activation)
    : sizes_(std::move(sizes)), activation_(activation) {
  if (sizes_.size() < 2 || sizes_.back() != 1)
    throw std::invalid_argument("sizes must be the number of features, the hidden widths and 1");
  for (const Index size : sizes_)
    if (size < 1) throw std::invalid_argument("layer widths must be positive, got " + std::to_string(size));
  for (Index layer = 0; layer < layers(); ++layer) {
    offsets_.push_back(n_parameters_);
    n_parameters_ += width(layer + 1) * (width(layer) + 1);
  }
}

ConstMatrixMap Mlp::below(ConstMatrixMap features, const Pass& pass, Index layer) const {
  if (layer == 0) return features;
  return {pass.value[static_cast<std::size_t>(layer - 1)].data(), features.rows(), width(layer)};
}

void Mlp::forward(const double* parameters, ConstMatrixMap features, Pass& pass, bool curvature) const {
  const auto hidden = static_cast<std::size_t>(layers() - 1);
  pass.value.resize(hidden);
  pass.slope.resize(hidden);
  if (curvature) pass.curvature.resize(hidden);
  for (Index layer = 0; layer < layers(); ++layer) {
    const ConstMatrixMap W = weights(parameters, layer);
    const ConstVectorMap b(parameters + bias_at(layer), W.rows());
    const ConstMatrixMap a = below(features, pass, layer);
    if (layer == layers() - 1) {
      pass.energy.noalias() = a * W.row(0).transpose();
      pass.energy.array() += b[0];
      return;
    }
    const auto l = static_cast<std::size_t>(layer);
    Array& z = pass.value[l];
    z.resize(features.rows(), W.rows());
    pass.slope[l].resize(features.rows(), W.rows());
    pass.factor.set_transposed(W.data(), W.cols(), W.rows());
    pass.factor.multiply(a.data(), a.rows(), b.data(), z.data());
    if (curvature) {
      pass.curvature[l].resize(features.rows(), W.rows());
      activate(activation_, z, pass.slope[l], pass.curvature[l]);
    } else {
      activate(activation_, z, pass.slope[l]);
    }
  }
}

void Mlp::backward(const double* parameters, Pass& pass, bool to_input) const {
  const Index n = pass.energy.size();
  pass.backward.resize(static_cast<std::size_t>(layers()));
  pass.adjoint.resize(static_cast<std::size_t>(layers() - 1));
  pass.backward.back().setOnes(n, 1);
  for (Index layer = layers() - 1; layer >= 0; --layer) {
    const ConstMatrixMap W = weights(parameters, layer);
    const Array& above = pass.backward[static_cast<std::size_t>(layer)];
    if (layer == 0) {
      if (!to_input) return;
      pass.input.resize(n, W.cols());
      pass.factor.set(W.data(), W.rows(), W.cols());
      pass.factor.multiply(above.data(), n, nullptr, pass.input.data());
      return;
    }
    const auto l = static_cast<std::size_t>(layer - 1);
    pass.adjoint[l].resize(n, W.cols());
    pass.factor.set(W.data(), W.rows(), W.cols());
    pass.factor.multiply(above.data(), n, nullptr, pass.adjoint[l].data());
    pass.backward[l] = pass.adjoint[l] * pass.slope[l];
  }
}

void Mlp::add_gradient(ConstMatrixMap features, const double* factor, Pass& pass, double* gradient) const {
  const ConstVectorMap e(factor, features.rows());
  for (Index layer = 0; layer < layers(); ++layer) {
    const ConstMatrixMap a = below(features, pass, layer);
    Array& dz = pass.scratch;
    dz = pass.backward[static_cast<std::size_t>(layer)].colwise() * e.array();
    add_transposed_product(dz.data(), a.data(), dz.rows(), dz.cols(), a.cols(), gradient + weight_at(layer));
    add_column_sums(dz.data(), dz.rows(), dz.cols(), gradient + bias_at(layer));
  }
}

void Mlp::feature_tangent(const double* parameters, ConstMatrixMap direction, Pass& pass) const {
  pass.tangent.resize(static_cast<std::size_t>(layers() - 1));
  const double* lower = direction.data();
  for (Index layer = 0; layer + 1 < layers(); ++layer) {
    const ConstMatrixMap W = weights(parameters, layer);
    Array& tangent = pass.tangent[static_cast<std::size_t>(layer)];
    tangent.resize(direction.rows(), W.rows());
    pass.factor.set_transposed(W.data(), W.cols(), W.rows());
    pass.factor.multiply(lower, direction.rows(), nullptr, tangent.data());
    if (layer + 2 == layers()) return;  // the output is linear: nothing above needs the tangent of its input
    pass.reverse = tangent * pass.slope[static_cast<std::size_t>(layer)];
    lower = pass.reverse.data();
  }
}

void Mlp::add_second_gradient(const double* parameters, ConstMatrixMap features, const double* factor,
                              ConstMatrixMap direction, Pass& pass, double* gradient) const {
  feature_tangent(parameters, direction, pass);  // leaves the tangents of z_l
  Array& zb = pass.reverse;                      // d(sum)/d z_l
  zb = ConstVectorMap(factor, features.rows()).array();
  for (Index layer = layers() - 1; layer >= 0; --layer) {
    const ConstMatrixMap W = weights(parameters, layer);
    const ConstMatrixMap a = below(features, pass, layer);
    const Array& delta = pass.backward[static_cast<std::size_t>(layer)];
    const Index n = a.rows();
    double* dW = gradient + weight_at(layer);
    add_transposed_product(zb.data(), a.data(), n, W.rows(), W.cols(), dW);
    add_column_sums(zb.data(), n, W.rows(), gradient + bias_at(layer));
    if (layer == 0) {
      add_transposed_product(delta.data(), direction.data(), n, W.rows(), W.cols(), dW);
      return;
    }
    const auto l = static_cast<std::size_t>(layer - 1);
    Array& zdot = pass.tangent[l];
    pass.scratch.resize(zb.rows(), W.cols());
    pass.factor.set(W.data(), W.rows(), W.cols());
    pass.factor.multiply(zb.data(), n, nullptr, pass.scratch.data());
    zb = pass.slope[l] * pass.scratch + pass.curvature[l] * zdot * pass.adjoint[l];
    zdot *= pass.slope[l];  // now the tangent of a_l
    add_transposed_product(delta.data(), zdot.data(), n, W.rows(), W.cols(), dW);
  }
}

void Mlp::parameter_tangent(const double* parameters, const double* direction, ConstMatrixMap features,
                            Pass& pass, bool to_input) const {
  const Index n = features.rows();
  pass.tangent.resize(static_cast<std::size_t>(layers() - 1));
  for (Index layer = 0; layer < layers(); ++layer) {
    const ConstMatrixMap W = weights(parameters, layer);
    const ConstMatrixMap dW = weights(direction, layer);
    const ConstVectorMap db(direction + bias_at(layer), W.rows());
    Array& zdot = pass.scratch;
    zdot.resize(n, W.rows());
    pass.factor.set_transposed(dW.data(), dW.cols(), dW.rows());
    pass.factor.multiply(below(features, pass, layer).data(), n, db.data(), zdot.data());
    if (layer > 0) {  // the tangents below stay those of z: the way back needs them
      pass.reverse =
          pass.tangent[static_cast<std::size_t>(layer - 1)] * pass.slope[static_cast<std::size_t>(layer - 1)];
      pass.factor.set_transposed(W.data(), W.cols(), W.rows());
      pass.factor.multiply_add(pass.reverse.data(), n, zdot.data());
    }
    if (layer + 1 < layers())
      pass.tangent[static_cast<std::size_t>(layer)] = zdot;
    else
      pass.energy_tangent = zdot.matrix().col(0);
  }
  if (!to_input) return;
  Array& change = pass.reverse;  // of d eps / d z_l
  change.setZero(n, 1);
  for (Index layer = layers() - 1; layer >= 0; --layer) {
    const Array& delta = pass.backward[static_cast<std::size_t>(layer)];
    Array& target = layer == 0 ? pass.input_tangent : pass.scratch;
    target.resize(n, width(layer));
    const ConstMatrixMap W = weights(parameters, layer);
    pass.factor.set(weights(direction, layer).data(), W.rows(), W.cols());
    pass.factor.multiply(delta.data(), n, nullptr, target.data());
    pass.factor.set(W.data(), W.rows(), W.cols());
    pass.factor.multiply_add(change.data(), n, target.data());
    if (layer == 0) return;
    const auto l = static_cast<std::size_t>(layer - 1);
    change = pass.curvature[l] * pass.tangent[l] * pass.adjoint[l] + pass.slope[l] * target;
  }
}

}  // namespace gprann
