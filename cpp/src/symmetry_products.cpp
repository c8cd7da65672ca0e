#include <algorithm>
#include <cmath>

#include "symmetry_environment.hpp"

namespace gprann {

/// One neighbour j and a lane of neighbours k: sides, angle at the atom, product of the cutoff functions.
struct SymmetryFunctionDescriptor::Triangle {
  Index j;
  std::size_t block;         // of k
  double rij, ux, uy, uz;    // distance and direction of j
  Lane rik, rjk, cosine;     // cosine of the angle
  Lane sx, sy, sz;           // direction from j to k; zero without a third side
  Lane f, f_ij, f_ik, f_jk;  // product, and its slopes along the three sides
  const Shell* first;        // of j
  const Shell* second;       // of k
};

/// Value of one function for a lane of triangles, and its slopes along the three sides and the cosine.
struct SymmetryFunctionDescriptor::Term {
  Lane value, ij, ik, jk, cosine;

  void set_zero() {
    for (Lane* v : {&value, &ij, &ik, &jk, &cosine}) v->setZero();
  }
  void add(double factor, const Term& other) {
    ij += factor * other.ij;
    ik += factor * other.ik;
    jk += factor * other.jk;
    cosine += factor * other.cosine;
  }
};

namespace {

struct Gradient {
  Lane x, y, z;
};

/// x^n by squaring, which is faster than the general power; n >= 0.
Lane whole_power(Lane x, int n) {
  Lane result = Lane::Ones();
  for (; n > 0; n >>= 1) {
    if (n & 1) result *= x;
    x *= x;
  }
  return result;
}

Lane power(const Lane& x, double exponent) {
  constexpr double most = 1024.0;
  if (exponent == std::floor(exponent) && exponent <= most) return whole_power(x, static_cast<int>(exponent));
  return x.pow(exponent);
}

}  // namespace

/// False if the lane adds nothing.
bool SymmetryFunctionDescriptor::find_triangle(const Environment& env, const Group& group, Index j,
                                               Index block, Triangle& t) const {
  const auto jb = static_cast<std::size_t>(j / lane_width);
  const auto b = static_cast<std::size_t>(block);
  const Index e = j % lane_width;
  const Shell& one = *t.first;
  const Shell& two = *t.second;
  const Fade& fade_j = env.fades[group.first * cutoffs_.size() + group.reach];
  const Fade& fade_k = env.fades[group.second * cutoffs_.size() + group.reach];
  Lane fk = fade_k.f[b], dfk = fade_k.df[b];
  if (group.first == group.second && block * lane_width <= j)  // each pair once
    for (Index k = 0; k <= std::min(j - block * lane_width, lane_width - 1); ++k) fk[k] = dfk[k] = 0.0;
  if (!(fk > 0.0).any()) return false;
  const double fj = fade_j.f[jb][e], dfj = fade_j.df[jb][e];
  t.j = j, t.block = b;
  t.rij = one.r[jb][e], t.ux = one.x[jb][e], t.uy = one.y[jb][e], t.uz = one.z[jb][e];
  t.rik = two.r[b];
  t.cosine = (t.ux * two.x[b] + t.uy * two.y[b] + t.uz * two.z[b]).max(-1.0).min(1.0);
  t.f = fj * fk, t.f_ij = dfj * fk, t.f_ik = fj * dfk;
  t.rjk.setZero();
  for (Lane* v : {&t.sx, &t.sy, &t.sz, &t.f_jk}) v->setZero();
  if (group.type != 3) return true;
  t.sx = t.rik * two.x[b] - t.rij * t.ux;
  t.sy = t.rik * two.y[b] - t.rij * t.uy;
  t.sz = t.rik * two.z[b] - t.rij * t.uz;
  t.rjk = (t.sx * t.sx + t.sy * t.sy + t.sz * t.sz).sqrt().max(1e-10);  // of j itself it is zero
  t.sx /= t.rjk, t.sy /= t.rjk, t.sz /= t.rjk;
  Lane f, df;
  symmetry_cutoff(cutoff_type_, t.rjk, cutoffs_[group.reach], inner_cutoff_, f, df);
  t.f_jk = t.f * df;
  t.f *= f, t.f_ij *= f, t.f_ik *= f;
  return (f > 0.0).any();
}

template <class Visit>
void SymmetryFunctionDescriptor::for_each_triangle(const Environment& env, const Group& group,
                                                   Visit&& visit) const {
  Triangle triangle;
  triangle.first = &env.shells[group.first];
  triangle.second = &env.shells[group.second];
  const Fade& fade = env.fades[group.first * cutoffs_.size() + group.reach];
  for (Index j = 0; j < triangle.first->count; ++j) {
    if (fade.f[static_cast<std::size_t>(j / lane_width)][j % lane_width] == 0.0) continue;
    const Index begin = group.first == group.second ? j / lane_width : 0;
    for (Index block = begin; block < triangle.second->blocks(); ++block)
      if (find_triangle(env, group, j, block, triangle)) visit(triangle);
  }
}

/// Calls visit(component, term) for every function of a group and a lane of triangles.
template <class Visit>
void SymmetryFunctionDescriptor::for_each_angular(const Group& group, const Triangle& t,
                                                  Visit&& visit) const {
  const Function* before = nullptr;
  Term term;
  Lane decay = Lane::Zero();
  const bool narrow = group.type == 3;
  for (const Function& g : group.functions) {
    const double dij = t.rij - g.shift;
    const Lane dik = t.rik - g.shift;
    const Lane djk = t.rjk - g.shift;
    if (before == nullptr || before->eta != g.eta || before->shift != g.shift) {
      Lane squares = dij * dij + dik * dik;
      if (narrow) squares += djk * djk;
      decay = (-g.eta * squares).exp();
    }
    before = &g;
    const Lane base = 1.0 + g.lambda * t.cosine;
    const Lane lower = (g.scale * decay) * power(base, g.zeta - 1.0);
    const Lane whole = lower * base;
    const double slope = -2.0 * g.eta;
    term.value = whole * t.f;
    term.cosine = (g.zeta * g.lambda) * lower * t.f;
    term.ij = whole * t.f_ij + (slope * dij) * term.value;
    term.ik = whole * t.f_ik + slope * dik * term.value;
    term.jk.setZero();
    if (narrow) term.jk = whole * t.f_jk + slope * djk * term.value;
    visit(g.component, term);
  }
}

/// Calls visit(block, component, value, slope along the distance) for every lane of neighbours.
template <class Visit>
void SymmetryFunctionDescriptor::for_each_radial(const Environment& env, const Group& group,
                                                 Visit&& visit) const {
  const Shell& shell = env.shells[group.first];
  const Fade& fade = env.fades[group.first * cutoffs_.size() + group.reach];
  for (std::size_t b = 0; b < static_cast<std::size_t>(shell.blocks()); ++b)
    for (const Function& g : group.functions) {
      const Lane d = shell.r[b] - g.shift;
      const Lane decay = (-g.eta * d * d).exp();
      const Lane value = decay * fade.f[b];
      visit(b, g.component, value, Lane(decay * fade.df[b] - (2.0 * g.eta) * d * value));
    }
}

void SymmetryFunctionDescriptor::values(const Surroundings& found, double* values) const {
  const auto& content = static_cast<const Found&>(found);
  std::fill_n(values, content.n_atoms * size_, 0.0);
  for (Index i = 0; i < content.n_atoms; ++i, values += size_) {
    const Environment& env = content.environments[static_cast<std::size_t>(i)];
    for (const Group& group : groups_[env.species]) {
      if (group.type == 2)
        for_each_radial(env, group, [&](std::size_t, Index component, const Lane& value, const Lane&) {
          values[component] += value.sum();
        });
      else
        for_each_triangle(env, group, [&](const Triangle& triangle) {
          for_each_angular(group, triangle,
                           [&](Index component, const Term& term) { values[component] += term.value.sum(); });
        });
    }
  }
}

void SymmetryFunctionDescriptor::atom_tangent(Environment& env, double* tangent) const {
  std::fill_n(tangent, size_, 0.0);
  for (const Group& group : groups_[env.species]) {
    if (group.type == 2) {
      const Shell& shell = env.shells[group.first];
      for_each_radial(env, group, [&](std::size_t b, Index component, const Lane&, const Lane& slope) {
        const Lane rate = shell.x[b] * shell.vx[b] + shell.y[b] * shell.vy[b] + shell.z[b] * shell.vz[b];
        tangent[component] += (slope * rate).sum();
      });
      continue;
    }
    for_each_triangle(env, group, [&](const Triangle& t) {
      const auto jb = static_cast<std::size_t>(t.j / lane_width);
      const Index e = t.j % lane_width;
      const Shell& two = *t.second;
      const double vx = t.first->vx[jb][e], vy = t.first->vy[jb][e], vz = t.first->vz[jb][e];
      const double ij = t.ux * vx + t.uy * vy + t.uz * vz;
      const Lane &kx = two.x[t.block], &ky = two.y[t.block], &kz = two.z[t.block];
      const Lane &wx = two.vx[t.block], &wy = two.vy[t.block], &wz = two.vz[t.block];
      const Lane ik = kx * wx + ky * wy + kz * wz;
      const Lane jk = t.sx * (wx - vx) + t.sy * (wy - vy) + t.sz * (wz - vz);
      const Lane cosine = (kx * vx + ky * vy + kz * vz - t.cosine * ij) / t.rij +
                          (t.ux * wx + t.uy * wy + t.uz * wz - t.cosine * ik) * two.inverse_r[t.block];
      for_each_angular(group, t, [&](Index component, const Term& term) {
        tangent[component] += (term.ij * ij + term.ik * ik + term.jk * jk + term.cosine * cosine).sum();
      });
    });
  }
}

namespace {

/// Gradients with respect to the vectors to j (a lane, to be summed) and k from slopes along sides and
/// cosine.
template <class Triangle, class Term>
void find_gradients(const Triangle& t, const Term& term, Gradient& at_j, Gradient& at_k) {
  const Shell& two = *t.second;
  const Lane &kx = two.x[t.block], &ky = two.y[t.block], &kz = two.z[t.block];
  const Lane over_j = term.cosine / t.rij;
  const Lane over_k = term.cosine * two.inverse_r[t.block];
  const Lane along_j = term.ij - over_j * t.cosine;
  const Lane along_k = term.ik - over_k * t.cosine;
  at_j = {along_j * t.ux + over_j * kx - term.jk * t.sx, along_j * t.uy + over_j * ky - term.jk * t.sy,
          along_j * t.uz + over_j * kz - term.jk * t.sz};
  at_k = {along_k * kx + over_k * t.ux + term.jk * t.sx, along_k * ky + over_k * t.uy + term.jk * t.sy,
          along_k * kz + over_k * t.uz + term.jk * t.sz};
}

}  // namespace

void SymmetryFunctionDescriptor::atom_gradients(Environment& env, const double* cotangent) const {
  for (Shell& shell : env.shells)
    for (std::size_t b = 0; b < static_cast<std::size_t>(shell.blocks()); ++b)
      for (auto* v : {&shell.gx, &shell.gy, &shell.gz}) (*v)[b].setZero();
  for (const Group& group : groups_[env.species]) {
    Shell& one = env.shells[group.first];
    Shell& two = env.shells[group.second];
    if (group.type == 2) {
      for_each_radial(env, group, [&](std::size_t b, Index component, const Lane&, const Lane& slope) {
        const Lane g = cotangent[component] * slope;
        one.gx[b] += g * one.x[b], one.gy[b] += g * one.y[b], one.gz[b] += g * one.z[b];
      });
      continue;
    }
    for_each_triangle(env, group, [&](const Triangle& t) {
      Term sum;
      sum.set_zero();
      for_each_angular(group, t,
                       [&](Index component, const Term& term) { sum.add(cotangent[component], term); });
      Gradient at_j, at_k;
      find_gradients(t, sum, at_j, at_k);
      const auto jb = static_cast<std::size_t>(t.j / lane_width);
      const Index e = t.j % lane_width;
      one.gx[jb][e] += at_j.x.sum(), one.gy[jb][e] += at_j.y.sum(), one.gz[jb][e] += at_j.z.sum();
      two.gx[t.block] += at_k.x, two.gy[t.block] += at_k.y, two.gz[t.block] += at_k.z;
    });
  }
}

void SymmetryFunctionDescriptor::atom_slopes(const Environment& env, std::int64_t first,
                                             MatrixMap& slopes) const {
  auto add = [&](const Shell& shell, Index k, Index component, const Gradient& g, Index e) {
    const std::int64_t pair = shell.pair[static_cast<std::size_t>(k)];
    if (pair < 0) return;
    const Index row = 3 * (pair - first);
    slopes(row, component) += g.x[e];
    slopes(row + 1, component) += g.y[e];
    slopes(row + 2, component) += g.z[e];
  };
  for (const Group& group : groups_[env.species]) {
    const Shell& one = env.shells[group.first];
    if (group.type == 2) {
      for_each_radial(env, group, [&](std::size_t b, Index component, const Lane&, const Lane& slope) {
        const Gradient g{slope * one.x[b], slope * one.y[b], slope * one.z[b]};
        for (Index e = 0; e < lane_width; ++e)
          add(one, static_cast<Index>(b) * lane_width + e, component, g, e);
      });
      continue;
    }
    for_each_triangle(env, group, [&](const Triangle& t) {
      for_each_angular(group, t, [&](Index component, const Term& term) {
        Gradient at_j, at_k;
        find_gradients(t, term, at_j, at_k);
        for (Lane* v : {&at_j.x, &at_j.y, &at_j.z}) (*v)[0] = v->sum();
        add(one, t.j, component, at_j, 0);
        for (Index e = 0; e < lane_width; ++e)
          add(*t.second, static_cast<Index>(t.block) * lane_width + e, component, at_k, e);
      });
    });
  }
}

void SymmetryFunctionDescriptor::jvp(const Neighbours& batch, Surroundings& found, const double* direction,
                                     const double* strain, double* tangent) const {
  auto& content = static_cast<Found&>(found);
  for (Index i = 0; i < content.n_atoms; ++i) {
    Environment& env = content.environments[static_cast<std::size_t>(i)];
    for (Shell& shell : env.shells)
      set_direction(batch, content.first + i, direction - 3 * content.origin, strain, shell);
    atom_tangent(env, tangent + i * size_);
  }
}

void SymmetryFunctionDescriptor::add_vjp(const Neighbours& batch, Surroundings& found,
                                         const double* cotangent, double* gradient, double* virial) const {
  auto& content = static_cast<Found&>(found);
  for (Index i = 0; i < content.n_atoms; ++i) {
    Environment& env = content.environments[static_cast<std::size_t>(i)];
    atom_gradients(env, cotangent + i * size_);
    for (const Shell& shell : env.shells)
      add_pair_gradients(batch, content.first + i, shell, gradient - 3 * content.origin, virial);
  }
}

void SymmetryFunctionDescriptor::slopes(const Neighbours& batch, Surroundings& found, double* slopes) const {
  auto& content = static_cast<Found&>(found);
  for (Index i = 0; i < content.n_atoms; ++i) {
    const std::int64_t first = batch.first_pair[content.first + i];
    MatrixMap own(slopes, 3 * (batch.first_pair[content.first + i + 1] - first), size_);
    own.setZero();
    atom_slopes(content.environments[static_cast<std::size_t>(i)], first, own);
    slopes += own.size();
  }
}

}  // namespace gprann
