#include "archive.hpp"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>

#include "checksums.hpp"
#include "failure.hpp"

namespace gprann {

namespace {

constexpr std::size_t end_record = 22, central_record = 46, local_record = 30;
constexpr unsigned utf8_names = 1U << 11;
constexpr unsigned newest_zip = 63;  // version 6.3 of the format, the newest that Python reads

Bytes read_file(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), &std::fclose);
  if (file == nullptr)
    throw Failure(GPRANN_FILE_ERROR, std::string("cannot be read: ") + std::strerror(errno));
  Bytes bytes;
  std::vector<unsigned char> buffer(1 << 20);
  for (;;) {
    const std::size_t n = std::fread(buffer.data(), 1, buffer.size(), file.get());
    bytes.insert(bytes.end(), buffer.begin(), buffer.begin() + static_cast<std::ptrdiff_t>(n));
    if (n < buffer.size()) break;
  }
  if (std::ferror(file.get()) != 0)
    throw Failure(GPRANN_FILE_ERROR, std::string("cannot be read: ") + std::strerror(errno));
  return bytes;
}

}  // namespace

Archive::Archive(const std::string& path) : bytes_(read_file(path)) { read_directory(); }

/// A number of the archive, lowest byte first.
unsigned Archive::number(std::size_t at, int bytes) const {
  const auto length = static_cast<std::size_t>(bytes);
  if (at > bytes_.size() || length > bytes_.size() - at) throw damaged("it is not complete");
  unsigned value = 0;
  for (std::size_t k = length; k-- > 0;) value = value << 8 | bytes_[at + k];
  return value;
}

/// Place of the record that ends the archive, behind which there is only its comment.
std::size_t Archive::find_directory() const {
  const std::size_t size = bytes_.size();
  for (std::size_t back = end_record; back <= std::min<std::size_t>(size, end_record + 65535); ++back)
    if (number(size - back, 4) == 0x06054b50 && number(size - back + 20, 2) == back - end_record)
      return size - back;
  throw damaged("it is not a complete gprann model file");
}

void Archive::read_directory() {
  const std::size_t end = find_directory();
  const unsigned n_entries = number(end + 10, 2);
  std::size_t at = number(end + 16, 4);
  if (at > end || end - at != number(end + 12, 4)) throw damaged("its directory is damaged");
  std::size_t total = 0;
  for (unsigned k = 0; k < n_entries; ++k) {
    if (number(at, 4) != 0x02014b50) throw damaged("its directory is damaged");
    const unsigned flags = number(at + 8, 2), method = number(at + 10, 2), local = number(at + 42, 4);
    const std::size_t size = number(at + 24, 4);
    const unsigned name_length = number(at + 28, 2);
    const std::size_t next = at + central_record + name_length + number(at + 30, 2) + number(at + 32, 2);
    if (next > end || number(at + 6, 1) > newest_zip) throw damaged("its directory is damaged");
    if ((flags & ~utf8_names) != 0 || method != 0 || size == 0xffffffffU || number(at + 20, 4) != size)
      throw damaged("its members are compressed or encrypted, which no model file of gprann is");
    if (number(local, 4) != 0x04034b50) throw damaged("its directory is damaged");
    const std::size_t begin = local + local_record + number(local + 26, 2) + number(local + 28, 2);
    if (begin > bytes_.size() || size > bytes_.size() - begin) throw damaged("it is not complete");
    const auto* name = reinterpret_cast<const char*>(bytes_.data() + at + central_record);
    const std::string text(name, name_length);
    const auto* local_name = reinterpret_cast<const char*>(bytes_.data() + local + local_record);
    if (number(local + 26, 2) != name_length || std::memcmp(local_name, name, name_length) != 0)
      throw damaged("its directory is damaged");
    total += size;  // members that overlap would fill the memory
    if (total > bytes_.size()) throw damaged("its members overlap");
    entries_.push_back({text, begin, size, number(at + 16, 4)});
    at = next;
  }
  if (at != end) throw damaged("its directory is damaged");
}

std::pair<const unsigned char*, std::size_t> Archive::member(const std::string& name) const {
  for (std::size_t k = entries_.size(); k-- > 0;) {
    const Entry& entry = entries_[k];
    if (entry.name != name) continue;
    if (crc32(bytes_.data() + entry.at, entry.size) != entry.crc) throw damaged("'" + name + "' is damaged");
    return {bytes_.data() + entry.at, entry.size};
  }
  throw damaged("'" + name + "' is missing");
}

namespace {

/// The header of an array, {'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }, in this or another
/// order.
class NpyHeader {
 public:
  explicit NpyHeader(const std::string& text) : text_(text) {}

  bool read(std::vector<std::size_t>& shape) {
    int found = 0;
    if (!take("{")) return false;
    while (!take("}")) {
      if (take("'descr':")) {
        if (!take("'<f8'")) return false;
        found |= 1;
      } else if (take("'fortran_order':")) {
        if (!take("False")) return false;
        found |= 2;
      } else if (take("'shape':")) {
        if (!read_shape(shape)) return false;
        found |= 4;
      } else {
        return false;
      }
      take(",");
    }
    skip_space();
    return found == 7 && at_ == text_.size();
  }

 private:
  void skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }

  bool take(const char* word) {
    skip_space();
    if (text_.compare(at_, std::strlen(word), word) != 0) return false;
    at_ += std::strlen(word);
    return true;
  }

  bool read_shape(std::vector<std::size_t>& shape) {
    shape.clear();
    if (!take("(")) return false;
    while (!take(")")) {
      skip_space();
      std::size_t value = 0, n_digits = 0;
      for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_, ++n_digits)
        value = 10 * value + static_cast<std::size_t>(text_[at_] - '0');
      if (n_digits == 0 || n_digits > 15 || shape.size() == 8) return false;
      shape.push_back(value);
      if (!take(",") && text_.compare(at_, 1, ")") != 0) return false;
    }
    return true;
  }

  const std::string& text_;
  std::size_t at_ = 0;
};

}  // namespace

Array read_npy(const std::string& name, const unsigned char* data, std::size_t size) {
  const Failure no_array = damaged("'" + name + "' is no array of float64 numbers");
  if (size < 12 || std::memcmp(data, "\x93NUMPY", 6) != 0 || data[6] < 1 || data[6] > 3) throw no_array;
  const std::size_t start = data[6] == 1 ? 10 : 12;
  std::size_t length = 0;
  for (std::size_t k = start; k-- > 8;) length = length << 8 | data[k];
  if (length > size - start) throw no_array;
  Array array;
  const std::string text(reinterpret_cast<const char*>(data + start), length);
  if (!NpyHeader(text).read(array.shape)) throw no_array;
  const std::size_t available = (size - start - length) / sizeof(double);
  std::size_t count = 1;
  for (const std::size_t n : array.shape) {
    if (n != 0 && count > available / n) throw no_array;
    count *= n;
  }
  if (count * sizeof(double) != size - start - length) throw no_array;
  array.values.resize(count);
  if (count > 0) std::memcpy(array.values.data(), data + start + length, count * sizeof(double));
  if (!std::all_of(array.values.begin(), array.values.end(), [](double x) { return std::isfinite(x); }))
    throw damaged("'" + name + "' must hold finite float64 numbers");
  return array;
}

}  // namespace gprann
