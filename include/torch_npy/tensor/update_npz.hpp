#ifndef TORCH_NPY_TENSOR_UPDATE_NPZ_HPP_
#define TORCH_NPY_TENSOR_UPDATE_NPZ_HPP_

/// @file
/// Changes archives of arrays, .npz: adds, replaces, removes and aligns arrays.

#include <ATen/core/Tensor.h>
#include <torch/ordered_dict.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/format/header.hpp>
#include <torch_npy/io/byte_source.hpp>
#include <torch_npy/io/file_writer.hpp>
#include <torch_npy/tensor/array_members.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/tensor/save_npz.hpp>
#include <torch_npy/tensor/unreadable.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>
#include <torch_npy/zip/reader.hpp>
#include <torch_npy/zip/records.hpp>
#include <torch_npy/zip/writer.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The byte of a stored array at which its data begins; 0 if it is no array or not stored.
inline std::uint64_t data_begin(const ByteSource& archive, const ZipMember& member,
                                std::uint64_t offset) {
  char start[kMaxPrefixSize];
  if (member.method != kStored || member.size < sizeof start) return 0;
  archive.read_fully(start, sizeof start, offset);
  try {
    return parse_prefix(start, sizeof start, UINT64_MAX).end();
  } catch (const Error&) {
    return 0;
  }
}

/// Throws Error (InvalidArgument) for a member that is no array but has the name of a saved array:
/// NumPy would find it there. And what reading it throws.
inline void require_array(const ArrayMembers& members, const ZipMember& member) {
  with_part("member", member.name, [&] {
    if (members.has_magic(member)) return;
    throw Error(ErrorCode::InvalidArgument,
                "it is no array, and np.load() would find it instead of the saved array of this "
                "name: choose another name, or remove the member, too");
  });
}

/// The members of an archive that an update does not copy: those that it removes, and those that it
/// replaces. Throws Error (NotFound, InvalidArgument).
inline std::unordered_set<const ZipMember*> members_to_drop(
    const ArrayMembers& members, const torch::OrderedDict<std::string, at::Tensor>& arrays,
    const std::vector<std::string>& remove) {
  std::unordered_set<const ZipMember*> dropped;
  for (const std::string& name : remove) {
    if (!dropped.insert(&members.at(name)).second) {
      throw Error(ErrorCode::InvalidArgument, "the array " + in_quotes(name) + " is removed twice");
    }
  }
  // A saved array replaces the one of its name, and any member of the name that it gets.
  std::unordered_map<std::string_view, const ZipMember*> by_name;
  for (const ZipMember& member : members.archive()->members())
    by_name.emplace(member.name, &member);
  const std::unordered_set<const ZipMember*> removed = dropped;
  const auto find = [&](const std::string& name) {
    const auto found = by_name.find(name);
    return found == by_name.end() ? nullptr : found->second;
  };
  for (const auto& array : arrays) {
    const ZipMember* const other = find(array.key());
    if (other != nullptr && removed.count(other) == 0) require_array(members, *other);
    for (const ZipMember* const member :
         {members.exactly(array.key()), find(array.key() + std::string(kEnding))}) {
      if (member == nullptr) continue;
      if (removed.count(member) != 0) {
        throw Error(ErrorCode::InvalidArgument,
                    "the array " + in_quotes(array.key()) + " is both saved and removed");
      }
      dropped.insert(member);
    }
  }
  return dropped;
}

/// Writes an archive anew, without some of its members and with other arrays at its end.
inline void rewrite_npz(const std::filesystem::path& path,
                        const torch::OrderedDict<std::string, at::Tensor>& arrays,
                        const std::vector<std::string>& remove, const SaveNpzOptions& options) {
  with_path(path, [&] {
    require_writable(arrays, options);
    const std::filesystem::path absolute = absolute_path(path);
    const auto old = std::make_shared<const LockedFile>(absolute, "update_npz()");
    const auto archive = open_archive(old);
    const ArrayMembers members(archive);
    const auto dropped = members_to_drop(members, arrays, remove);
    AtomicFile file(absolute, options.sync());
    ZipWriter zip(file);
    for (const ZipMember& member : archive->members()) {
      if (dropped.count(&member) != 0) continue;
      with_part("member", member.name, [&] {
        const std::uint64_t offset = archive->data_offset(member);
        zip.copy(member, archive->source(), offset, data_begin(archive->source(), member, offset));
      });
    }
    add_arrays(zip, arrays, options);
    zip.finish();
    if (!old->is_at(absolute)) {
      throw Error(ErrorCode::Io,
                  "another program replaced the archive during the update; update it again");
    }
    file.commit();
  });
}

}  // namespace detail

/// Adds arrays to an existing archive, in place of those that have exactly the same names, and
/// removes the arrays named by `remove`, which may end in ".npy". The other members are copied as
/// they are packed, arrays or not, and keep their order; the saved arrays come after them.
/// compressed() is about the saved arrays alone. Comments and times of members are not kept.
/// Members that NpzFile refuses to read, such as encrypted ones, cannot be copied: BadZip.
///
/// The file is replaced when the new one is complete, as by save(): at any time, and after a crash,
/// the path names the old archive or the new one. This takes disk space for both, and the time of a
/// copy: give all changes to one call. Stored arrays, whoever wrote them, start at a multiple of 64
/// bytes afterwards, so they can be mapped.
///
/// Throws Error: NotFound if there is no archive, or no array to remove; Io if another update_npz()
/// has it open, or another program replaces the archive meanwhile; InvalidArgument for an array
/// that is saved and removed, and for a name that a member has that is no array; what NpzFile and
/// save_npz() throw. The archive is then unchanged. Safe from any thread.
inline void update_npz(const std::filesystem::path& path,
                       const torch::OrderedDict<std::string, at::Tensor>& arrays,
                       const std::vector<std::string>& remove = {},
                       const SaveNpzOptions& options = {}) {
  detail::rewrite_npz(path, arrays, remove, options);
}

/// Removes arrays from an archive: update_npz() without arrays to save.
inline void remove_from_npz(const std::filesystem::path& path,
                            const std::vector<std::string>& names,
                            const SaveNpzOptions& options = {}) {
  const torch::OrderedDict<std::string, at::Tensor> none;
  detail::rewrite_npz(path, none, names, options);
}

/// Rewrites an archive so that all of its stored arrays can be mapped: their data starts at a
/// multiple of 64 bytes. np.savez does not ensure that. Arrays that are deflated, or byte-swapped,
/// stay so and are still read. As update_npz() without changes. Of the options only sync() is used.
inline void align_npz(const std::filesystem::path& path, const SaveNpzOptions& options = {}) {
  const torch::OrderedDict<std::string, at::Tensor> none;
  detail::rewrite_npz(path, none, {}, SaveNpzOptions().sync(options.sync()));
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_UPDATE_NPZ_HPP_
