#include "gprann/density_invariants.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace gprann {

namespace {

constexpr int highest_l = 8;  // of the power spectrum: loops over m are unrolled up to it

class PairInvariants final : public DensityInvariants {
 public:
  explicit PairInvariants(const DensityExpansion& expansion)
      : size_(expansion.n_functions()), n_max_(expansion.n_max()) {}

  Index size() const override { return size_; }

  std::vector<Term> terms() const override {
    std::vector<Term> terms;
    for (int q = 0; q < size_; ++q)
      terms.push_back({2, {q / n_max_, -1, -1}, {q % n_max_, -1, -1}, {0, -1, -1}});
    return terms;
  }

  void values(const Lane* moments, Workspace&, double* values) const override {
    std::copy_n(moments->data(), size_, values);
  }
  void tangents(const Lane*, const Lane* change, Workspace&, double* tangents) const override {
    std::copy_n(change->data(), size_, tangents);
  }
  void gradients(const Lane*, const double* beta, Workspace&, Lane* cotangent) const override {
    double* out = cotangent->data();
    std::copy_n(beta, size_, out);
    std::fill(out + size_, out + chunk(size_) * lane_width, 0.0);
  }

 private:
  static Index chunk(Index n) { return (n + lane_width - 1) / lane_width; }
  Index size_;
  int n_max_;
};

class PowerSpectrum final : public DensityInvariants {
 public:
  explicit PowerSpectrum(const DensityExpansion& expansion)
      : n_functions_(expansion.n_functions()),
        n_max_(expansion.n_max()),
        l_max_(expansion.l_max()),
        stride_(expansion.stride()) {
    if (l_max_ > highest_l)
      throw std::invalid_argument("the power spectrum has l up to " + std::to_string(highest_l) + ", got " +
                                  std::to_string(l_max_));
  }

  Index size() const override { return (l_max_ + 1) * n_pairs(); }

  std::vector<Term> terms() const override {
    std::vector<Term> terms;
    for (int l = 0; l <= l_max_; ++l)
      for (int q = 0; q < n_functions_; ++q)
        for (int p = q; p < n_functions_; ++p)
          terms.push_back({3, {q / n_max_, p / n_max_, -1}, {q % n_max_, p % n_max_, -1}, {l, l, -1}});
    return terms;
  }

  void values(const Lane* moments, Workspace& work, double* values) const override {
    work.a.resize(static_cast<std::size_t>(stride_));
    for_each_l([&](auto width, int l) {
      constexpr int M = decltype(width)::value;
      const Lane* A = moments + l * l * stride_;
      double* out = values + l * n_pairs();
      for (Index q = 0; q < n_functions_; ++q) {
        double own[M];
        for (int m = 0; m < M; ++m) own[m] = scale(l) * element(A, m, q);
        for (Index b = q / lane_width; b < stride_; ++b) {
          Lane sum = own[0] * A[b];
          for (int m = 1; m < M; ++m) sum += own[m] * A[m * stride_ + b];
          work.a[static_cast<std::size_t>(b)] = sum;
        }
        out = std::copy(work.a.data()->data() + q, work.a.data()->data() + n_functions_, out);
      }
    });
  }

  void tangents(const Lane* moments, const Lane* change, Workspace& work, double* tangents) const override {
    work.a.resize(static_cast<std::size_t>(stride_));
    for_each_l([&](auto width, int l) {
      constexpr int M = decltype(width)::value;
      const Lane* A = moments + l * l * stride_;
      const Lane* dA = change + l * l * stride_;
      double* out = tangents + l * n_pairs();
      for (Index q = 0; q < n_functions_; ++q) {
        double own[M], moved[M];
        bool moves = false;  // changes of one neighbour are seen by the channels of its species alone
        for (int m = 0; m < M; ++m) own[m] = scale(l) * element(A, m, q);
        for (int m = 0; m < M; ++m) moved[m] = scale(l) * element(dA, m, q);
        for (int m = 0; m < M; ++m) moves = moves || moved[m] != 0.0;
        for (Index b = q / lane_width; b < stride_; ++b) {
          Lane sum = own[0] * dA[b];
          for (int m = 1; m < M; ++m) sum += own[m] * dA[m * stride_ + b];
          for (int m = 0; moves && m < M; ++m) sum += moved[m] * A[m * stride_ + b];
          work.a[static_cast<std::size_t>(b)] = sum;
        }
        out = std::copy(work.a.data()->data() + q, work.a.data()->data() + n_functions_, out);
      }
    });
  }

