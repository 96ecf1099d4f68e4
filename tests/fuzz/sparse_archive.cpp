// Compiled without sanitizers and without coverage: it takes a part of the time of each execution,
// and what it does is not what is searched. So it calls nothing of the library.

#include "sparse_archive.hpp"

#include <algorithm>
#include <array>
#include <iterator>
#include <limits>
#include <string_view>
#include <vector>

#include "../support/zip_bytes.hpp"

namespace {

struct Format {
  const char* name;
  std::vector<const char*> arrays;
};
const Format kFormats[] = {{"csr", {"shape", "data", "indices", "indptr"}},
                           {"csc", {"shape", "data", "indices", "indptr"}},
                           {"bsr", {"shape", "data", "indices", "indptr"}},
                           {"coo", {"shape", "data", "row", "col"}},
                           {"coo", {"shape", "data", "coords"}},
                           {"dia", {"shape", "data", "offsets"}},
                           {"c\0\xff", {"shape", "data"}}};

struct Type {
  char order;
  char kind;
  int width;  ///< of an item, as its descr has it

  int bytes() const { return kind == 'U' ? 4 * width : width; }
};
constexpr Type kText = {'|', 'S', 3};
constexpr Type kTypes[] = {{'<', 'i', 8}, {'<', 'i', 4}, {'<', 'f', 4}, {'|', 'b', 1},
                           {'>', 'i', 4}, {'<', 'u', 4}, {'<', 'i', 2}, {'<', 'U', 3},
                           {'|', 'S', 3}, {'<', 'c', 8}, {'<', 'u', 8}, {'|', 'u', 1},
                           {'<', 'f', 2}};
// What a byte says about an array.
constexpr std::uint8_t kOther = 192;    // from here on, it is described
constexpr std::uint8_t kLeftOut = 250;  // from here on, it is left out

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : at_(data), end_(data + size) {}

  bool is_empty() const { return at_ == end_; }
  std::uint8_t next() { return is_empty() ? std::uint8_t{0} : *at_++; }

 private:
  const std::uint8_t* at_;
  const std::uint8_t* end_;
};

/// Small numbers are themselves; the last ones are the limits of integers.
std::int64_t number_of(std::uint8_t byte) {
  switch (byte) {
    case 255: return -1;
    case 254: return std::numeric_limits<std::int32_t>::max();
    case 253: return std::numeric_limits<std::int64_t>::max();
    case 252: return std::int64_t{1} << 32;
    default: return byte;
  }
}

/// A number, or the code of a character with nothing after it.
std::string element_of(const Type& type, std::uint8_t byte) {
  const int bytes = type.bytes();
  std::string element = little(static_cast<std::uint64_t>(number_of(byte)), (std::min)(bytes, 8));
  element.resize(static_cast<std::size_t>(bytes));
  if (type.kind == 'b') element[0] &= 1;
  if (type.order == '>') std::reverse(element.begin(), element.end());
  return element;
}

void append_header(std::string& out, const Type& type, const std::vector<std::int64_t>& shape) {
  const std::size_t begin = out.size();
  out.append("\x93NUMPY\1\0\0\0{'descr': '", 21);
  (out += type.order) += type.kind;
  out.append(std::to_string(type.width)).append("', 'fortran_order': False, 'shape': (");
  for (const std::int64_t length : shape) out.append(std::to_string(length)) += ',';
  out.append("), }\n");
  out.replace(begin + 8, 2, little(out.size() - begin - 10, 2));
}

/// What a local header and an entry of the directory have in common.
void append_entry(std::string& out, const std::string& name, const std::string& content) {
  out.append(little(20, 2)).append(little(0, 4)).append(little(0x210000, 4));
  out.append(little(crc_of(content), 4));
  out.append(little(content.size(), 4)).append(little(content.size(), 4));
  out.append(little(name.size(), 2)).append(little(0, 2));
}

