#include "json.hpp"

#include <cmath>
#include <cstring>
#include <locale>
#include <sstream>

#include "failure.hpp"

namespace gprann {

namespace {

constexpr int max_depth = 100;
constexpr std::size_t max_values = 2000000;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// UTF-8 of a code point.
void append_utf8(unsigned code, std::string& out) {
  auto add = [&](unsigned byte) { out += static_cast<char>(byte); };
  if (code < 0x80) {
    add(code);
  } else if (code < 0x800) {
    add(0xc0 | code >> 6), add(0x80 | (code & 63));
  } else if (code < 0x10000) {
    add(0xe0 | code >> 12), add(0x80 | (code >> 6 & 63)), add(0x80 | (code & 63));
  } else {
    add(0xf0 | code >> 18), add(0x80 | (code >> 12 & 63)), add(0x80 | (code >> 6 & 63)),
        add(0x80 | (code & 63));
  }
}

/// Length of the character in UTF-8 at a place, 0 if there is none: no overlong form, no half of a pair.
std::size_t utf8_length(const std::string& text, std::size_t at) {
  const auto byte = [&](std::size_t k) -> unsigned {
    return at + k < text.size() ? static_cast<unsigned char>(text[at + k]) : 0U;
  };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  const std::size_t length = first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
  for (std::size_t k = 1; k < length; ++k)
    if ((byte(k) & 0xc0U) != 0x80U) return 0;
  const unsigned second = byte(1);
  if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f)) return 0;
  if ((first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f)) return 0;
  return length;
}

}  // namespace

class JsonParser {
 public:
  explicit JsonParser(const std::string& text) : text_(text) { stream_.imbue(std::locale::classic()); }

  Json parse() {
    Json value = parse_value(0);
    skip_space();
    if (at_ != text_.size()) fail("something follows its end");
    return value;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw damaged("its description is no JSON: " + what + " (byte " + std::to_string(at_) + ")");
  }

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  void skip_space() {
    while (at_ < text_.size() && std::strchr(" \t\r\n", text_[at_]) != nullptr && text_[at_] != '\0') ++at_;
  }

  void expect(char c) {
    if (at_ >= text_.size() || text_[at_] != c) fail(std::string("expected '") + c + "'");
    ++at_;
  }

  bool take(char c) {
    if (peek() != c || at_ >= text_.size()) return false;
    ++at_;
    return true;
  }

  Json parse_value(int depth) {
    if (depth > max_depth) fail("it is nested too deeply");
    if (++n_values_ > max_values) fail("it holds too many values");
    skip_space();
    Json value;
    switch (peek()) {
      case '{':
        parse_table(depth, value);
        break;
      case '[':
        parse_list(depth, value);
        break;
      case '"':
        value.kind_ = Json::Kind::text;
        value.text_ = parse_text();
        break;
      case 't':
        parse_word("true", Json::Kind::boolean, 1.0, value);
        break;
      case 'f':
        parse_word("false", Json::Kind::boolean, 0.0, value);
        break;
      case 'n':
        parse_word("null", Json::Kind::null, 0.0, value);
        break;
      default:
        parse_number(value);
    }
    return value;
  }

  void parse_word(const char* word, Json::Kind kind, double number, Json& value) {
    if (text_.compare(at_, std::strlen(word), word) != 0) fail("unknown word");
    at_ += std::strlen(word);
    value.kind_ = kind;
    value.number_ = number;
  }

  void parse_list(int depth, Json& value) {
    value.kind_ = Json::Kind::list;
    expect('[');
    skip_space();
    if (take(']')) return;
    do {
      value.items_.push_back(parse_value(depth + 1));
      skip_space();
    } while (take(','));
    expect(']');
  }

  void parse_table(int depth, Json& value) {
    value.kind_ = Json::Kind::table;
    expect('{');
    skip_space();
    if (take('}')) return;
    do {
      skip_space();
      value.names_.push_back(parse_text());
      skip_space();
      expect(':');
      value.items_.push_back(parse_value(depth + 1));
      skip_space();
    } while (take(','));
    expect('}');
  }

  std::string parse_text() {
    expect('"');
    std::string out;
    while (peek() != '"') {
      if (at_ >= text_.size()) fail("a text does not end");
      const char c = text_[at_];
      if (static_cast<unsigned char>(c) < 0x20) fail("control character in a text");
      if (c == '\\') {
        ++at_;
        parse_escape(out);
        continue;
      }
      // Texts come to messages and to programs, which expect UTF-8.
      const std::size_t length = utf8_length(text_, at_);
      if (length == 0) fail("a text is not in UTF-8");
      out.append(text_, at_, length);
      at_ += length;
    }
    ++at_;
    return out;
  }

  void parse_escape(std::string& out) {
    static const char* const letters = "\"\\/bfnrt";
    static const char* const meanings = "\"\\/\b\f\n\r\t";
    const char c = peek();
    ++at_;
    if (c == 'u') {
      unsigned code = parse_code();
      if (code >= 0xd800 && code < 0xdc00 && text_.compare(at_, 2, "\\u") == 0) {
        at_ += 2;
        const unsigned low = parse_code();
        if (low < 0xdc00 || low > 0xdfff) fail("half a character in a text");
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
      }
      if (code >= 0xd800 && code < 0xe000) fail("half a character in a text");
      append_utf8(code, out);
      return;
    }
    const char* found = c == '\0' ? nullptr : std::strchr(letters, c);
    if (found == nullptr) fail("unknown escape in a text");
    out += meanings[found - letters];
  }

  unsigned parse_code() {
    unsigned code = 0;
    for (int k = 0; k < 4; ++k, ++at_) {
      const char c = peek();
      const char* digits = "0123456789abcdef";
      const char lower = c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c;
      const char* found = lower == '\0' ? nullptr : std::strchr(digits, lower);
      if (found == nullptr) fail("expected four hexadecimal digits");
      code = 16 * code + static_cast<unsigned>(found - digits);
    }
    return code;
  }

  void digits() {
    if (!is_digit(peek())) fail("expected a value");
    while (is_digit(peek())) ++at_;
  }

  void parse_number(Json& value) {
    const std::size_t begin = at_;
    take('-');
    if (!take('0')) digits();
    const std::size_t end_of_whole = at_;
    if (take('.')) digits();
    if (take('e') || take('E')) {
      if (!take('+')) take('-');
      digits();
    }
    value.kind_ = Json::Kind::number;
    value.whole_ = at_ == end_of_whole;
    // With the classic locale, whatever that of the program: the nearest number, to the last bit.
    stream_.clear();
    stream_.str(text_.substr(begin, at_ - begin));
    stream_ >> value.number_;
    if (stream_.fail() || !std::isfinite(value.number_)) fail("a number is too large");
  }

  const std::string& text_;
  std::size_t at_ = 0;
  std::size_t n_values_ = 0;
  std::istringstream stream_;
};

Json Json::parse(const std::string& text) { return JsonParser(text).parse(); }

const Json* Json::find(const std::string& name) const {
  for (std::size_t k = names_.size(); k-- > 0;)
    if (names_[k] == name) return &items_[k];
  return nullptr;
}

}  // namespace gprann
