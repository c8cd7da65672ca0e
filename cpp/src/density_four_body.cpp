#include <algorithm>
#include <cstdint>

#include "gaunt.hpp"
#include "gprann/density_invariants.hpp"

namespace gprann {

namespace {

/// Every product of three moments stands at (q1, q3, q2), lanes over q2; `place` says which invariant it is.
/// Partners of equal l may be exchanged: one of every such set is kept.
class FourBodyInvariants final : public DensityInvariants {
 public:
  explicit FourBodyInvariants(const DensityExpansion& expansion)
      : n_functions_(expansion.n_functions()),
        n_max_(expansion.n_max()),
        n_rows_(expansion.rows()),
        stride_(expansion.stride()) {
    for (int l3 = 1; l3 <= expansion.l_max(); ++l3)
      for (int l2 = 1; l2 <= l3; ++l2)
        for (int l1 = 1; l1 <= l2; ++l1)
          if ((l1 + l2 + l3) % 2 == 0 && l3 <= l1 + l2) add_coupling(l1, l2, l3);
  }

  Index size() const override { return size_; }

  std::vector<Term> terms() const override {
    std::vector<Term> terms;
    for (const Coupling& coupling : couplings_)
      for (const Kept& kept : coupling.kept) {
        Term term{4, {}, {}, {coupling.l1, coupling.l2, coupling.l3}};
        for (std::size_t k = 0; k < 3; ++k) {
          term.channel[k] = kept.q[k] / n_max_;
          term.n[k] = kept.q[k] % n_max_;
        }
        terms.push_back(term);
      }
    return terms;
  }

  void values(const Lane* moments, Workspace& work, double* values) const override {
    for (const Coupling& coupling : couplings_) {
      work.d.resize(n_products());
      for (Index q = 0; q < n_functions_; ++q) {
        fold(coupling, moments, moments, q, false, work);
        close(coupling, moments, q, false, work);
      }
      values = pick(coupling, work.d, values);
    }
  }

  void tangents(const Lane* moments, const Lane* change, Workspace& work, double* tangents) const override {
    for (const Coupling& coupling : couplings_) {
      work.d.resize(n_products());
      for (Index q = 0; q < n_functions_; ++q) {
        fold(coupling, moments, change, q, false, work);
        fold(coupling, change, moments, q, true, work);
        close(coupling, moments, q, false, work);
        fold(coupling, moments, moments, q, false, work);
        close(coupling, change, q, true, work);
      }
      tangents = pick(coupling, work.d, tangents);
    }
  }

  void gradients(const Lane* moments, const double* beta, Workspace& work, Lane* cotangent) const override {
    std::fill_n(cotangent->data(), n_rows_ * stride_ * lane_width, 0.0);
    for (const Coupling& coupling : couplings_) {
      work.d.assign(n_products(), Lane::Zero());
      double* expanded = work.d.data()->data();
      for (const Kept& kept : coupling.kept) expanded[kept.product] = *beta++;
      add_gradients(coupling, moments, work, cotangent);
    }
  }

  bool has_jacobian() const override { return true; }

  /// The factor that a moment has in a product is the fold of the two others: three tables for each coupling.
  void jacobian(const Lane* moments, Workspace& work, double* derivatives) const override {
    const Index width = n_rows_ * n_functions_;
    std::fill_n(derivatives, size_ * width, 0.0);
    for (const Coupling& coupling : couplings_) {
      const std::array<int, 3> l{coupling.l1, coupling.l2, coupling.l3};
      fold_others(coupling, moments, {2, 1, 0}, work.a);
      fold_others(coupling, moments, {0, 2, 1}, work.b);
      fold_others(coupling, moments, {0, 1, 2}, work.c);
      const std::array<const double*, 3> table{work.a.data()->data(), work.b.data()->data(),
                                               work.c.data()->data()};
      for (const Kept& kept : coupling.kept) {
        const auto [i, j, k] = kept.q;
        const std::array<std::array<int, 2>, 3> others{{{k, j}, {i, k}, {i, j}}};
        for (std::size_t slot = 0; slot < 3; ++slot) {
          const Index stride = stride_ * lane_width, n = 2 * l[slot] + 1;
          const double* factor = table[slot] + others[slot][0] * n * stride + others[slot][1];
          double* out = derivatives + l[slot] * l[slot] * n_functions_ + kept.q[slot];
          for (Index m = 0; m < n; ++m) out[m * n_functions_] += factor[m * stride];
        }
        derivatives += width;
      }
    }
  }

 private:
  struct Kept {
    std::array<int, 3> q;
    Index product;
  };
  struct Coupling {
    int l1, l2, l3;
    std::vector<Gaunt> coefficients;
    std::vector<Kept> kept;
  };

  std::size_t n_products() const { return static_cast<std::size_t>(n_functions_ * n_functions_ * stride_); }

  void add_coupling(int l1, int l2, int l3) {
    Coupling coupling{l1, l2, l3, gaunt_coefficients(l1, l2, l3), {}};
    const auto n = static_cast<int>(n_functions_);
    for (int i = 0; i < n; ++i)
      for (int j = 0; j < n; ++j)
        for (int k = 0; k < n; ++k) {
          if ((l1 == l2 && i > j) || (l2 == l3 && j > k)) continue;
          coupling.kept.push_back({{i, j, k}, (i * n_functions_ + k) * stride_ * lane_width + j});
        }
    size_ += static_cast<Index>(coupling.kept.size());
    couplings_.push_back(std::move(coupling));
  }

  double element(const Lane* A, int row, Index q) const { return A->data()[row * stride_ * lane_width + q]; }

