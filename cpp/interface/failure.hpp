#pragma once

#include <stdexcept>
#include <string>

#include "gprann.h"

namespace gprann {

/// What a function of the C interface reports: a code of gprann.h and a sentence.
class Failure : public std::runtime_error {
 public:
  Failure(int code, const std::string& message) : std::runtime_error(message), code_(code) {}
  int code() const { return code_; }

 private:
  int code_;
};

/// Something is wrong with the content of a file.
inline Failure damaged(const std::string& what) {
  return {GPRANN_FORMAT_ERROR, what + "; give a .gprann file, and if it is one, copy or train it again"};
}

}  // namespace gprann
