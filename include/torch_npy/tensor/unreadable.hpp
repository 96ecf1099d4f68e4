#ifndef TORCH_NPY_TENSOR_UNREADABLE_HPP_
#define TORCH_NPY_TENSOR_UNREADABLE_HPP_

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

// Arrays of an archive and fields of an array that are not loaded: not asked for, or skipped.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// True if the Error is about what was to be loaded: its bytes, its dtype, or that it is not what
/// the options ask for. Others need not fail for the same reason.
inline bool is_about_content(const Error& error) {
  switch (error.code()) {
    case ErrorCode::NotNpy:
    case ErrorCode::UnsupportedVersion:
    case ErrorCode::BadHeader:
    case ErrorCode::UnsupportedDtype:
    case ErrorCode::Truncated:
    case ErrorCode::BadZip:
    case ErrorCode::Mismatch: return true;
    default: return false;
  }
}

/// What could not be loaded of several things, which are loaded by several threads.
template <class WayOut>
class Unreadable {
 public:
  /// What `way_out()` returns is added to an Error that is thrown, unless it is empty.
  Unreadable(std::size_t count, const LoadOptions& options, WayOut way_out)
      : errors_(count), options_(options), way_out_(std::move(way_out)) {}

  /// Calls `work` for number `i`, unless that has failed before. Throws an Error that is not
  /// skipped.
  template <class Work>
  void load(std::size_t i, const Work& work) {
    if (errors_[i]) return;
    try {
      work();
    } catch (const Error& error) {
      if (!is_about_content(error)) throw;
      if (options_.on_unreadable() == OnUnreadable::Throw) {
        const std::string way_out = way_out_();
        if (way_out.empty()) throw;
        throw ErrorContext::with_way_out(error, way_out);
      }
      errors_[i] = error;
    }
  }

  bool is_skipped(std::size_t i) const { return errors_[i].has_value(); }

  /// The Errors, in order.
  std::vector<Error> skipped() const {
    std::vector<Error> errors;
    for (const auto& error : errors_) {
      if (error) errors.push_back(*error);
    }
    return errors;
  }

 private:
  std::vector<std::optional<Error>> errors_;
  const LoadOptions& options_;
  WayOut way_out_;
};

/// Gives Errors about parts of a file to the callback of the options, with the path, and with the
/// name of a member if that is not empty.
inline void report_skipped(const std::vector<Error>& errors, const LoadOptions& options,
                           const std::filesystem::path& path, const std::string& member) {
  if (!options.unreadable_callback()) return;
  for (const Error& error : errors) {
    const Error about =
        member.empty() ? error : ErrorContext::within(error, "member " + in_quotes(member));
    options.unreadable_callback()(ErrorContext::at(about, path));
  }
}

/// How to load the rest, for Unreadable.
inline const char* way_to_the_rest(bool has_names) {
  return has_names ? "to load the others, leave this name out, or set "
                     "on_unreadable(OnUnreadable::Skip)"
                   : "to load the others, give their names, or set "
                     "on_unreadable(OnUnreadable::Skip)";
}

/// The start of a list of names, for a message: `"a", "b", ...`; empty for no names.
inline std::string few_names(const std::vector<std::string>& names) {
  constexpr std::size_t kMaxLength = 200;
  std::string text;
  for (const std::string& name : names) {
    if (text.size() > kMaxLength) return text + ", ...";
    text += (text.empty() ? "" : ", ") + in_quotes(name);
  }
  return text;
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_UNREADABLE_HPP_