  /// T[m3, q2] = sum over m1, m2 of G first_q,l1m1 second_q2,l2m2, added to what stands there or not.
  void fold(const Coupling& coupling, const Lane* first, const Lane* second, Index q, bool add,
            Workspace& work) const {
    const auto size = static_cast<std::size_t>((2 * coupling.l3 + 1) * stride_);
    if (add)
      work.a.resize(size);
    else
      work.a.assign(size, Lane::Zero());
    const int row1 = coupling.l1 * coupling.l1, row2 = coupling.l2 * coupling.l2;
    for (const Gaunt& g : coupling.coefficients) {
      const double weight = g.value * element(first, row1 + g.m1, q);
      if (weight == 0.0) continue;  // changes of one neighbour are seen by the channels of its species alone
      const Lane* in = second + (row2 + g.m2) * stride_;
      Lane* out = work.a.data() + g.m3 * stride_;
      for (Index b = 0; b < stride_; ++b) out[b] += weight * in[b];
    }
  }

  /// T[q, m, q'] = sum over the two other m of G A_q A_q', q of slot `order[0]`, q' (lanes) and m of the
  /// others.
  void fold_others(const Coupling& coupling, const Lane* A, const std::array<std::size_t, 3>& order,
                   std::vector<Lane>& folded) const {
    const std::array<int, 3> l{coupling.l1, coupling.l2, coupling.l3};
    const Index n = 2 * l[order[2]] + 1;
    const int row1 = l[order[0]] * l[order[0]], row2 = l[order[1]] * l[order[1]];
    folded.assign(static_cast<std::size_t>(n_functions_ * n * stride_), Lane::Zero());
    for (Index q = 0; q < n_functions_; ++q)
      for (const Gaunt& g : coupling.coefficients) {
        const std::array<int, 3> m{g.m1, g.m2, g.m3};
        const double weight = g.value * element(A, row1 + m[order[0]], q);
        const Lane* in = A + (row2 + m[order[1]]) * stride_;
        Lane* out = folded.data() + (q * n + m[order[2]]) * stride_;
        for (Index b = 0; b < stride_; ++b) out[b] += weight * in[b];
      }
  }

  /// Products [q, q3, q2] = sum over m3 of T[m3, q2] third_q3,l3m3, added or not.
  void close(const Coupling& coupling, const Lane* third, Index q, bool add, Workspace& work) const {
    const int row3 = coupling.l3 * coupling.l3;
    for (Index k = 0; k < n_functions_; ++k)
      for (Index b = 0; b < stride_; ++b) {
        Lane& product = work.d[static_cast<std::size_t>((q * n_functions_ + k) * stride_ + b)];
        Lane sum = add ? product : Lane(Lane::Zero());
        for (int m = 0; m <= 2 * coupling.l3; ++m)
          sum += element(third, row3 + m, k) * work.a[static_cast<std::size_t>(m * stride_ + b)];
        product = sum;
      }
  }

  static double* pick(const Coupling& coupling, const std::vector<Lane>& products, double* out) {
    const double* in = products.data()->data();
    for (const Kept& kept : coupling.kept) *out++ = in[kept.product];
    return out;
  }

  void add_gradients(const Coupling& coupling, const Lane* moments, Workspace& work, Lane* cotangent) const {
    const int row1 = coupling.l1 * coupling.l1, row2 = coupling.l2 * coupling.l2,
              row3 = coupling.l3 * coupling.l3;
    const int width3 = 2 * coupling.l3 + 1;
    double* out = cotangent->data();
    const Index row_width = stride_ * lane_width;
    work.c.assign(static_cast<std::size_t>(width3 * n_functions_),
                  Lane::Zero());  // of A_q3, before its sum over q2
    for (Index q = 0; q < n_functions_; ++q) {
      fold(coupling, moments, moments, q, false, work);
      work.b.assign(static_cast<std::size_t>(width3 * stride_), Lane::Zero());  // of T[m3, q2]
      for (Index k = 0; k < n_functions_; ++k)
        for (Index b = 0; b < stride_; ++b) {
          const Lane& beta = work.d[static_cast<std::size_t>((q * n_functions_ + k) * stride_ + b)];
          for (int m = 0; m < width3; ++m) {
            const auto at = static_cast<std::size_t>(m * stride_ + b);
            work.b[at] += element(moments, row3 + m, k) * beta;
            work.c[static_cast<std::size_t>(m * n_functions_ + k)] += beta * work.a[at];
          }
        }
      work.e.assign(static_cast<std::size_t>(2 * coupling.l1 + 1),
                    Lane::Zero());  // of A_q, before its sum over q2
      for (const Gaunt& g : coupling.coefficients) {
        const double weight = g.value * element(moments, row1 + g.m1, q);
        for (Index b = 0; b < stride_; ++b) {
          const Lane& of_fold = work.b[static_cast<std::size_t>(g.m3 * stride_ + b)];
          cotangent[(row2 + g.m2) * stride_ + b] += weight * of_fold;
          work.e[static_cast<std::size_t>(g.m1)] += g.value * moments[(row2 + g.m2) * stride_ + b] * of_fold;
        }
      }
      for (int m = 0; m <= 2 * coupling.l1; ++m)
        out[(row1 + m) * row_width + q] += work.e[static_cast<std::size_t>(m)].sum();
    }
    for (int m = 0; m < width3; ++m)
      for (Index k = 0; k < n_functions_; ++k)
        out[(row3 + m) * row_width + k] += work.c[static_cast<std::size_t>(m * n_functions_ + k)].sum();
  }

  Index n_functions_;
  int n_max_;
  Index n_rows_, stride_;
  Index size_ = 0;
  std::vector<Coupling> couplings_;
};

}  // namespace

std::unique_ptr<DensityInvariants> make_four_body_invariants(const DensityExpansion& expansion) {
  return std::make_unique<FourBodyInvariants>(expansion);
}

}  // namespace gprann
