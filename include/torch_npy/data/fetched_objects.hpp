#ifndef TORCH_NPY_DATA_FETCHED_OBJECTS_HPP_
#define TORCH_NPY_DATA_FETCHED_OBJECTS_HPP_

#include <cstddef>
#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include <torch_npy/data/request.hpp>
#include <torch_npy/io/byte_source.hpp>
#include <torch_npy/io/folder.hpp>
#include <torch_npy/io/object_source.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The objects of a batch, which are all read at the same time before the first of them is used.
class FetchedObjects {
 public:
  /// Of files nothing is fetched.
  FetchedObjects() = default;

  /// The objects of these lists that are samples of the request; `file_of(sample)` are their
  /// numbers in each list. Those that take more memory than the store's limit of bytes are missing:
  /// they are large, and each is read with several requests later. So are those that cannot be
  /// read, which are read again for their Errors.
  template <class FileOf>
  FetchedObjects(const std::vector<const FileList*>& lists, const Request& request,
                 const FileOf& file_of) {
    for (const Pick& pick : request.picks) {
      for (const FileList* const list : lists) {
        if (list->requests() != nullptr) add(*list, file_of(pick.sample));
      }
    }
    if (found_.empty()) return;
    std::vector<Found::value_type*> all;
    for (auto& one : found_) all.push_back(&one);
    all.front()->first.first->requests()->for_each_index(all.size(), [&](std::size_t i) {
      const auto& [list, file] = all[i]->first;
      try {
        all[i]->second = list->source(file, ObjectUse::Sample);
      } catch (const std::exception&) {  // Error or std::bad_alloc
      }
    });
  }

  /// A file as a source; null if it was not fetched.
  std::shared_ptr<const ByteSource> find(const FileList& list, std::size_t file) const {
    if (found_.empty()) return nullptr;
    const auto found = found_.find({&list, file});
    return found == found_.end() ? nullptr : found->second;
  }

 private:
  using Found =
      std::map<std::pair<const FileList*, std::size_t>, std::shared_ptr<const ByteSource>>;

  void add(const FileList& list, std::size_t file) {
    const std::uint64_t size = list.size_of(file);
    const std::uint64_t limit = list.requests()->options().bytes();
    if (size > limit || bytes_ > limit - size) return;
    if (found_.try_emplace({&list, file}).second) bytes_ += size;
  }

  Found found_;
  std::uint64_t bytes_ = 0;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_FETCHED_OBJECTS_HPP_
