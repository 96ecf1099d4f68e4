#ifndef TORCH_NPY_FORMAT_DATETIME_UNIT_HPP_
#define TORCH_NPY_FORMAT_DATETIME_UNIT_HPP_

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>

#include <torch_npy/format/literal.hpp>
#include <torch_npy/version.hpp>

// The units of datetime64 and timedelta64.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Parses the unit between the brackets of a datetime dtype: an optional count, the unit, and an
/// optional divisor. Returns it as NumPy writes it: without a divisor (`[s/4]` is `[250ms]`),
/// without a count of 1, and empty for "generic".
inline std::optional<std::string> parse_datetime_unit(std::string_view text) {
  static constexpr std::string_view kUnits[] = {"Y",  "M",  "W",  "D",  "h",  "m", "s",
                                                "ms", "us", "ns", "ps", "fs", "as"};
  // How many of the next units are in one: 12 months, 52 weeks or 365 days in a year.
  static constexpr std::int64_t kInOne[][3] = {{12, 52, 365},     {4, 30, 720}, {7, 168, 10080},
                                               {24, 1440, 86400}, {60, 3600},   {60, 60000},
                                               {1000, 1000000}};
  const char* at = text.data();
  const char* const end = at + text.size();
  std::int64_t count = parse_signed_digits(at, end, INT32_MAX).value_or(1);
  std::string_view name(at, static_cast<std::size_t>(end - at));
  std::int64_t divisor = 1;
  if (const std::size_t slash = name.find('/'); slash != name.npos) {
    const char* digits = at + slash + 1;
    divisor = parse_signed_digits(digits, end, INT32_MAX).value_or(0);
    if (divisor == 0 || digits != end) return std::nullopt;
    name = name.substr(0, slash);
  }
  if (name == "generic" && divisor == 1) return std::string();
  if (name == "\xce\xbcs") name = "us";  // with the Greek letter
  for (std::size_t unit = 0; unit < std::size(kUnits); ++unit) {
    if (name != kUnits[unit]) continue;
    if (divisor != 1) {
      const auto& in_one = kInOne[unit < std::size(kInOne) ? unit : std::size(kInOne) - 1];
      std::size_t finer = 0;
      while (finer < 3 && (in_one[finer] == 0 || in_one[finer] % divisor != 0)) ++finer;
      unit += finer + 1;
      if (finer == 3 || unit >= std::size(kUnits)) return std::nullopt;
      count *= in_one[finer] / divisor;
      if (count > INT32_MAX) return std::nullopt;
    }
    return (count == 1 ? "" : std::to_string(count)) + std::string(kUnits[unit]);
  }
  return std::nullopt;
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_FORMAT_DATETIME_UNIT_HPP_
