// Samples that stay in memory after they were first read: Dataset::cached().

#include <torch_npy/data/array_dataset.hpp>
#include <torch_npy/data/combine.hpp>
#include <torch_npy/data/folder_datasets.hpp>
#include <torch_npy/data/loader.hpp>
#include <torch_npy/data/split.hpp>
#include <torch_npy/data/transforms.hpp>
#include <torch_npy/tensor/save.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/zeros.h>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/expected.hpp"
#include "support/files.hpp"
#include "support/samples.hpp"

using namespace torch_npy;

namespace {

constexpr std::size_t kMany = std::size_t{1} << 20;
constexpr std::size_t kSampleBytes = 6 * 4 + 8;  // of a NumberSource

/// Samples that a function makes, and how often each was made.
template <class E>
class Made : public SampleSource<E> {
 public:
  Made(std::size_t size, std::function<E(int)> make, const FolderOptions& options = {})
      : SampleSource<E>(options), make_(std::move(make)), reads(size) {}

  std::size_t size() const override { return reads.size(); }
  std::string key(std::size_t number) const override { return "number " + std::to_string(number); }
  SampleRows<E> read(Request& request) const override {
    std::vector<E> all;
    for (const Pick& pick : request.picks) {
      ++reads[pick.sample];
      all.push_back(make_(static_cast<int>(pick.sample)));
    }
    return all;
  }

 private:
  std::function<E(int)> make_;

 public:
  mutable std::vector<std::atomic<int>> reads;
};

Example<> numbered(int i) {
  return {sample(i), at::full({}, static_cast<std::int64_t>(i), at::kLong)};
}

std::vector<int> reads_of(const Made<Example<>>& source) {
  return {source.reads.begin(), source.reads.end()};
}

bool is_same(const at::Tensor& a, const at::Tensor& b) {
  if (!a.defined() || !b.defined()) return a.defined() == b.defined();
  return a.scalar_type() == b.scalar_type() && a.sizes() == b.sizes() &&
         (a.numel() == 0 || a.strides() == b.strides()) && at::equal(a, b);
}

template <class E>
bool is_same_example(const E& a, const E& b) {
  std::vector<at::Tensor> tensors;
  torch_npy::detail::SampleTensors<E>::each(
      a, [&](const std::string&, const at::Tensor& tensor) { tensors.push_back(tensor); });
  std::size_t k = 0;
  bool same = true;
  torch_npy::detail::SampleTensors<E>::each(b, [&](const std::string&, const at::Tensor& tensor) {
    same = same && k < tensors.size() && is_same(tensors[k++], tensor);
  });
  return same && k == tensors.size();
}

template <class E>
bool is_same_batch(const Samples<E>& a, const Samples<E>& b) {
  bool same = a.size() == b.size() && a.indices == b.indices;
  for (std::size_t i = 0; same && i < a.size(); ++i) same = is_same_example(a[i], b[i]);
  return same;
}
template <class E>
bool is_same_batch(const Batch<E>& a, const Batch<E>& b) {
  return a.indices == b.indices && is_same_example<E>(a, b);
}

/// Fails unless both datasets give the same batches, epoch after epoch.
template <class D>
void check_same(const D& cached, const D& plain, std::size_t epochs = 3) {
  for (const std::size_t workers : {0, 2}) {
    const auto options = LoaderOptions().batch_size(3).shuffle(true).seed(4).workers(workers);
    Loader a(cached, options);
    Loader b(plain, options);
    for (std::size_t epoch = 0; epoch < epochs; ++epoch) {
      auto other = b.begin();
      for (auto& batch : a) {
        REQUIRE(other != b.end());
        CHECK(is_same_batch(batch, *other));
        ++other;
      }
      CHECK(other == b.end());
    }
  }
}

/// The same, unstacked and stacked, for caches of several sizes.
template <class E>
void check_all(const Dataset<E>& plain, bool can_stack = true) {
  for (const std::size_t bytes : {std::size_t{1}, 5 * kSampleBytes, kMany}) {
    check_same(plain.cached(bytes), plain);
    if (can_stack) check_same(plain.cached(bytes).stacked(), plain.stacked());
  }
}

}  // namespace

