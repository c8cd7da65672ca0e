#include "position_lists.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "failure.hpp"

namespace gprann {

namespace {

constexpr double closest = 0.05;  // Å; nearer atoms lie on top of each other, as Python has it

Failure impossible(const std::string& what) { return {GPRANN_ARGUMENT_ERROR, what}; }

}  // namespace

void PositionLists::set(const gprann_atoms& atoms, int n_species, double cutoff, double near) {
  if (atoms.n_atoms < 0 || atoms.n_centres < 0 || atoms.n_centres > atoms.n_atoms)
    throw impossible("n_atoms = " + std::to_string(atoms.n_atoms) + ", n_centres = " +
                     std::to_string(atoms.n_centres) + ": expected 0 <= n_centres <= n_atoms");
  if (atoms.n_atoms > 0 && (atoms.positions == nullptr || atoms.species == nullptr))
    throw impossible("positions or species are NULL");
  if (atoms.n_centres > 0 && (atoms.n_neighbours == nullptr || atoms.neighbours == nullptr))
    throw impossible("n_neighbours or neighbours are NULL");
  atoms_ = atoms;
  squared_ = cutoff * cutoff;
  near_squared_ = near * near;
  renumber(atoms);
  const auto n = static_cast<std::size_t>(atoms.n_atoms);
  species_.resize(n);
  double sum = 0.0;  // not finite if any position is not
  for (std::size_t i = 0; i < n; ++i) {
    const int kind = atoms.species[given(static_cast<Index>(i))];
    if (kind < 0 || kind >= n_species)
      throw impossible("species of atom " + std::to_string(given(static_cast<Index>(i))) + " is " +
                       std::to_string(kind) + ": expected 0 to " + std::to_string(n_species - 1));
    species_[i] = kind;
    sum += 0.0 * (positions_[3 * i] + positions_[3 * i + 1] + positions_[3 * i + 2]);
  }
  if (!(sum == 0.0)) throw impossible("a position is not finite");
  first_atom_[1] = atoms.n_atoms;
  batch_ = {1, atoms.n_atoms, first_atom_, nullptr, nullptr, nullptr, species_.data()};
  for (Block& block : blocks_) block.near.clear();
}

/// Numbers the centres from zero on.
void PositionLists::renumber(const gprann_atoms& atoms) {
  given_.clear();
  place_.clear();
  positions_ = atoms.positions;
  bool same = true;
  for (int k = 0; atoms.centres != nullptr && k < atoms.n_centres; ++k) same = same && atoms.centres[k] == k;
  if (same) return;
  const auto n = static_cast<std::size_t>(atoms.n_atoms);
  place_.assign(n, -1);
  for (int k = 0; k < atoms.n_centres; ++k) {
    const int atom = atoms.centres[k];
    if (atom < 0 || atom >= atoms.n_atoms || place_[static_cast<std::size_t>(atom)] >= 0)
      throw impossible("centre " + std::to_string(atom) + " is no atom, or occurs twice");
    place_[static_cast<std::size_t>(atom)] = k;
    given_.push_back(atom);
  }
  for (std::size_t atom = 0; atom < n; ++atom)
    if (place_[atom] < 0) {
      place_[atom] = static_cast<std::int32_t>(given_.size());
      given_.push_back(static_cast<std::int32_t>(atom));
    }
  own_positions_.resize(3 * n);
  for (std::size_t i = 0; i < n; ++i)
    std::copy_n(atoms.positions + 3 * static_cast<std::size_t>(given_[i]), 3, own_positions_.data() + 3 * i);
  positions_ = own_positions_.data();
}

void PositionLists::prepare(int n_threads) {
  if (blocks_.size() < static_cast<std::size_t>(n_threads))
    blocks_.resize(static_cast<std::size_t>(n_threads));
}

const Neighbours& PositionLists::lists(Index begin, Index end, int thread) {
  Block& block = blocks_[static_cast<std::size_t>(thread)];
  return block.fill(batch_, begin, end,
                    [&](Index atom, std::size_t n_pairs) { return add_atom(atom, block, n_pairs); });
}

/// Appends the pairs of one atom within the cutoff; returns how many pairs there are then.
std::size_t PositionLists::add_atom(Index atom, Block& block, std::size_t n_pairs) const {
  const Index own = given(atom);
  const int n = atoms_.n_neighbours[own];
  if (n < 0 || (n > 0 && atoms_.neighbours[own] == nullptr))
    throw impossible("the neighbour list of atom " + std::to_string(own) + " is missing");
  const std::size_t first = n_pairs;
  block.reserve(n_pairs, static_cast<std::size_t>(n) + 1);
  const int* list = atoms_.neighbours[own];
  const int mask = atoms_.neighbour_mask == 0 ? ~0 : atoms_.neighbour_mask;
  const auto n_atoms = static_cast<unsigned>(atoms_.n_atoms);
  const std::int32_t* place = place_.empty() ? nullptr : place_.data();
  const double x = positions_[3 * atom], y = positions_[3 * atom + 1], z = positions_[3 * atom + 2];
  double shortest = squared_;
  for (int k = 0; k < n; ++k) {
    const int number = list[k] & mask;
    if (static_cast<unsigned>(number) >= n_atoms)
      throw impossible("neighbour " + std::to_string(number) + " of atom " + std::to_string(own) +
                       " is no atom");
    const std::int32_t j = place == nullptr ? number : place[number];
    const double* at = positions_ + 3 * static_cast<Index>(j);
    const double dx = at[0] - x, dy = at[1] - y, dz = at[2] - z;
    const double r2 = dx * dx + dy * dy + dz * dz;
    // Written in any case and counted if it is near enough: no branch to be guessed wrongly.
    block.neighbour[n_pairs] = j;
    double* vector = block.vectors.data() + 3 * n_pairs;
    vector[0] = dx, vector[1] = dy, vector[2] = dz;
    n_pairs += r2 < squared_ ? 1 : 0;
    shortest = std::min(shortest, r2);
  }
  if (shortest < closest * closest)
    throw impossible("atom " + std::to_string(own) + " and a neighbour lie on top of each other");
  if (shortest < near_squared_) add_near_pairs(atom, first, n_pairs, block);
  return n_pairs;
}

void PositionLists::add_near_pairs(Index atom, std::size_t first, std::size_t end, Block& block) const {
  for (std::size_t p = first; p < end; ++p) {
    const double* v = block.vectors.data() + 3 * p;
    if (v[0] * v[0] + v[1] * v[1] + v[2] * v[2] < near_squared_)
      block.near.push_back({static_cast<std::int32_t>(atom), block.neighbour[p], {v[0], v[1], v[2]}});
  }
}

const std::vector<NearPair>& PositionLists::near_pairs() {
  near_pairs_.clear();
  for (const Block& block : blocks_)
    near_pairs_.insert(near_pairs_.end(), block.near.begin(), block.near.end());
  // Those of one atom stand together and in order; which thread had the atom must not matter.
  std::stable_sort(near_pairs_.begin(), near_pairs_.end(),
                   [](const NearPair& a, const NearPair& b) { return a.centre < b.centre; });
  return near_pairs_;
}

}  // namespace gprann
