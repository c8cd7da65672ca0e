#pragma once

#include "gprann/types.hpp"

namespace gprann {

// clang-format off
/// Cutoff functions of n2p2, numbered as its keyword `cutoff_type` does. With x = (r - alpha Rc) / (Rc - alpha Rc):
///
///     cosine  (cos(pi x) + 1) / 2        tanhu  tanh^3(1 - r / Rc)      tanh  tanh^3(1 - r / Rc) / tanh^3(1)
///     exp     exp(1 - 1 / (1 - x^2))     poly1  (2x - 3) x^2 + 1        poly2 ((15 - 6x) x - 10) x^3 + 1
///     poly3   (x (x (20x - 70) + 84) - 35) x^4 + 1                      poly4 (x (x ((315 - 70x) x - 540) + 420) - 126) x^5 + 1
///
/// 1 below alpha Rc (not the two tanh, which have no inner cutoff), 0 beyond Rc.
// clang-format on
enum class SymmetryCutoff { cosine = 1, tanhu, tanh, exp, poly1, poly2, poly3, poly4 };

/// Value and slope, 1/Å, at the distances r, Å.
void symmetry_cutoff(SymmetryCutoff kind, const Lane& r, double cutoff, double alpha, Lane& value,
                     Lane& slope);

}  // namespace gprann