TEST_CASE("a cached sample is read once", "[cached]") {
  const auto source = std::make_shared<const Made<Example<>>>(10, numbered);
  const Dataset<> plain(source);
  const auto cached = plain.cached(kMany);
  const auto copy = cached;
  for (const Indices& asked : {Indices{3, 1, 4}, {1, 5, 9}, {9, 2, 6, 5}, {3, 5}, {0, 7, 8}}) {
    CHECK(is_same_batch(cached.get_batch(asked), Dataset<>(number_dataset(10)).get_batch(asked)));
  }
  CHECK(reads_of(*source) == std::vector<int>(10, 1));
  check_same(copy.stacked(), number_dataset(10).stacked());
  CHECK(cached.subset({4, 4, 1}).get(1).target.item<std::int64_t>() == 4);
  CHECK(concat(cached, cached).stacked().get_batch({4, 14, 15}).target.sum().item<std::int64_t>() ==
        13);
  CHECK(reads_of(*source) == std::vector<int>(10, 1));
  (void)plain.get(3);
  CHECK(source->reads[3] == 2);
  CHECK(cached.key(3) == plain.key(3));
  CHECK(*cached.size() == 10);
}

TEST_CASE("samples that do not fit are read again, and those that came first stay", "[cached]") {
  const auto source = std::make_shared<const Made<Example<>>>(10, numbered);
  const auto cached = Dataset<>(source).cached(3 * kSampleBytes + kSampleBytes - 1);
  for (int round = 1; round < 4; ++round) {
    for (const Indices& asked : {Indices{7, 2}, {9, 7, 0}, {0, 1, 2, 3, 4}}) {
      CHECK(is_same_batch(cached.get_batch(asked), number_dataset(10).get_batch(asked)));
    }
    std::vector<int> want(10);
    for (const std::size_t i : {2, 7, 9}) want[i] = 1;
    for (const std::size_t i : {1, 3, 4}) want[i] = round;
    want[0] = 2 * round;
    CHECK(reads_of(*source) == want);
  }
}

TEST_CASE("samples of any size are cached", "[cached]") {
  const auto make = [](int i) {
    return Example<>(at::full({i % 3 == 0   ? 1 << 20
                               : i % 3 == 1 ? 2000000
                                            : 7},
                              i),
                     at::full({}, i));
  };
  const auto source = std::make_shared<const Made<Example<>>>(9, make);
  const auto cached = Dataset<>(source).cached(std::size_t{1} << 30);
  for (int round = 0; round < 2; ++round) {
    const auto batch = cached.get_batch({0, 1, 2, 3, 4, 5, 6, 7, 8});
    for (int i = 0; i < 9; ++i) CHECK(is_same_example(batch[static_cast<std::size_t>(i)], make(i)));
  }
  CHECK(reads_of(*source) == std::vector<int>(9, 1));
}

TEST_CASE("batches of a cached dataset are equal to those of the dataset", "[cached]") {
  check_all(number_dataset(20));
  check_all(Dataset<TensorExample>(std::make_shared<const Made<TensorExample>>(
      20, [](int i) { return TensorExample(sample(i).to(at::kHalf)); })));
  check_all(Dataset<NamedExample>(std::make_shared<const Made<NamedExample>>(20, [](int i) {
    return NamedExample(
        {{"image", sample(i)}, {"empty", at::zeros({0, 2})}, {"id", at::full({}, i)}});
  })));
  // Samples of different shape, dtype and names; rows that are not contiguous.
  check_all(Dataset<>(std::make_shared<const Made<Example<>>>(
                20, [](int i) { return Example<>(at::full({i % 4}, i), at::full({2}, i)); })),
            false);
  check_all(Dataset<TensorExample>(std::make_shared<const Made<TensorExample>>(
                20,
                [](int i) {
                  return TensorExample(i % 3 == 0   ? sample(i).t()
                                       : i % 3 == 1 ? sample(i).to(at::kDouble)
                                                    : sample(i));
                })),
            false);
  check_all(Dataset<NamedExample>(std::make_shared<const Made<NamedExample>>(
                20,
                [](int i) {
                  return NamedExample({{i % 2 == 0 ? "even" : "odd", sample(i)}});
                })),
            false);
}

