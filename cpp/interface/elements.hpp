#pragma once

#include <string>

namespace gprann {

/// 1 for H, ...; 0 if there is no such element.
int atomic_number(const std::string& symbol);

/// Å.
double covalent_radius(int number);

}  // namespace gprann
