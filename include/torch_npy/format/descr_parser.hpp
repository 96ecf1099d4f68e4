#ifndef TORCH_NPY_FORMAT_DESCR_PARSER_HPP_
#define TORCH_NPY_FORMAT_DESCR_PARSER_HPP_

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/format/dtype.hpp>
#include <torch_npy/format/literal.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

// The dtype in a header: the value of its key 'descr'.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Parses the description of a dtype: a string, a tuple for a sub-array, or a list of fields.
class DescrParser : protected LiteralReader {
 public:
  /// NumPy allows any depth of fields; the limit keeps the recursion from overflowing the stack.
  static constexpr int kMaxDepth = 64;

  using LiteralReader::LiteralReader;

 protected:
  /// `axes` receives the axes of a sub-array.
  DType descr(int depth, std::vector<std::int64_t>& axes) {
    if (next_is('[')) return fields(depth + 1);
    if (next_is('(')) return sub_array(depth + 1, axes);
    const char* const begin = at_;
    std::string buffer;
    const std::string_view text = string(buffer);
    auto dtype = parse_type_string(text);
    if (!dtype) {
      at_ = begin;
      fail("unknown dtype " + shown(text) +
               (text != "<f1" ? ": expected a NumPy type string such as '<f4', with items of less "
                                "than 2^31 bytes"
                : depth == 0  ? ": ml_dtypes writes float8_e5m2 as '<f1', which NumPy cannot load; "
                                "save array.view('V1') and load it with void_as()"
                              : ": ml_dtypes writes float8_e5m2 as '<f1', which NumPy cannot load; "
                                "give this field the dtype 'V1' before the array is saved"),
           ErrorCode::UnsupportedDtype);
    }
    return std::move(*dtype);
  }

 private:
  /// Parses `('<f4', (2,))`.
  DType sub_array(int depth, std::vector<std::int64_t>& axes) {
    require_depth(depth);
    expect('(');
    const char* const begin = at_;
    DType dtype = descr(depth, axes);
    expect(',');
    if (next_is('{')) {
      fail("the dtype has metadata, " + rest() +
               ", which NumPy cannot load either; np.save() of NumPy 2 leaves it out",
           ErrorCode::UnsupportedDtype);
    }
    outer_axes(dtype, axes);
    accept(',');
    expect(')');
    (void)bytes_of(dtype, axes, 0, begin);
    return dtype;
  }

  /// The bytes of a part of an item that has `used` bytes before it. `begin` is where the part is
  /// described.
  std::int64_t bytes_of(const DType& dtype, const std::vector<std::int64_t>& axes,
                        std::int64_t used, const char* begin) {
    const auto bytes = checked_bytes(axes, std::max<std::int64_t>(dtype.item_size, 1));
    const bool is_long = std::any_of(axes.begin(), axes.end(),
                                     [](std::int64_t length) { return length > INT32_MAX; });
    if (is_long || !bytes || *bytes > INT32_MAX - used) {
      at_ = begin;
      fail("an item, or an axis of it, is larger than NumPy allows (2^31 - 1)",
           ErrorCode::TooLarge);
    }
    return dtype.item_size == 0 ? 0 : *bytes;
  }

  /// Parses a shape, of which NumPy accepts one number without parentheses, and puts it before the
  /// axes.
  void outer_axes(const DType& dtype, std::vector<std::int64_t>& axes) {
    if (checked_bytes(axes, dtype.item_size) == 0 && !dtype.is_structured()) {
      fail("a sub-array of items of 0 bytes");
    }
    const auto outer = next_is('(') ? tuple() : std::vector<std::int64_t>{integer()};
    axes.insert(axes.begin(), outer.begin(), outer.end());
    if (axes.size() > kMaxRank) fail("more than " + std::to_string(kMaxRank) + " dimensions");
  }

  void require_depth(int depth) const {
    if (depth > kMaxDepth) fail("fields nested more than " + std::to_string(kMaxDepth) + " deep");
  }

  DType fields(int depth) {
    require_depth(depth);
    DType dtype;
    bool has_empty_title = false;  // a title for NumPy, which Field::title does not tell
    expect('[');
    while (!accept(']')) {
      skip_blanks();
      const char* const begin = at_;
      Field field = this->field(depth, has_empty_title);
      field.offset = dtype.item_size;
      dtype.item_size += bytes_of(field.dtype, field.shape, dtype.item_size, begin);
      // NumPy treats these as padding: a void without a name, and any sub-array without a name.
      const bool is_void = field.dtype.kind == 'V' && !field.dtype.is_structured();
      const bool is_padding =
          field.name.empty() && field.title.empty() && (is_void || !field.shape.empty());
      if (!is_padding) dtype.fields.push_back(std::move(field));
      if (accept(',')) continue;
      expect(']');
      break;
    }
    require_distinct_names(dtype, has_empty_title);
    return dtype;
  }

  Field field(int depth, bool& has_empty_title) {
    Field field;
    expect('(');
    if (accept('(')) {
      field.title = name();
      expect(',');
      field.name = name();
      if (field.title.empty() && (field.name.empty() || has_empty_title)) throw_same_name("");
      has_empty_title = has_empty_title || field.title.empty();
      accept(',');
      expect(')');
    } else {
      field.name = name();
    }
    expect(',');
    field.dtype = descr(depth, field.shape);
    if (accept(',') && !next_is(')')) {
      outer_axes(field.dtype, field.shape);
      accept(',');
    }
    expect(')');
    return field;
  }

  void require_distinct_names(const DType& dtype, bool has_empty_title) const {
    std::vector<std::string_view> names;
    if (has_empty_title) names.emplace_back();
    for (const Field& field : dtype.fields) {
      names.push_back(field.name);
      if (!field.title.empty()) names.push_back(field.title);
    }
    if (const auto name = first_duplicate(std::move(names))) throw_same_name(*name);
  }

  [[noreturn]] void throw_same_name(std::string_view name) const {
    fail("two fields have the name or title " + shown(name));
  }
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_FORMAT_DESCR_PARSER_HPP_