  void gradients(const Lane* moments, const double* beta, Workspace& work, Lane* cotangent) const override {
    work.a.resize(static_cast<std::size_t>(n_functions_ * stride_));
    const Index width_of_row = stride_ * lane_width;
    double* both = work.a.data()->data();  // beta of one l as a symmetric matrix, its diagonal doubled
    for (Index q = 0; q < n_functions_; ++q)
      std::fill(both + q * width_of_row + n_functions_, both + (q + 1) * width_of_row, 0.0);
    for_each_l([&](auto width, int l) {
      constexpr int M = decltype(width)::value;
      const double factor = scale(l);
      const double* in = beta + l * n_pairs();
      for (Index q = 0; q < n_functions_; ++q) {
        double* row = both + q * width_of_row;
        for (Index p = q; p < n_functions_; ++p) {
          const double value = factor * *in++;
          row[p] = value;
          both[p * width_of_row + q] = value;
        }
        row[q] *= 2.0;
      }
      const Lane* A = moments + l * l * stride_;
      Lane* out = cotangent + l * l * stride_;
      for (Index b = 0; b < stride_; ++b) {
        Lane sum[M];
        for (int m = 0; m < M; ++m) sum[m].setZero();
        for (Index q = 0; q < n_functions_; ++q) {
          const Lane& weight = work.a[static_cast<std::size_t>(q * stride_ + b)];
          for (int m = 0; m < M; ++m) sum[m] += element(A, m, q) * weight;
        }
        for (int m = 0; m < M; ++m) out[m * stride_ + b] = sum[m];
      }
    });
  }

 private:
  template <int M>
  struct Width {
    static constexpr int value = M;
  };

  Index n_pairs() const { return n_functions_ * (n_functions_ + 1) / 2; }
  static double scale(int l) { return std::sqrt(2.0 * l + 1.0) / (4.0 * pi); }
  double element(const Lane* A, int m, Index q) const { return A->data()[m * stride_ * lane_width + q]; }

  /// Calls work(2l + 1 as a constant, l) for every l, so that loops over m are unrolled.
  template <class Work>
  void for_each_l(Work&& work) const {
    for (int l = 0; l <= l_max_; ++l) switch (l) {
        case 0:
          work(Width<1>(), l);
          break;
        case 1:
          work(Width<3>(), l);
          break;
        case 2:
          work(Width<5>(), l);
          break;
        case 3:
          work(Width<7>(), l);
          break;
        case 4:
          work(Width<9>(), l);
          break;
        case 5:
          work(Width<11>(), l);
          break;
        case 6:
          work(Width<13>(), l);
          break;
        case 7:
          work(Width<15>(), l);
          break;
        default:
          work(Width<17>(), l);
      }
  }

  Index n_functions_;
  int n_max_, l_max_;
  Index stride_;
};

}  // namespace

std::unique_ptr<DensityInvariants> make_pair_invariants(const DensityExpansion& expansion) {
  if (expansion.l_max() != 0) throw std::invalid_argument("2-body invariants have l = 0 alone");
  return std::make_unique<PairInvariants>(expansion);
}

std::unique_ptr<DensityInvariants> make_power_spectrum(const DensityExpansion& expansion) {
  return std::make_unique<PowerSpectrum>(expansion);
}

}  // namespace gprann