TEST_CASE("batches of cached files are equal to those of the files", "[cached]") {
  const Folder folder;
  for (const char* part : {"data", "target", "classes/a", "classes/b", "lengths", "orders"}) {
    std::filesystem::create_directories(folder / part);
    for (int i = 0; i < 15; ++i) {
      const auto path = folder / part / name_of(i);
      if (part == std::string("lengths")) {
        save(path, at::full({i % 5, 2}, i));
      } else if (part == std::string("orders") && i % 2 == 0) {
        write_bytes(path, npy(header_text("'<f4'", "(3, 2)", "True"), bytes_of(sample(i))));
      } else if (part == std::string("orders")) {
        write_bytes(path, big_endian_npy(sample(i).t()));
      } else {
        save(path, sample(i));
      }
    }
  }
  check_all<TensorExample>(FolderDataset(folder / "data"));
  check_all<Example<>>(PairedFolderDataset(folder / "data", folder / "target"));
  check_all<Example<>>(ClassFolderDataset(folder / "classes"));
  check_all<TensorExample>(FolderDataset(
      folder / "data", FolderOptions().data_options(LoadOptions().dtype(at::kDouble))));
  check_all<TensorExample>(
      FolderDataset(folder / "data", FolderOptions().data_options(LoadOptions().mmap(true))));
  check_all<TensorExample>(FolderDataset(folder / "orders"));
  check_all<TensorExample>(FolderDataset(folder / "lengths"), false);
  const FolderDataset lengths(folder / "lengths");
  const auto padded = lengths.cached(kMany).map(transforms::PadStack());
  const auto want = lengths.map(transforms::PadStack()).get_batch({1, 4, 2});
  for (int round = 0; round < 2; ++round) {
    const auto got = padded.get_batch({1, 4, 2});
    CHECK(is_same(got.data, want.data));
    CHECK(is_same(got.lengths, want.lengths));
  }
  CHECK(lengths.cached(kMany).lengths() == lengths.lengths());
  CHECK(lengths.cached(kMany).verify().empty());
  CHECK(lengths.cached(kMany).source()->fingerprint() == lengths.source()->fingerprint());

  // Later epochs do not read the files.
  const FolderDataset files(folder / "data");
  const auto cached = files.cached(kMany).stacked();
  Indices all;
  for (std::size_t i = 0; i < 15; ++i) all.push_back(i);
  const auto first = cached.get_batch(all);
  std::filesystem::remove_all(folder / "data");
  CHECK(is_same_batch(cached.get_batch(all), first));
  CHECK(error_of([&] { (void)files.get(0); }).code() == ErrorCode::NotFound);
}

TEST_CASE("transforms of a cached dataset draw as they do without a cache", "[cached]") {
  const auto changed = [](const Dataset<>& dataset) {
    return dataset.map(transforms::RandomHorizontalFlip(0.5))
        .stacked()
        .map([](Batch<>& batch, at::Generator& generator) {
          batch.data = batch.data + at::rand(batch.data.sizes(), generator);
        });
  };
  // Images.
  const Dataset<> plain(std::make_shared<const Made<Example<>>>(20, [](int i) {
    return Example<>(at::arange(24).reshape({3, 2, 4}) + i, at::full({}, i));
  }));
  for (const std::size_t bytes : {std::size_t{1000}, kMany}) {
    check_same(changed(plain.cached(bytes)), changed(plain));
  }
}

TEST_CASE("a batch is a copy of what is cached", "[cached]") {
  const auto cached = number_dataset(4).cached(kMany);
  for (int round = 0; round < 3; ++round) {
    auto list = cached.get_batch({0, 1, 2});
    CHECK(numbers_of(list) == std::vector<int>{0, 1, 2});
    for (auto& one : list) one.data.fill_(-1);
    auto batch = cached.stacked().get_batch({0, 1, 2});
    CHECK(numbers_of(batch) == std::vector<int>{0, 1, 2});
    batch.data.fill_(-1);
    batch.target.fill_(-1);
  }
  // Two batches do not share memory.
  const auto one = cached.stacked().get_batch({0, 1});
  const auto other = cached.stacked().get_batch({1, 0});
  CHECK(numbers_of(one) == std::vector<int>{0, 1});
  CHECK(numbers_of(other) == std::vector<int>{1, 0});
  // A batch outlives the dataset.
  const auto kept = number_dataset(4).cached(kMany).stacked().get_batch({3});
  CHECK(numbers_of(kept) == std::vector<int>{3});
}

TEST_CASE("a bad sample is not cached, and one that replaces it is cached as itself", "[cached]") {
  const Folder folder;
  fill_folder(folder, 40);
  damage(folder, {3, 4, 5, 17, 30});
  save(folder / name_of(20), at::zeros({2, 4}) + 2000);
  for (const auto what : {OnBadFile::Skip, OnBadFile::Replace}) {
    const auto options = FolderOptions().on_bad_file(what);
    for (const std::size_t bytes : {std::size_t{200}, kMany}) {
      const FolderDataset files(folder.path(), options);
      const FolderDataset again(folder.path(), options);
      check_same(files.cached(bytes).stacked(), again.stacked());
      CHECK(files.bad_file_count() == again.bad_file_count());
      CHECK(files.bad_file_count() > 6 * 6 - 1);  // in each of six epochs
      check_same(files.subset({9, 3, 20, 5, 6, 7, 1}).cached(bytes).stacked(),
                 again.subset({9, 3, 20, 5, 6, 7, 1}).stacked());
      check_same(files.cached(bytes).subset({9, 3, 20, 5, 6, 7, 1}),
                 again.subset({9, 3, 20, 5, 6, 7, 1}));
      check_same(concat(files.cached(bytes), files.subset({1, 2, 4})).stacked(),
                 concat(again, again.subset({1, 2, 4})).stacked());
      check_same(concat(files, files.subset({8, 3, 9})).cached(bytes).stacked(),
                 concat(again, again.subset({8, 3, 9})).stacked());
    }
  }
  // An Error is not cached, either.
  const auto cached = FolderDataset(folder.path()).cached(kMany);
  CHECK(error_of([&] { (void)cached.get_batch({2, 3}); }).code() == ErrorCode::NotNpy);
  save(folder / name_of(3), sample(3));
  CHECK(numbers_of(cached.get_batch({2, 3})) == std::vector<int>{2, 3});
}

