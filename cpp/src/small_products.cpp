#include "gprann/small_products.hpp"

#include <algorithm>

namespace gprann {
namespace {

namespace packet = Eigen::internal;
using Packet = packet::packet_traits<double>::type;
constexpr Index width = packet::packet_traits<double>::size;
constexpr Index tile_rows = 4;
constexpr Index tile_packets =
    3;  // with four rows: twelve sums, a register for each, and four for the factors

Packet load(const double* from) { return packet::ploadu<Packet>(from); }

/// Keeps a value in its register, where the compiler would read it from memory again for every use.
void keep([[maybe_unused]] Packet& value) {
#if defined(__GNUC__) && defined(__x86_64__)
  asm("" : "+x"(value));
#endif
}

/// Writes the first `count` numbers of a packet, over what is there or added to it.
template <bool add>
void store(const Packet& value, double* to, Index count) {
  if (count >= width) {
    packet::pstoreu(to, add ? packet::padd(load(to), value) : value);
    return;
  }
  double numbers[width];
  packet::pstoreu(numbers, value);
  for (Index i = 0; i < width - 1; ++i)  // of known length: unrolled
    if (i < count) to[i] = add ? to[i] + numbers[i] : numbers[i];
}

/// Adds the last numbers of a packet, from `skip` on.
void add_last(const Packet& value, double* to, Index skip) {
  double numbers[width];
  packet::pstoreu(numbers, value);
  for (Index i = 1; i < width; ++i)
    if (i >= skip) to[i] += numbers[i];
}

/// Rows by packets of A B, columns from `column` on.
template <bool add, int rows, int packets>
EIGEN_DONT_INLINE void multiply_tile(const double* A, Index k, const double* B, Index padded,
                                     const double* start, double* C, Index m, Index column) {
  Packet sums[rows][packets];
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < packets; ++c)
      sums[r][c] = start == nullptr ? packet::pset1<Packet>(0.0) : load(start + column + c * width);
  const double* b = B + column;
  for (Index i = 0; i < k; ++i, b += padded) {
    Packet factor[packets];
    for (int c = 0; c < packets; ++c) keep(factor[c] = load(b + c * width));
    for (int r = 0; r < rows; ++r) {
      const Packet a = packet::pset1<Packet>(A[r * k + i]);
      for (int c = 0; c < packets; ++c) sums[r][c] = packet::pmadd(a, factor[c], sums[r][c]);
    }
  }
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < packets; ++c)
      store<add>(sums[r][c], C + r * m + column + c * width, m - column - c * width);
}

/// Rows [r0, r0 + rows) of A^T B, packets of columns from `column` on, of which the first `skip` are known
/// already.
template <int rows, int packets>
EIGEN_DONT_INLINE void transposed_tile(const double* A, const double* B, Index n, Index p, Index q, double* C,
                                       Index r0, Index column, Index skip) {
  Packet sums[rows][packets];
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < packets; ++c) sums[r][c] = packet::pset1<Packet>(0.0);
  const double* a = A + r0;
  const double* b = B + column;
  for (Index i = 0; i < n; ++i, a += p, b += q) {
    Packet factor[packets];
    for (int c = 0; c < packets; ++c) keep(factor[c] = load(b + c * width));
    for (int r = 0; r < rows; ++r) {
      const Packet left = packet::pset1<Packet>(a[r]);
      for (int c = 0; c < packets; ++c) sums[r][c] = packet::pmadd(left, factor[c], sums[r][c]);
    }
  }
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < packets; ++c) {
      double* target = C + (r0 + r) * q + column + c * width;
      if (skip == 0)
        store<true>(sums[r][c], target, width);
      else
        add_last(sums[r][c], target, skip);
    }
}

template <int value>
struct Constant {
  static constexpr int of = value;
};

/// Calls work(Constant<count>) for a count in [1, 4].
template <class Work>
void with_constant(Index count, Work&& work) {
  switch (count) {
    case 1:
      return work(Constant<1>());
    case 2:
      return work(Constant<2>());
    case 3:
      return work(Constant<3>());
    default:
      return work(Constant<4>());
  }
}

}  // namespace

void RightFactor::resize(Index k, Index m) {
  k_ = k;
  m_ = m;
  padded_ = (m + width - 1) / width * width;
  values_.assign(static_cast<std::size_t>(k * padded_), 0.0);
}

void RightFactor::set(const double* B, Index k, Index m) {
  resize(k, m);
  for (Index i = 0; i < k; ++i) std::copy_n(B + i * m, m, values_.data() + i * padded_);
}

void RightFactor::set_transposed(const double* B, Index k, Index m) {
  resize(k, m);
  for (Index j = 0; j < m; ++j)
    for (Index i = 0; i < k; ++i) values_[static_cast<std::size_t>(i * padded_ + j)] = B[j * k + i];
}

template <bool add>
void RightFactor::run(const double* A, Index n, const double* start, double* C) const {
  for (Index row = 0; row < n; row += tile_rows) {
    with_constant(std::min(tile_rows, n - row), [&](auto rows) {
      for (Index column = 0; column < m_; column += tile_packets * width) {
        const Index left = (padded_ - column) / width;
        with_constant(std::min(tile_packets, left), [&](auto packets) {
          constexpr int count = std::min<int>(decltype(packets)::of, tile_packets);
          multiply_tile<add, decltype(rows)::of, count>(A + row * k_, k_, values_.data(), padded_, start,
                                                        C + row * m_, m_, column);
        });
      }
    });
  }
}

void RightFactor::multiply(const double* A, Index n, const double* start, double* C) const {
  if (start != nullptr) {
    start_.assign(static_cast<std::size_t>(padded_), 0.0);
    std::copy_n(start, m_, start_.data());
  }
  run<false>(A, n, start == nullptr ? nullptr : start_.data(), C);
}

void RightFactor::multiply_add(const double* A, Index n, double* C) const { run<true>(A, n, nullptr, C); }

void add_transposed_product(const double* A, const double* B, Index n, Index p, Index q, double* C) {
  if (q < width) {
    for (Index i = 0; i < n; ++i)
      for (Index r = 0; r < p; ++r)
        for (Index c = 0; c < q; ++c) C[r * q + c] += A[i * p + r] * B[i * q + c];
    return;
  }
  const Index whole = q / width;
  for (Index r0 = 0; r0 < p; r0 += tile_rows) {
    with_constant(std::min(tile_rows, p - r0), [&](auto rows) {
      constexpr int count_rows = decltype(rows)::of;
      for (Index first = 0; first < whole; first += tile_packets)
        with_constant(std::min(tile_packets, whole - first), [&](auto packets) {
          constexpr int count = std::min<int>(decltype(packets)::of, tile_packets);
          transposed_tile<count_rows, count>(A, B, n, p, q, C, r0, first * width, 0);
        });
      // The rest of the columns: a packet that ends with the last of them.
      if (whole * width < q)
        transposed_tile<count_rows, 1>(A, B, n, p, q, C, r0, q - width, width - (q - whole * width));
    });
  }
}

void add_column_sums(const double* A, Index n, Index m, double* sums) {
  Index j = 0;
  for (; j + width <= m; j += width) {
    Packet sum = load(sums + j);
    for (Index i = 0; i < n; ++i) sum = packet::padd(sum, load(A + i * m + j));
    packet::pstoreu(sums + j, sum);
  }
  for (; j < m; ++j) {
    double sum = sums[j];
    for (Index i = 0; i < n; ++i) sum += A[i * m + j];
    sums[j] = sum;
  }
}

}  // namespace gprann
