#pragma once

#include <string>
#include <vector>

#include "json.hpp"

namespace gprann {

/// A table of a model file whose values have the types and bounds that Python asks for: whatever else stands
/// there is refused.
class Settings {
 public:
  /// what: how messages call it, such as "the descriptor".
  Settings(const Json& table, std::string what);

  /// Whether a key is there, be it null.
  bool has(const std::string& key) const { return table_.find(key) != nullptr; }
  /// The value of a key, or null if it is missing or null.
  const Json* value(const std::string& key) const;
  /// The value of a key that must be there.
  const Json& require(const std::string& key) const;

  // `missing` stands for a key that is missing, not for null.
  std::string text(const std::string& key) const;
  double number(const std::string& key, double missing, double least, double most) const;
  int whole(const std::string& key, int missing, int least, int most) const;
  /// Rows of numbers, each of `length`.
  std::vector<std::vector<double>> rows(const std::string& key, std::size_t length) const;
  /// A number for each of the names, all of which must be there.
  std::vector<double> numbers_of(const std::string& key, const std::vector<std::string>& names) const;
  std::vector<std::string> texts(const std::string& key) const;

  /// Refuses keys that are none of these: what they mean is not known here.
  void allow(const std::vector<std::string>& keys) const;

 private:
  [[noreturn]] void fail(const std::string& key, const std::string& expected) const;

  const Json& table_;
  std::string what_;
};

}  // namespace gprann
