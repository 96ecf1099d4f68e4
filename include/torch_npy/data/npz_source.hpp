#ifndef TORCH_NPY_DATA_NPZ_SOURCE_HPP_
#define TORCH_NPY_DATA_NPZ_SOURCE_HPP_

#include <c10/util/ArrayRef.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <torch_npy/data/bad_samples.hpp>
#include <torch_npy/data/batch.hpp>
#include <torch_npy/data/batch_buffer.hpp>
#include <torch_npy/data/batch_reader.hpp>
#include <torch_npy/data/fetched_objects.hpp>
#include <torch_npy/data/file_source.hpp>
#include <torch_npy/data/options.hpp>
#include <torch_npy/data/random.hpp>
#include <torch_npy/data/request.hpp>
#include <torch_npy/data/rows.hpp>
#include <torch_npy/data/source.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/io/byte_source.hpp>
#include <torch_npy/io/folder.hpp>
#include <torch_npy/io/object_source.hpp>
#include <torch_npy/tensor/array_members.hpp>
#include <torch_npy/tensor/memory.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/tensor/plan.hpp>
#include <torch_npy/tensor/read.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>
#include <torch_npy/zip/archive_bytes.hpp>
#include <torch_npy/zip/member.hpp>
#include <torch_npy/zip/reader.hpp>
#include <torch_npy/zip/records.hpp>

// Samples of which each is an archive.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The arrays of one name.
struct ArchivedPart final : SamplePart {
  std::shared_ptr<const FileList> files;
  std::string name;

  ArchivedPart(std::shared_ptr<const FileList> its_files, std::string its_name,
               const LoadOptions& its_options, std::shared_ptr<BufferPool> its_pool,
               FolderOptions::Expected its_expected)
      : SamplePart(its_options, std::move(its_pool), std::move(its_expected)),
        files(std::move(its_files)),
        name(std::move(its_name)) {}

  std::string origin(std::size_t file) const override {
    return shown_path((*files)[file]) + ": array " + in_quotes(name);
  }
};

using ArchivedParts = std::vector<std::shared_ptr<const ArchivedPart>>;

/// Opens archives one after another, in the same memory. Used by one thread. Errors have no path.
class ArchiveReader {
 public:
  /// The parts outlive it. `use`: what is read of the archives.
  ArchiveReader(const ArchivedParts& parts, ObjectUse use) : parts_(parts), use_(use) {}

  /// Opens the archive of a sample, after it has closed the one before.
  /// `fetched` is its bytes, if they are known.
  void open(std::size_t sample, std::shared_ptr<const ByteSource> fetched = nullptr) {
    archive_.reset();
    if (fetched == nullptr) fetched = parts_[0]->files->source(sample, use_);
    archive_ = open_archive(fetched, room_);
    if (!has_known_names()) find_arrays();
  }

  /// Calls `use` with the bytes of array `part` of the archive. `at_once`: see DeflatedMember.
  template <class Use>
  auto with_bytes(std::size_t part, std::uint64_t at_once, const Use& use) const {
    // Both are of the archive.
    const ZipMember* const member = found_[part] ? &archive_->members()[*found_[part]]
                                                 : &ArrayMembers(archive_).at(parts_[part]->name);
    return with_part("member", member->name,
                     [&] { return with_member(archive_, *member, use, at_once); });
  }

 private:
  /// Whether the members have the names of those in which the arrays were found. Then the arrays
  /// are in the same ones.
  bool has_known_names() const {
    const std::vector<ZipMember>& members = archive_->members();
    return !names_.empty() &&
           std::equal(members.begin(), members.end(), names_.begin(), names_.end(),
                      [](const ZipMember& member, const std::string& name) {
                        return member.name == name;
                      });
  }