TEST_CASE("the parts of a split share the cache of the dataset", "[cached]") {
  const auto source = std::make_shared<const Made<Example<>>>(20, numbered);
  const auto cached = Dataset<>(source).cached(kMany);
  const auto [train, validation] = random_split(cached, {0.8, 0.2}, 1);
  check_same(train.stacked(), random_split(number_dataset(20), {0.8, 0.2}, 1)[0].stacked());
  check_same(validation, random_split(number_dataset(20), {0.8, 0.2}, 1)[1]);
  CHECK(reads_of(*source) == std::vector<int>(20, 1));
  // A cache of one part.
  const auto [first, second] = random_split(Dataset<>(source), {0.5, 0.5}, 1);
  const auto half = first.cached(kMany);
  check_same(half.stacked(), random_split(number_dataset(20), {0.5, 0.5}, 1)[0].stacked());
  int reads = 0;
  for (const int count : reads_of(*source)) reads += count;
  CHECK(reads == 20 + 10);
}

TEST_CASE("the rows of an ArrayDataset are not copied into a cache", "[cached]") {
  const at::Tensor data = samples(5);
  const auto cached = ArrayDataset(data).cached(kMany).stacked();
  const auto subset = ArrayDataset(data).subset({3, 1}).cached(kMany).stacked();
  const auto joined = concat(ArrayDataset(data), ArrayDataset(data)).cached(kMany).stacked();
  (void)cached.get_batch({1});
  (void)subset.get_batch({1});
  (void)joined.get_batch({1});
  data.add_(100);
  CHECK(numbers_of(cached.get_batch({1})) == std::vector<int>{2});
  CHECK(numbers_of(subset.get_batch({1})) == std::vector<int>{2});
  CHECK(numbers_of(joined.get_batch({1})) == std::vector<int>{2});
}

TEST_CASE("tensors that are not plain bytes are read again", "[cached]") {
  const auto check = [](const std::function<Example<>(int)>& make) {
    const auto source = std::make_shared<const Made<Example<>>>(3, make);
    const auto cached = Dataset<>(source).cached(kMany);
    for (int round = 1; round < 4; ++round) {
      const auto batch = cached.get_batch({0, 1, 2});
      CHECK(batch.size() == 3);
      CHECK(batch[1].data.layout() == make(1).data.layout());
      CHECK(batch[1].data.requires_grad() == make(1).data.requires_grad());
      CHECK(batch[1].target.defined() == make(1).target.defined());
      CHECK(reads_of(*source) == std::vector<int>(3, round));
    }
  };
  check([](int i) { return Example<>(sample(i).to_sparse(), at::full({}, i)); });
  check([](int i) { return Example<>(sample(i), at::Tensor()); });
  check([](int i) { return Example<>(sample(i).requires_grad_(true), at::full({}, i)); });
  check([](int i) { return Example<>(at::full({1}, i).expand({3}), at::full({}, i)); });
}

TEST_CASE("messages name the files of cached samples", "[cached]") {
  const Folder folder;
  fill_folder(folder, 3);
  save(folder / "other.npy", at::zeros({2, 4}));
  const auto cached = FolderDataset(folder.path()).cached(kMany);
  for (int round = 0; round < 2; ++round) {
    const Error error = error_of([&] { (void)cached.stacked().get_batch({1, 2, 0}); });
    CHECK_THAT(error.what(), says("other.npy"));
    CHECK_THAT(error.what(), says(name_of(0)));
  }
}

TEST_CASE("a cache that cannot be right is refused", "[cached]") {
  const auto dataset = number_dataset(4);
  const auto refused = [](const auto& work) {
    const Error error = error_of(work);
    CHECK(error.code() == ErrorCode::InvalidArgument);
    return std::string(error.what());
  };
  CHECK_THAT(refused([&] { (void)dataset.cached(0); }), says("cached(0) keeps nothing"));
  const auto mapped = dataset.map([](Example<>& one) { one.data = one.data + 1; });
  CHECK_THAT(refused([&] { (void)mapped.cached(kMany); }),
             says("call it before map(), dataset.cached(bytes).map(...)"));
  CHECK_THAT(refused([&] { (void)concat(mapped, dataset).subset({1}).cached(kMany); }),
             says("before map()"));
}
