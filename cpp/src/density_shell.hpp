#pragma once

#include <vector>

#include "gprann/density_expansion.hpp"
#include "shell.hpp"

namespace gprann {

/// The neighbours of one atom sorted by species: every species begins a new lane.
struct DensityShell : Shell {
  struct Segment {
    Index species, first, last;  // blocks from `first` to `last`
  };

  std::vector<Segment> segments;
  std::vector<Lane> s, ds;  // radial coordinate x(r) and its slope, 1/Å
};

}  // namespace gprann