/// The bytes of an archive, as arrays are added to it.
class Archive {
 public:
  Archive() {
    out_.reserve(2048);
    directory_.reserve(512);
  }

  void add(const std::string& array, const std::string& content) {
    const std::string name = array + ".npy";
    directory_.append("PK\1\2").append(little(20, 2));
    append_entry(directory_, name, content);
    directory_.append(little(0, 10)).append(little(out_.size(), 4)).append(name);
    out_.append("PK\3\4");
    append_entry(out_, name, content);
    out_.append(name).append(content);
    ++count_;
  }

  std::string bytes() && {
    const std::size_t begin = out_.size();
    out_.append(directory_).append("PK\5\6").append(little(0, 4));
    out_.append(little(count_, 2)).append(little(count_, 2));
    out_.append(little(directory_.size(), 4)).append(little(begin, 4)).append(little(0, 2));
    return std::move(out_);
  }

 private:
  std::string out_;
  std::string directory_;
  std::size_t count_ = 0;
};

struct Array {
  Type type;
  std::vector<std::int64_t> shape;
  std::size_t elements;
};

/// The arrays of a matrix in a format.
class Matrix {
 public:
  explicit Matrix(Input& input)
      : format(kFormats[input.next() % std::size(kFormats)]),
        rows_(input.next() % 16),
        columns_(input.next() % 16),
        entries_(input.next() % 16),
        height_(1 + input.next() % 3),
        width_(1 + input.next() % 3),
        values_(kTypes[input.next() % std::size(kTypes)]),
        indices_(kTypes[input.next() % 2]) {}

  const Format& format;

  std::array<std::int64_t, 2> shape() const {
    if (is("bsr")) return {rows_ * height_, columns_ * width_};
    return {rows_, columns_};
  }

  Array array(std::string_view name) const {
    const auto entries = static_cast<std::size_t>(entries_);
    if (name == "data" && is("bsr")) {
      const auto size = static_cast<std::size_t>(height_ * width_);
      return {values_, {entries_, height_, width_}, entries * size};
    }
    if (name == "data") return {values_, {entries_}, entries};
    if (name == "coords") return {indices_, {2, entries_}, 2 * entries};
    if (name != "indptr") return {indices_, {entries_}, entries};
    const std::int64_t length = (is("csc") ? columns_ : rows_) + 1;
    return {indices_, {length}, static_cast<std::size_t>(length)};
  }

 private:
  bool is(std::string_view name) const { return format.name == name; }

  std::int64_t rows_;
  std::int64_t columns_;
  std::int64_t entries_;
  std::int64_t height_;
  std::int64_t width_;
  Type values_;
  Type indices_;
};

Array described(Input& input) {
  Array array{kTypes[input.next() % std::size(kTypes)], {}, 0};
  array.shape.resize(input.next() % 4);
  for (std::int64_t& length : array.shape) {
    length = (std::max)(number_of(input.next()), std::int64_t{0});
  }
  array.elements = input.next() % 64;
  return array;
}

}  // namespace

std::string archive_of(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  const Matrix matrix(input);
  Archive archive;
  std::string content;
  content.reserve(1024);
  append_header(content, kText, {});
  archive.add("format", content.append(matrix.format.name, 3));

  for (const std::string_view name : matrix.format.arrays) {
    const std::uint8_t how = input.next();
    if (how >= kLeftOut) continue;
    content.clear();
    if (how < kOther && name == "shape") {
      append_header(content, kTypes[0], {2});
      for (const std::int64_t length : matrix.shape()) {
        content.append(little(static_cast<std::uint64_t>(length), 8));
      }
    } else {
      const Array array = how < kOther ? matrix.array(name) : described(input);
      append_header(content, array.type, array.shape);
      for (std::size_t i = 0; i < array.elements; ++i) {
        content.append(element_of(array.type, input.next()));
      }
    }
    archive.add(std::string(name), content);
  }
  return std::move(archive).bytes();
}
