#ifndef TORCH_NPY_TENSOR_ARRAY_MEMBERS_HPP_
#define TORCH_NPY_TENSOR_ARRAY_MEMBERS_HPP_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/format/header.hpp>
#include <torch_npy/format/signature.hpp>
#include <torch_npy/io/byte_source.hpp>
#include <torch_npy/tensor/unreadable.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>
#include <torch_npy/zip/deflate.hpp>
#include <torch_npy/zip/member.hpp>
#include <torch_npy/zip/reader.hpp>
#include <torch_npy/zip/records.hpp>

// Which members of an archive are arrays, and what they are called.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The name of an array as that of its member.
inline constexpr std::string_view kEnding = ".npy";

inline bool ends_as_array(const std::string& name) { return has_ending(name, kEnding); }

/// True for what macOS puts beside the arrays of an archive, such as `__MACOSX/._a.npy`.
inline bool is_of_macos(std::string_view name) {
  constexpr std::string_view kFolder = "__MACOSX/";
  return name.substr(0, kFolder.size()) == kFolder;
}

/// True for that, and for what version control and editors put there, such as `.git/index`: a part
/// of the name starts with a dot.
inline bool is_hidden(std::string_view name) {
  if (is_of_macos(name)) return true;
  while (!name.empty()) {
    const std::string_view part = name.substr(0, name.find_first_of("/\\"));
    if (!part.empty() && part.front() == '.') return true;
    name.remove_prefix((std::min)(part.size() + 1, name.size()));
  }
  return false;
}

/// Why a member of an archive of arrays cannot have this name, with or without ".npy"; empty if it
/// can.
inline std::string fault_of_member(const std::string& name) {
  std::string fault = fault_of_name(name);
  if (fault.empty() && ends_as_array(name) && name.size() > kEnding.size()) {
    fault = fault_of_name(name.substr(0, name.size() - kEnding.size()));
  }
  return fault;
}

/// Bytes that libdeflate has not written look like an array, which fails when it is loaded: nothing
/// is skipped by mistake.
inline constexpr std::string_view kUnwritten(kMagic, kMagicSize);

/// The archive in a source. `room`: see ArchiveBytes. Throws Error, without a path: what ZipArchive
/// throws.
inline std::shared_ptr<const ZipArchive> open_archive(
    const std::shared_ptr<const ByteSource>& source, std::shared_ptr<char> room = nullptr) {
  try {
    return std::make_shared<const ZipArchive>(source, std::move(room));
  } catch (const Error& error) {
    char magic[kMagicSize];
    if (error.code() != ErrorCode::NotNpy || source->read(magic, sizeof magic, 0) != sizeof magic ||
        std::memcmp(magic, kMagic, sizeof magic) != 0) {
      throw;
    }
    throw Error(ErrorCode::NotNpy,
                "not an .npz archive but an .npy file: open() and load() read it");
  }
}

/// Calls `use` with the bytes of a member, of a source on the stack. `at_once`: see DeflatedMember.
template <class Use>
auto with_member(const std::shared_ptr<const ZipArchive>& archive, const ZipMember& member,
                 const Use& use, std::uint64_t at_once = DeflatedMember::kWholeForHeader) {
  if (member.method == kStored) return use(StoredMember(archive, member));
  return use(DeflatedMember(archive, member, kUnwritten, at_once));
}

/// The bytes of a member as a source that keeps the archive open.
inline std::shared_ptr<const ByteSource> source_of(const std::shared_ptr<const ZipArchive>& archive,
                                                   const ZipMember& member) {
  if (member.method == kStored) return std::make_shared<const StoredMember>(archive, member);
  return std::make_shared<const DeflatedMember>(archive, member, kUnwritten);
}

/// The arrays of an archive, by name. Errors have no path.
class ArrayMembers {
 public:
  /// Reads the first bytes of members whose name does not end in ".npy". Throws Error (BadZip,
  /// NotNpy).
  explicit ArrayMembers(std::shared_ptr<const ZipArchive> archive) : archive_(std::move(archive)) {
    refuse_torch_file();
    for (const ZipMember& member : archive_->members()) {
      if (const std::string fault = fault_of_member(member.name); !fault.empty()) {
        throw bad_archive("the name of a member: " + fault, member.entry);
      }
      const auto name = array_name(member);
      if (!name) continue;
      if (!indices_.emplace(*name, arrays_.size()).second) {
        throw bad_archive("two arrays have the name " + in_quotes(*name));
      }
      names_.push_back(*name);
      arrays_.push_back(&member);
    }
  }

