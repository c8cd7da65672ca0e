#pragma once

#include <string>
#include <utility>
#include <vector>

namespace gprann {

/// A value of a JSON text (RFC 8259).
class Json {
 public:
  enum class Kind { null, boolean, number, text, list, table };

  /// Raises `Failure`, naming the place, if the text is no JSON, is nested too deeply, or holds millions of
  /// values.
  static Json parse(const std::string& text);

  Kind kind() const { return kind_; }
  bool is(Kind kind) const { return kind_ == kind; }
  /// A number without fraction and exponent.
  bool is_whole() const { return kind_ == Kind::number && whole_; }

  double number() const { return number_; }
  const std::string& text() const { return text_; }
  const std::vector<Json>& items() const { return items_; }
  /// Names of the items of a table.
  const std::vector<std::string>& names() const { return names_; }
  /// The item of a table with a name, the last if there are several; null if there is none.
  const Json* find(const std::string& name) const;

 private:
  friend class JsonParser;

  Kind kind_ = Kind::null;
  bool whole_ = false;
  double number_ = 0.0;  // or 1 for true
  std::string text_;
  std::vector<Json> items_;
  std::vector<std::string> names_;
};

}  // namespace gprann