  void find_arrays() {
    const ArrayMembers arrays(archive_);
    const std::vector<ZipMember>& members = archive_->members();
    names_.clear();
    found_.clear();
    for (const auto& part : parts_) {
      const ZipMember* const member = arrays.find_member(part->name);
      found_.emplace_back();
      if (member != nullptr) found_.back() = static_cast<std::size_t>(member - members.data());
    }
    // Of other members the names do not tell which are arrays.
    const auto is_array = [](const ZipMember& member) {
      return ends_as_array(member.name) && !is_hidden(member.name);
    };
    if (!std::all_of(members.begin(), members.end(), is_array)) return;
    for (const ZipMember& member : members) names_.push_back(member.name);
  }

  const ArchivedParts& parts_;
  ObjectUse use_;
  std::shared_ptr<char> room_ = ArchiveBytes::allocate_room();
  std::shared_ptr<const ZipArchive> archive_;
  std::vector<std::string> names_;                 // of the members of an earlier archive
  std::vector<std::optional<std::size_t>> found_;  // the members with the arrays
};

/// Samples of named tensors from the rows of each of them.
inline SampleRows<NamedExample> named_rows(const ArchivedParts& parts, std::vector<PartRows> rows,
                                           std::size_t count) {
  const auto is_whole = [](const PartRows& part) { return part.whole.defined(); };
  if (std::all_of(rows.begin(), rows.end(), is_whole)) {
    std::vector<NamedExample::Item> items;
    for (std::size_t k = 0; k < rows.size(); ++k) {
      items.emplace_back(parts[k]->name, std::move(rows[k].whole));
    }
    return NamedBatch(NamedExample(std::move(items)));
  }
  std::vector<std::vector<NamedExample::Item>> items(count);
  for (std::size_t k = 0; k < rows.size(); ++k) {
    std::vector<at::Tensor> tensors = std::move(rows[k]).separate();
    for (std::size_t i = 0; i < count; ++i) {
      items[i].emplace_back(parts[k]->name, std::move(tensors[i]));
    }
  }
  std::vector<NamedExample> samples;
  samples.reserve(count);
  for (auto& one : items) samples.emplace_back(std::move(one));
  return samples;
}

/// One archive a sample; the tensors of E are arrays of it.
template <class E>
class NpzSource final : public SampleSource<E> {
 public:
  /// `parts` in the order of the tensors of E; not empty.
  NpzSource(ArchivedParts parts, const FolderOptions& options)
      : SampleSource<E>(options),
        parts_(std::move(parts)),
        samples_(parts_[0]->files->size(), options) {}

  std::size_t size() const override { return samples_.size(); }

  std::string key(std::size_t sample) const override {
    return samples_.key(files()[samples_.file_of(sample)], sample);
  }

  bool reads_regions() const override { return !std::is_same_v<E, NamedExample>; }
  std::size_t file_of(std::size_t sample) const override {
    return samples_.first_file_of(sample, files());
  }

  std::uint64_t fingerprint() const override {
    std::uint64_t print = mix({size()});
    for (const auto& part : parts_) {
      print = mix({print, hash_of(part->name), fingerprint_of(part->options.region())});
    }
    return mix({print, fingerprint_of(files())});
  }

  std::int64_t length(std::size_t sample) const override {
    std::int64_t length = 0;
    about(samples_.file_of(sample), [&] {
      ArchiveReader archive(parts_, ObjectUse::Parts);
      archive.open(samples_.file_of(sample));
      length = with_plan(archive, 0, length_of);
    });
    return length;
  }

  std::vector<std::int64_t> labels(c10::ArrayRef<std::size_t> samples) const override {
    if constexpr (!kHasTarget<E>) return SampleSource<E>::labels(samples);
    constexpr std::size_t kTarget = 1;
    std::vector<std::int64_t> labels;
    labels.reserve(samples.size());
    ArchiveReader archive(parts_, ObjectUse::Parts);
    for (std::size_t i = 0; i < samples.size(); ++i) {
      const std::size_t file = samples_.file_of(samples[i]);
      if (i != 0 && file == samples_.file_of(samples[i - 1])) {
        labels.push_back(labels.back());
        continue;
      }
      about(file, [&] {
        archive.open(file);
        labels.push_back(with_open(archive, kTarget, [&](OpenArray& array) {
          return label_in(array, parts_[kTarget]->options);
        }));
      });
    }
    return labels;
  }