  const std::shared_ptr<const ZipArchive>& archive() const noexcept { return archive_; }

  /// In the order of the archive, without ".npy".
  const std::vector<std::string>& names() const noexcept { return names_; }
  std::vector<std::string>& names() noexcept { return names_; }

  /// The members with the arrays, in the order of names().
  const std::vector<const ZipMember*>& members() const noexcept { return arrays_; }

  /// Throws Error (NotNpy) if there are members, and none of them is an array.
  void require_arrays() const {
    const auto& members = archive_->members();
    if (!arrays_.empty() || members.empty()) return;
    throw Error(ErrorCode::NotNpy, "not an .npz archive but a zip archive without arrays: of its " +
                                       counted(members.size(), "member") +
                                       ", the first of which is " +
                                       in_quotes(members.front().name) + ", none is an .npy file");
  }

  /// The array of this name, or else the array whose member has this name; null if there is none.
  const ZipMember* find(const std::string& name) const {
    auto found = indices_.find(name);
    if (found == indices_.end() && ends_as_array(name)) {
      found = indices_.find(name.substr(0, name.size() - kEnding.size()));
    }
    if (found == indices_.end()) return nullptr;
    const ZipMember* const member = arrays_[found->second];
    return found->first == name || member->name == name ? member : nullptr;
  }

  /// The same; finds members that are not arrays, too: loading one tells what it is.
  const ZipMember* find_member(const std::string& name) const {
    if (const ZipMember* const member = find(name)) return member;
    for (const ZipMember& member : archive_->members()) {
      if (member.name == name) return &member;
    }
    return nullptr;
  }

  /// The array of exactly this name; null if there is none.
  const ZipMember* exactly(const std::string& array) const {
    const auto found = indices_.find(array);
    return found == indices_.end() ? nullptr : arrays_[found->second];
  }

  /// Whether the content of a member starts like an .npy file. Throws Error if it cannot be read.
  bool has_magic(const ZipMember& member) const {
    char magic[kMagicSize] = {};
    const auto size = std::min<std::uint64_t>(member.size, sizeof magic);
    source_of(archive_, member)->read_fully(magic, static_cast<std::size_t>(size), 0);
    return std::memcmp(magic, kMagic, sizeof magic) == 0;
  }

  /// As find_member(). Throws Error (NotFound), which lists the arrays.
  const ZipMember& at(const std::string& name) const {
    if (const ZipMember* const member = find_member(name)) return *member;
    throw Error(ErrorCode::NotFound,
                "no array " + in_quotes(name) +
                    (names_.empty() ? "; there is none" : "; there are " + few_names(names_)));
  }

 private:
  /// Throws Error (NotNpy) for a file of torch.save() or torch.jit.save(), which is a zip archive,
  /// too, and would be one without arrays.
  void refuse_torch_file() const {
    bool is_torch_file = false;
    for (const ZipMember& member : archive_->members()) {
      if (ends_as_array(member.name)) return;
      is_torch_file = is_torch_file || has_ending(member.name, "/data.pkl");
    }
    if (!is_torch_file) return;
    throw Error(ErrorCode::NotNpy, std::string("not an .npz archive; it looks like ") + kTorchFile);
  }

  /// None if the member is not an array: its name does not say so, or is hidden, and its content
  /// does not start like one. One that cannot be read counts as an array, unless macOS put it
  /// there: its Error comes when it is loaded.
  std::optional<std::string> array_name(const ZipMember& member) const {
    const std::string& name = member.name;
    const bool named_as_array = ends_as_array(name);
    if ((!named_as_array || is_hidden(name)) && !starts_as_array(member)) return std::nullopt;
    return named_as_array ? name.substr(0, name.size() - kEnding.size()) : name;
  }

  bool starts_as_array(const ZipMember& member) const {
    try {
      return has_magic(member);
    } catch (const Error&) {
      return !is_of_macos(member.name);
    }
  }

  std::shared_ptr<const ZipArchive> archive_;
  std::vector<std::string> names_;
  std::vector<const ZipMember*> arrays_;  // of names_
  std::unordered_map<std::string, std::size_t> indices_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_ARRAY_MEMBERS_HPP_
