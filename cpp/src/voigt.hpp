#pragma once

namespace gprann {

/// Component of a strain or virial (9, row-major) behind component v of Voigt's order; its transpose is the
/// other.
constexpr int voigt_first[6] = {0, 4, 8, 5, 2, 1};
constexpr int voigt_second[6] = {0, 4, 8, 7, 6, 3};

}  // namespace gprann
