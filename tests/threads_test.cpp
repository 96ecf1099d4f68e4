// Sixteen threads at once in every free-standing function, and in datasets and archives that they
// share. The thread sanitizer runs this. And what would be left hanging when an object goes that
// others look into: it does not compile.

#include <torch/data.h>

#include <torch_npy.hpp>

#include <atomic>
#include <sstream>
#include <thread>

#include "catch.hpp"
#include "files.hpp"

using namespace torch_npy;

namespace {

constexpr int kThreads = 16;

/// Calls `work(thread)` on every thread at once; gives how many of them threw or were not content.
template <class Work>
int failures_of(const Work& work) {
  std::atomic<int> ready{0};
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      ++ready;
      while (ready < kThreads) std::this_thread::yield();
      try {
        failures += !work(i);
      } catch (const std::exception& error) {
        std::fprintf(stderr, "thread %d: %s\n", i, error.what());
        ++failures;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return failures;
}

at::Tensor floats(at::IntArrayRef sizes, float first = 0) {
  std::int64_t count = 1;
  for (const std::int64_t size : sizes) count *= size;
  return at::arange(count, at::kFloat).add(first).view(sizes);
}

const auto kQuick = SaveOptions().sync(false);

/// Whether the call throws an Error of this code.
template <class Call>
bool fails_with(ErrorCode code, const Call& call) {
  try {
    (void)call();
  } catch (const Error& error) {
    return error.code() == code;
  }
  return false;
}

}  // namespace

TEST_CASE("every free-standing function, on sixteen threads", "[threads]") {
  const Folder folder;
  const at::Tensor small = floats({20, 30});
  const at::Tensor large = floats({300, 10000});
  save(folder / "small.npy", small, kQuick);
  save(folder / "large.npy", large, kQuick);
  save_npz(folder / "a.npz", {{"a", small}, {"b", small + 1}});
  write_bytes(folder / "bad.npy", "no array");
  write_bytes(folder / "fields.npy",
              npy(header_text("[('a', '<f4'), ('b', '>i2')]", "(50,)"), std::string(300, 'x')));
  const std::string bytes = read_bytes(folder / "small.npy");
  const Header header = read_header(folder / "small.npy");
  const NpzFile archive(folder / "a.npz");

  const auto work = [&](int thread) {
    const auto own = folder / (std::to_string(thread) + ".npy");
    const auto shared = folder / "shared.npy";
    bool good = true;
    for (int round = 0; round < 3; ++round) {
      const bool mmap = (thread + round) % 2 == 0;
      good &= at::equal(load(folder / "small.npy", LoadOptions().mmap(mmap)), small);
      good &= at::equal(load(folder / "large.npy", LoadOptions().threads(2)), large);
      good &= at::equal(load(folder / "small.npy", LoadOptions().dtype(at::kDouble).rows(3, 7)),
                        small.narrow(0, 3, 4).to(at::kDouble));
      good &= at::equal(load_bytes(bytes.data(), bytes.size()), small);
      std::stringstream stream;
      save(stream, small);
      good &= stream.str() == bytes && at::equal(load(stream), small);
      const at::Tensor out = at::empty({20, 30});
      load_into(out, folder / "small.npy");
      good &= at::equal(out, small);
      for (const at::Tensor& tensor : load_all({folder / "small.npy", folder / "small.npy"})) {
        good &= at::equal(tensor, small);
      }
      good &= load_fields(folder / "fields.npy")["b"].size(0) == 50;
      good &= at::equal(load_npz(folder / "a.npz")["b"], small + 1);
      good &= archive.contains("a") && !archive.is_deflated("a") &&
              archive.header("a").shape == header.shape && archive.names().size() == 2 &&
              at::equal(archive.load("a", LoadOptions().mmap(mmap)), small);
      good &=
          parse_header(bytes.data(), bytes.size()).shape == read_header(folder / "small.npy").shape;
      good &= format_header(header) == bytes.substr(0, header.data_offset);
      good &= to_device(small, default_device()).defined();
      good &= fails_with(ErrorCode::NotNpy, [&] { return load(folder / "bad.npy"); });
      good &= fails_with(ErrorCode::NotFound, [&] { return load(folder / "none.npy"); });

      save(own, small + thread, kQuick);
      good &= at::equal(load(own), small + thread);
      save(shared, floats({20, 30}, static_cast<float>(1000 * thread)), kQuick);
      const at::Tensor any = load(shared);
      good &= at::equal(any, floats({20, 30}, any[0][0].item<float>()));
      save_npz(folder / "shared.npz", {{"a", small}}, SaveNpzOptions().sync(false));
      good &= at::equal(load_npz(folder / "shared.npz")["a"], small);
      Appender appender(own, kQuick);
      appender.append(small);
      appender.close();
      good &= load(own).size(0) == 40;
    }
    return good;
  };
  CHECK(failures_of(work) == 0);
}

TEST_CASE("datasets that sixteen threads share", "[threads]") {
  const Folder folder;
  for (const char* part : {"inputs", "targets", "classes/a", "classes/b"}) {
    std::filesystem::create_directories(folder / part);
    for (int i = 0; i < 40; ++i) {
      save(folder / part / (std::to_string(i) + ".npy"), floats({3, 8, 8}, static_cast<float>(i)),
           kQuick);
    }
  }
  save(folder / "rows.npy", floats({100, 3, 8, 8}), kQuick);
  write_bytes(folder / "inputs" / "bad.npy", "no array");
  write_bytes(folder / "targets" / "bad.npy", "no array");

  const auto skip = FolderOptions().natural_order(true).on_bad_file(OnBadFile::Skip);
  const FolderDataset files(folder / "inputs", skip);
  const PairedFolderDataset pairs(folder / "inputs", folder / "targets", skip);
  const ClassFolderDataset classes(folder / "classes");
  const ArrayDataset rows(folder / "rows.npy");
  const auto work = [&](int thread) {
    auto own_files = FolderDataset(files).stacked();  // copies share what lies under them
    auto own_pairs = PairedFolderDataset(pairs).stacked();
    auto own_classes = ClassFolderDataset(classes).stacked();
    auto own_rows = ArrayDataset(rows).stacked();
    bool good = true;
    for (std::size_t round = 0; round < 5; ++round) {
      const std::vector<std::size_t> indices = {round, static_cast<std::size_t>(thread),
                                                40};  // the last one is bad
      const std::vector<std::size_t> good_indices = {round, static_cast<std::size_t>(thread)};
      good &= at::equal(own_files.get_batch(indices).data[1],
                        floats({3, 8, 8}, static_cast<float>(thread)));
      good &= at::equal(own_pairs.get_batch(indices).target[0],
                        floats({3, 8, 8}, static_cast<float>(round)));
      good &= own_classes.get_batch(good_indices).target.sum().item<std::int64_t>() == 0;
      good &= at::equal(own_rows.get_batch(good_indices).data[1], floats({100, 3, 8, 8})[thread]);
    }
    return good && files.verify().size() == 1 && classes.classes().size() == 2 &&
           rows.size() == 100u;
  };
  CHECK(failures_of(work) == 0);
  CHECK(files.bad_file_count() == std::size_t{5 * kThreads});
}

namespace {

// Each expression with a value category put in: what compiles for `Object&` and must not for
// `Object`.

template <class Object>
using FilesOf = decltype(std::declval<Object>().files());
template <class Object>
using TargetFilesOf = decltype(std::declval<Object>().target_files());
template <class Object>
using PrefetchOf = decltype(prefetch(std::declval<Object>(), at::kCPU));
template <class Object>
using PartOf = decltype(torch_npy::detail::FilePart(std::declval<Object>(), 0, 0));
template <class Object>
using WriterOf = decltype(torch_npy::detail::ZipWriter(std::declval<Object>()));
template <class Object>
using StreamLoadOf = decltype(load(std::declval<Object>()));

template <template <class> class Expression, class Object, class = void>
constexpr bool kCompiles = false;
template <template <class> class Expression, class Object>
constexpr bool kCompiles<Expression, Object, std::void_t<Expression<Object>>> = true;

template <template <class> class Expression, class Object>
constexpr bool kForLasting = kCompiles<Expression, Object&> && !kCompiles<Expression, Object>;

using Loader = decltype(torch::data::make_data_loader(std::declval<FolderDataset>()))::element_type;

static_assert(kForLasting<FilesOf, FolderDataset>);
static_assert(kForLasting<FilesOf, PairedFolderDataset>);
static_assert(kForLasting<TargetFilesOf, PairedFolderDataset>);
static_assert(kForLasting<FilesOf, ClassFolderDataset>);
static_assert(kForLasting<PrefetchOf, Loader>);
static_assert(kForLasting<PartOf, torch_npy::detail::File>);
static_assert(kForLasting<WriterOf, torch_npy::detail::AtomicFile>);
static_assert(kForLasting<StreamLoadOf, std::istream>);
// A copy, where that is cheap.
static_assert(!std::is_reference_v<decltype(std::declval<ClassFolderDataset>().classes())>);
static_assert(!std::is_reference_v<decltype(std::declval<NpzFile>().names())>);

}  // namespace