  std::vector<Error> check(std::size_t sample) const override {
    std::vector<Error> errors;
    const auto is_good = [&](const auto& work) {
      try {
        about(samples_.file_of(sample), work);
        return true;
      } catch (const Error& error) {
        if (is_of_system(error)) throw;
        errors.push_back(error);
        return false;
      }
    };
    ArchiveReader archive(parts_, ObjectUse::Parts);
    if (!is_good([&] { archive.open(samples_.file_of(sample)); })) return errors;
    for (std::size_t k = 0; k < parts_.size(); ++k) {
      (void)is_good([&] {
        with_plan(archive, k, [&](const LoadPlan& plan) { parts_[k]->require_expected(plan); });
      });
    }
    return errors;
  }

  SampleRows<E> read(Request& request) const override {
    const FetchedObjects fetched({&files()}, request,
                                 [&](std::size_t sample) { return samples_.file_of(sample); });
    // Larger ones are unpacked in part for their headers, and then whole.
    constexpr std::uint64_t kAtOnce = std::uint64_t{1} << 20;
    ArchiveReader archive(parts_, ObjectUse::Whole);
    std::vector<BatchReader> readers;
    readers.reserve(parts_.size());
    for (const auto& part : parts_) {
      readers.emplace_back(part, request.picks.size(), request.pin_memory);
    }
    const auto read_sample = [&](Pick& pick) {
      const std::size_t file = samples_.file_of(pick.sample);
      const auto read_part = [&](std::size_t part, const RegionOf& region_of = {},
                                 const c10::Scalar& fill_value = 0) {
        return archive.with_bytes(part, kAtOnce, [&](const ByteSource& bytes) {
          return readers[part].read(file, bytes, region_of, fill_value);
        });
      };
      about(file, [&] {
        archive.open(file, fetched.find(files(), file));
        const SampleRegions* const regions = request.regions;
        pick.is_cropped = regions != nullptr &&
                          read_regions(*regions, pick, readers[0], readers.size(), read_part);
        for (std::size_t k = 0; k < readers.size() && !pick.is_cropped; ++k) read_part(k);
      });
    };
    read_each(request, this->bad_samples(0), read_sample, [&](std::size_t) {
      for (BatchReader& reader : readers) reader.accept();
    });
    std::vector<PartRows> rows;
    for (BatchReader& reader : readers) rows.push_back(std::move(reader).finish());
    if constexpr (std::is_same_v<E, NamedExample>) {
      return named_rows(parts_, std::move(rows), request.picks.size());
    } else {
      return rows_from<E>(std::move(rows[0]), kHasTarget<E> ? std::move(rows[1]) : PartRows());
    }
  }

  const FileList& files() const { return *parts_[0]->files; }

  /// Calls `work`; its Errors are about an archive.
  template <class Work>
  void about(std::size_t file, const Work& work) const {
    files().about(file, work);
  }

  /// Calls `use` with an array of the archive.
  template <class Use>
  auto with_open(const ArchiveReader& archive, std::size_t part, const Use& use) const {
    return archive.with_bytes(part, DeflatedMember::kWholeForHeader, [&](const ByteSource& bytes) {
      return with_array(bytes, parts_[part]->options, use);
    });
  }

  /// Calls `use` with what is known of an array after its header was read.
  template <class Use>
  auto with_plan(const ArchiveReader& archive, std::size_t part, const Use& use) const {
    return with_open(archive, part,
                     [&](OpenArray& array) { return use(array.plan(parts_[part]->options)); });
  }

  ArchivedParts parts_;
  SamplesOfFiles samples_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_NPZ_SOURCE_HPP_
