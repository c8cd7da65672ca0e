#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace gprann {

/// A file in memory.
using Bytes = std::vector<unsigned char>;

/// An array of numbers, (shape[0], shape[1], ...), row by row.
struct Array {
  std::vector<std::size_t> shape;
  std::vector<double> values;
};

/// A zip archive whose members are stored as they are. Places and lengths that the file tells are never
/// trusted.
class Archive {
 public:
  /// Raises `Failure` if the file cannot be read or is no such archive.
  explicit Archive(const std::string& path);

  /// Where a member stands, its sum checked. Raises `Failure` if there is none.
  std::pair<const unsigned char*, std::size_t> member(const std::string& name) const;

 private:
  struct Entry {
    std::string name;
    std::size_t at, size;
    unsigned crc;
  };

  unsigned number(std::size_t at, int bytes) const;
  std::size_t find_directory() const;
  void read_directory();

  Bytes bytes_;
  std::vector<Entry> entries_;
};

/// Reads a NumPy array of float64. Raises `Failure` if it is something else, or a number is not finite.
Array read_npy(const std::string& name, const unsigned char* data, std::size_t size);

}  // namespace gprann
