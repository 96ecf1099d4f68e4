// Random patches of samples, of which only the patches are read.

#include <torch_npy/data/array_dataset.hpp>
#include <torch_npy/data/combine.hpp>
#include <torch_npy/data/file_dataset.hpp>
#include <torch_npy/data/folder_datasets.hpp>
#include <torch_npy/data/loader.hpp>
#include <torch_npy/data/transforms.hpp>
#include <torch_npy/tensor/load.hpp>
#include <torch_npy/tensor/save.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/images.hpp"
#include "support/samples.hpp"

using namespace torch_npy;
namespace tf = torch_npy::transforms;

namespace {

/// A volume of int16, of which every voxel has another value; every third one in Fortran order.
at::Tensor volume(int i, const std::vector<std::int64_t>& sizes) {
  std::int64_t count = 1;
  for (const std::int64_t size : sizes) count *= size;
  const at::Tensor voxels = (at::arange(count) + 1000 * i).reshape(sizes).to(at::kShort);
  return i % 3 == 2 ? voxels.permute({2, 1, 0}).contiguous().permute({2, 1, 0}) : voxels;
}

/// Volumes of different shape, and a mask for each.
void write_volumes(const Folder& folder, int count) {
  for (const char* name : {"x", "y"}) std::filesystem::create_directory(folder / name);
  for (int i = 0; i < count; ++i) {
    const at::Tensor voxels = volume(i, {9 + i % 4, 12, 10 + i % 3});
    save(folder / "x" / name_of(i), voxels);
    save(folder / "y" / name_of(i), (voxels + 7).to(at::kByte));
  }
}

/// A dataset whose samples the crop gets whole, because a function is applied to them before it.
/// That is one transform more, so the numbers of the crop differ from those without it.
template <class E>
auto through_function(const Dataset<E>& dataset) {
  return dataset.map([](E& sample) { sample.data = sample.data.clone(); });
}

/// The samples of another dataset, from a source that cannot read regions.
template <class E>
class Unable : public SampleSource<E> {
 public:
  explicit Unable(Dataset<E> dataset) : dataset_(std::move(dataset)) {}

  std::size_t size() const override { return *dataset_.size(); }
  std::string key(std::size_t sample) const override { return dataset_.key(sample); }
  torch_npy::detail::BadSamples& bad_samples(std::size_t sample) const override {
    return dataset_.source()->bad_samples(sample);
  }
  SampleRows<E> read(Request& request) const override {
    if (request.regions != nullptr) throw std::logic_error("this source cannot read regions");
    auto rows = dataset_.read_part(request);
    return rows ? std::move(*rows) : SampleRows<E>(std::vector<E>());
  }

 private:
  Dataset<E> dataset_;
};

template <class E>
Dataset<E> unable(const Dataset<E>& dataset) {
  return Dataset<E>(std::make_shared<const Unable<E>>(dataset));
}

Request request_of(const Indices& indices, std::uint64_t seed) {
  Request request(indices);
  request.seed = seed;
  request.epoch = 3;
  return request;
}

template <class E>
bool same(const E& a, const E& b) {
  bool is_same = true;
  std::vector<at::Tensor> first;
  torch_npy::detail::SampleTensors<E>::each(
      a, [&](const std::string&, const at::Tensor& t) { first.push_back(t); });
  std::size_t k = 0;
  torch_npy::detail::SampleTensors<E>::each(b, [&](const std::string&, const at::Tensor& t) {
    const at::Tensor& other = first[k++];
    is_same = is_same && other.sizes() == t.sizes() && other.scalar_type() == t.scalar_type() &&
              other.is_contiguous() == t.is_contiguous() && at::equal(other, t);
  });
  return is_same;
}

/// Both datasets give the same batches.
template <class E>
void check_same(const Dataset<E>& a, const Dataset<E>& b, const Indices& indices) {
  for (const std::uint64_t seed : {1, 2}) {
    const auto x = a.get_batch(request_of(indices, seed));
    const auto y = b.get_batch(request_of(indices, seed));
    REQUIRE(x.size() == y.size());
    CHECK(x.indices == y.indices);
    for (std::size_t i = 0; i < x.size(); ++i) CHECK(same(x[i], y[i]));
  }
}

/// A crop of what a dataset reads is the same as a crop of whole samples.
template <class E>
void check_crop(const Dataset<E>& dataset, const tf::RandomCrop& crop, const Indices& indices) {
  check_same(dataset.map(crop), unable(dataset).map(crop), indices);
}

/// Bytes that this process has read from files; 0 where the system does not tell.
std::uint64_t bytes_read() {
  std::ifstream in("/proc/self/io");
  std::string name;
  std::uint64_t value = 0;
  while (in >> name >> value) {
    if (name == "rchar:") return value;
  }
  return 0;
}

const Indices kPicked = {4, 0, 5, 2, 4, 1, 3};

}  // namespace

TEST_CASE("a crop of files is the same whether whole samples are read or not", "[dataset][crop]") {
  const Folder folder;
  write_volumes(folder, 6);
  const FolderDataset volumes(folder / "x");
  const PairedFolderDataset pairs(folder / "x", folder / "y");
  for (const std::int64_t padding : {0, 2, 9}) {
    check_crop<TensorExample>(volumes, tf::RandomCrop({4, 5, 6}, padding), kPicked);
    check_crop<TensorExample>(volumes, tf::RandomCrop({5, 6}, padding), kPicked);
    check_crop<TensorExample>(volumes, tf::RandomCrop({4, -1, 6}, padding).fill(-3), {3, 3});
    check_crop<Example<>>(pairs, tf::RandomCrop({4, 5, 6}, padding).fill(-3, 255), kPicked);
    check_crop<Example<>>(pairs, tf::RandomCrop({4, 5, 6}, padding).with_target(false), kPicked);
  }
  const auto large = tf::RandomCrop({11, 13, 6}).pad_if_needed(true).fill(-1, 200);
  check_crop<Example<>>(pairs, large, kPicked);
  for (const LoadOptions& options :
       {LoadOptions().dtype(at::kFloat), LoadOptions().mmap(true), LoadOptions().rows(2, 8),
        LoadOptions().region({{}, {1, 9}, {-2, 9}}).out_of_bounds(OutOfBounds::Fill)}) {
    const FolderDataset loaded(folder / "x", FolderOptions().data_options(options));
    check_crop<TensorExample>(loaded, tf::RandomCrop({4, 5, 6}, 1), kPicked);
  }
  // Patches have one shape, so that they can be stacked.
  const auto batch = volumes.map(tf::RandomCrop({4, 5, 6})).stacked().get_batch(kPicked);
  CHECK(batch.data.sizes() == at::IntArrayRef({7, 4, 5, 6}));
  CHECK(batch.data.is_contiguous());
  CHECK(batch.indices == kPicked);
}

TEST_CASE("with mmap(true) files stay mapped for their patches", "[dataset][crop]") {
  const Folder folder;
  const auto path = folder / name_of(0);
  torch_npy::save(path, at::full({8, 9}, 1, at::kShort));
  write_bytes(folder / name_of(1), "");
  write_bytes(folder / name_of(2), "no array");
  const auto options = FolderOptions().data_options(LoadOptions().mmap(true));
  const FolderDataset mapped(folder.path(), options);
  const auto patches = mapped.map(tf::RandomCrop({4, 4})).stacked();
  CHECK(at::equal(patches.get_batch({0, 0}).data, at::full({2, 4, 4}, 1, at::kShort)));
  torch_npy::save(path, at::full({8, 9}, 2, at::kShort));  // another file of this name
  CHECK(at::equal(patches.get_batch({0}).data, at::full({1, 4, 4}, 1, at::kShort)));
  CHECK(at::equal(mapped.get(0).data, at::full({8, 9}, 2, at::kShort)));
  for (const std::size_t bad : {1, 2}) {
    const Error error = error_of([&] { (void)patches.get_batch({bad}); });
    CHECK(error.code() == (bad == 1 ? ErrorCode::Truncated : ErrorCode::NotNpy));
    CHECK(error.path() == folder / name_of(static_cast<int>(bad)));
  }
  const FolderDataset tolerant(folder.path(), FolderOptions(options).on_bad_file(OnBadFile::Skip));
  CHECK(tolerant.map(tf::RandomCrop({4, 4})).stacked().get_batch({0, 1, 2, 0}).indices ==
        Indices{0, 0});
}

TEST_CASE("with mmap(true) a file that was incomplete is read when it is complete",
          "[dataset][crop]") {
  const Folder folder;
  const auto path = folder / name_of(0);
  save(path, at::full({8, 9}, 1, at::kShort));
  std::ifstream in(path, std::ios::binary);
  const std::string whole((std::istreambuf_iterator<char>(in)), {});
  write_bytes(path, whole.substr(0, whole.size() - 8));
  const auto options = FolderOptions().data_options(LoadOptions().mmap(true));
  const auto patches = FolderDataset(folder.path(), options).map(tf::RandomCrop({4, 4})).stacked();
  CHECK(error_of([&] { (void)patches.get_batch({0}); }).code() == ErrorCode::Truncated);
  write_bytes(path, whole);
  CHECK(at::equal(patches.get_batch({0}).data, at::full({1, 4, 4}, 1, at::kShort)));
}

TEST_CASE("more files than can be mapped are read for their patches", "[dataset][crop]") {
  const Folder folder;
  const auto path = folder / name_of(0);
  save(path, at::full({8, 9}, 1, at::kShort));
  const std::vector<std::filesystem::path> files(12000, path);
  const auto options = FolderOptions().data_options(LoadOptions().mmap(true));
  const at::Tensor want = at::full({1, 4, 4}, 1, at::kShort);
  std::vector<Dataset<TensorExample, Batch<TensorExample>>> both;
  for (int i = 0; i < 2; ++i) {
    both.push_back(FileDataset(files, options).map(tf::RandomCrop({4, 4})).stacked());
    for (std::size_t k = 0; k < files.size(); ++k) {
      REQUIRE(at::equal(both.back().get_batch({k}).data, want));
    }
  }
  std::ifstream maps("/proc/self/maps");  // where the system has it
  std::size_t count = 0;
  for (std::string line; std::getline(maps, line);) {
    count += line.find(path.filename().string()) != line.npos;
  }
  CHECK(count <= 16384);
}

TEST_CASE("the draws of a crop are those of its place in the chain", "[dataset][crop]") {
  const Folder folder;
  write_volumes(folder, 6);
  const FolderDataset volumes(folder / "x");
  const auto crop = tf::RandomCrop({4, 5, 6});
  const Dataset<TensorExample> other = unable<TensorExample>(volumes);
  // Of a crop only the first is read: the second one crops what is left.
  check_same(volumes.map(tf::RandomCrop({6, 7, 8})).map(crop),
             other.map(tf::RandomCrop({6, 7, 8})).map(crop), kPicked);
  check_same(through_function<TensorExample>(volumes).map(crop), through_function(other).map(crop),
             kPicked);
  check_same(volumes.map(crop).map(tf::RandomHorizontalFlip(0.5)),
             other.map(crop).map(tf::RandomHorizontalFlip(0.5)), kPicked);
  // Parts and several datasets.
  const Indices list = {5, 3, 3, 0, 1, 2};
  check_same(volumes.subset(list).map(crop), other.subset(list).map(crop), kPicked);
  check_same(volumes.map(crop).subset(list), other.map(crop).subset(list), kPicked);
  check_same(concat(volumes.subset({5, 1, 2}), volumes.subset({4, 0, 3})).map(crop),
             concat(other.subset({5, 1, 2}), other.subset({4, 0, 3})).map(crop), kPicked);
  check_same(concat(volumes.subset({5, 1, 2}), other.subset({4, 0, 3})).map(crop),
             concat(other.subset({5, 1, 2}), other.subset({4, 0, 3})).map(crop), kPicked);
  // A sample that is drawn twice gets two patches.
  Loader loader(volumes.map(crop).stacked(), LoaderOptions().batch_size(3).shuffle(true).seed(5));
  Loader workers(other.map(crop).stacked(),
                 LoaderOptions().batch_size(3).shuffle(true).seed(5).workers(2));
  auto a = loader.begin();
  auto b = workers.begin();
  for (; a != loader.end(); ++a, ++b) CHECK(at::equal(a->data, b->data));
  CHECK(b == workers.end());
}

TEST_CASE("a crop after stacked() gets whole samples", "[dataset][crop]") {
  const Folder folder;
  for (int i = 0; i < 3; ++i) save(folder / name_of(i), volume(i, {4, 5, 6}));
  save(folder / name_of(3), volume(3, {4, 5, 7}));
  const FolderDataset all(folder.path());
  const auto cropped = all.stacked().map(tf::RandomCrop({2, 3, 4}));
  CHECK(cropped.get_batch({0, 1, 2}).data.sizes() == at::IntArrayRef({3, 2, 3, 4}));
  CHECK(error_of([&] { (void)cropped.get_batch({0, 3}); }).code() == ErrorCode::Mismatch);
  const FolderDataset tolerant(folder.path(), FolderOptions().on_bad_file(OnBadFile::Skip));
  CHECK(tolerant.stacked().map(tf::RandomCrop({2, 3, 4})).get_batch({0, 1, 3}).indices ==
        Indices{0, 1});
}

TEST_CASE("bad files are skipped and replaced, and the crop keeps its draws", "[dataset][crop]") {
  const Folder folder;
  write_volumes(folder, 6);
  write_bytes(folder / "y" / name_of(2), "no array");
  write_bytes(folder / "x" / name_of(0), "no array");
  const auto crop = tf::RandomCrop({4, 5, 6});
  for (const OnBadFile what : {OnBadFile::Skip, OnBadFile::Replace}) {
    const auto options = FolderOptions().on_bad_file(what);
    const PairedFolderDataset pairs(folder / "x", folder / "y", options);
    const auto batch = pairs.map(crop).get_batch(request_of(kPicked, 1));
    CHECK(batch.size() == (what == OnBadFile::Skip ? 5 : 7));
    check_crop<Example<>>(pairs, crop, kPicked);
  }
}

TEST_CASE("a sample that is too small is an error of the crop", "[dataset][crop]") {
  const Folder folder;
  write_volumes(folder, 6);
  save(folder / "x" / name_of(1), volume(1, {4, 12, 10}));
  save(folder / "y" / name_of(1), volume(1, {4, 12, 10}));
  save(folder / "y" / name_of(2), volume(1, {4, 12, 10}));
  const auto crop = tf::RandomCrop({5, 5, 5});
  const auto options = FolderOptions().on_bad_file(OnBadFile::Skip);
  const PairedFolderDataset pairs(folder / "x", folder / "y", options);
  for (const std::size_t i : {1, 2}) {
    const Error read = error_of([&] { (void)pairs.map(crop).get_batch({0, i}); });
    const Error whole = error_of([&] {
      (void)unable<Example<>>(pairs).map(crop).get_batch({0, i});
    });
    CHECK(read.code() == ErrorCode::Mismatch);
    CHECK(std::string(read.what()) == whole.what());
    CHECK_THAT(read.what(), says(name_of(static_cast<int>(i))));
  }
  CHECK_THAT(
      error_of([&] { (void)pairs.map(crop).get(1); }).what(),
      says("(..., D, H, W) with at least 5 x 5 x 5 pixels after padding, found shape (4, 12"));
  CHECK_THAT(error_of([&] { (void)pairs.map(crop).get(1); }).what(), says("pad_if_needed(true)"));
  CHECK_THAT(error_of([&] { (void)pairs.map(crop).get(2); }).what(),
             says("must have the sizes along the last 3 axes of their data"));
}

TEST_CASE("RandomCrop cuts patches in any number of dimensions", "[transforms][crop]") {
  const at::Tensor data = at::arange(6 * 2 * 5 * 6 * 7).reshape({6, 2, 5, 6, 7});
  const at::Tensor masks = data.select(1, 0) * 2;
  const auto batch = apply(tf::RandomCrop({3, 4, 5}, 0, seeded(2)), data, masks);
  REQUIRE(batch.data.sizes() == at::IntArrayRef({6, 2, 3, 4, 5}));
  REQUIRE(batch.target.sizes() == at::IntArrayRef({6, 3, 4, 5}));
  std::set<std::int64_t> corners;
  for (std::int64_t i = 0; i < 6; ++i) {
    const auto first = batch.data[i].flatten()[0].item<std::int64_t>();
    const std::int64_t voxel = first - data[i].flatten()[0].item<std::int64_t>();
    const at::Tensor want =
        data[i].narrow(1, voxel / 42, 3).narrow(2, voxel / 7 % 6, 4).narrow(3, voxel % 7, 5);
    CHECK(at::equal(batch.data[i], want));
    CHECK(at::equal(batch.target[i], want[0] * 2));
    corners.insert(voxel);
  }
  CHECK(corners.size() > 2);

  // -1 keeps an axis whole: images with their channels last.
  const at::Tensor hwc = images(8, 5, 6, 3);
  const auto cut = apply(tf::RandomCrop({2, 3, -1}, 1, seeded(2)), hwc, hwc.narrow(3, 0, 1) + 1);
  CHECK(cut.data.sizes() == at::IntArrayRef({8, 2, 3, 3}));
  CHECK(cut.target.sizes() == at::IntArrayRef({8, 2, 3, 1}));
  const at::Tensor outside = cut.target == 0;
  CHECK(at::equal(cut.data.narrow(3, 0, 1).masked_fill(outside, 0),
                  (cut.target - 1).masked_fill(outside, 0)));
  // A mask without channels is no part of such a crop.
  const Error error = error_of([&] {
    (void)apply(tf::RandomCrop({2, 3, -1}), hwc, hwc.select(3, 0));
  });
  CHECK(error.code() == ErrorCode::Mismatch);
  // Sequences.
  CHECK(apply(tf::RandomCrop({3, -1}), images(2, 1, 9, 4).squeeze(1)).data.sizes() ==
        at::IntArrayRef({2, 3, 4}));
}

TEST_CASE("a seed gives the same crops in every version", "[transforms][crop]") {
  const at::Tensor data = images(6, 1, 40, 50);
  const auto batch = apply(tf::RandomCrop({7, 9}, 3, seeded(2)), data + 1);
  std::vector<std::int64_t> found;  // the pixel at (3, 4) of each crop
  for (std::int64_t i = 0; i < 6; ++i) {
    found.push_back(batch.data[i][0][3][4].item<std::int64_t>() - 1 - i * 2000);
  }
  CHECK(found == std::vector<std::int64_t>{1517, 841, 167, 808, 617, 1411});
}

TEST_CASE("RandomCrop pads samples that are smaller than the crop if asked to",
          "[transforms][crop]") {
  const at::Tensor data = images(30, 1, 3, 9) + 1;
  check_refused(tf::RandomCrop({5, 4}), data, "pad_if_needed(true) pads them");
  const auto batch = apply(tf::RandomCrop({5, 4}, 0, seeded(1)).pad_if_needed(true).fill(-1, 255),
                           data, data.squeeze(1).remainder(200).to(at::kByte));
  CHECK(batch.data.sizes() == at::IntArrayRef({30, 1, 5, 4}));
  std::set<std::int64_t> tops;
  for (std::int64_t i = 0; i < 30; ++i) {
    const at::Tensor is_inside = batch.data[i][0] != -1;
    CHECK(is_inside.sum().item<int>() == 12);  // all rows of the image
    CHECK(at::equal(batch.target[i] != 255, is_inside));
    std::int64_t top = 0;
    while (!is_inside[top][0].item<bool>()) ++top;
    CHECK(is_inside.narrow(0, top, 3).all().item<bool>());
    tops.insert(top);
  }
  CHECK(tops == std::set<std::int64_t>{0, 1, 2});
  const Error error = error_of([&] {
    (void)apply(tf::RandomCrop({5, 4}).pad_if_needed(true).fill(-1), data.to(at::kByte));
  });
  CHECK(error.code() == ErrorCode::InvalidArgument);
}

TEST_CASE("a crop of the rows of arrays is the same whether whole rows are read or not",
          "[dataset][crop]") {
  const Folder folder;
  const at::Tensor data = at::arange(6 * 9 * 8 * 7).reshape({6, 9, 8, 7}).to(at::kShort);
  save(folder / "x.npy", data);
  save(folder / "f.npy", data.permute({3, 2, 1, 0}).contiguous().permute({3, 2, 1, 0}));
  save(folder / "y.npy", (data + 1).to(at::kByte));
  const at::Tensor labels = at::arange(6);
  const auto crop = tf::RandomCrop({4, 5, 6}, 1);
  for (const char* name : {"x.npy", "f.npy"}) {
    const auto path = folder / name;
    check_crop<TensorExample>(ArrayDataset(path), crop, kPicked);
    check_crop<Example<>>(ArrayDataset(path, folder / "y.npy"), crop, kPicked);
    check_crop<Example<>>(ArrayDataset(path, labels), crop, kPicked);
    check_crop<Example<>>(ArrayDataset(path, (data + 3)), crop, kPicked);
    check_crop<TensorExample>(ArrayDataset(path, LoadOptions().dtype(at::kDouble)), crop, kPicked);
    check_crop<TensorExample>(ArrayDataset(path), tf::RandomCrop({5, 5}), kPicked);
    // A dataset of a region of an array.
    const auto region = LoadOptions().region({{0, 6}, {1, 8}, {}, {0, 6}});
    const ArrayDataset part(path, region);
    CHECK(at::equal(part.stacked().get_batch(kPicked).data,
                    load(path, region).index_select(0, at::tensor({4, 0, 5, 2, 4, 1, 3}))));
    check_crop<TensorExample>(part, crop, kPicked);
  }
  check_crop<TensorExample>(ArrayDataset(data), crop, kPicked);
  const Error error = error_of([&] {
    ArrayDataset(folder / "x.npy",
                 LoadOptions().region({{-1, 3}}).out_of_bounds(OutOfBounds::Fill));
  });
  CHECK(error.code() == ErrorCode::InvalidArgument);
}

TEST_CASE("a crop of shards whose rows are the same in C and in Fortran order", "[dataset][crop]") {
  const Folder folder;
  // An array of one row is in both orders, and its header says C.
  for (const std::vector<std::int64_t>& row :
       {std::vector<std::int64_t>{4, 1}, {1, 5}, {7, 1, 1}}) {
    std::vector<std::int64_t> sizes = row;
    sizes.insert(sizes.begin(), 6);
    std::int64_t count = 6;
    for (const std::int64_t size : row) count *= size;
    const at::Tensor data = (at::arange(count) + 1).reshape(sizes).to(at::kFloat);
    std::vector<std::int64_t> axes;
    for (std::int64_t axis = data.dim() - 1; axis >= 0; --axis) axes.push_back(axis);
    std::vector<std::filesystem::path> shards;
    for (const std::int64_t begin : {0, 1, 3}) {
      const at::Tensor part = data.slice(0, begin, begin == 0 ? 1 : begin == 1 ? 3 : 6);
      shards.push_back(folder / (std::to_string(begin) + ".npy"));
      save(shards.back(), begin == 3 ? part : part.permute(axes).contiguous().permute(axes));
    }
    std::vector<std::int64_t> sides(row.size(), 3);
    const auto crop = tf::RandomCrop(sides, 1).pad_if_needed(true);
    const std::vector<std::size_t> rows{0, 1, 2, 3, 4, 5};
    const auto of_files = ArrayDataset(shards).map(crop).stacked().get_batch(rows).data;
    CHECK(at::equal(of_files, ArrayDataset(data).map(crop).stacked().get_batch(rows).data));
  }
}

TEST_CASE("samples_per_file() makes several samples of each file", "[dataset][crop]") {
  const Folder folder;
  write_volumes(folder, 4);
  const PairedFolderDataset pairs(folder / "x", folder / "y", FolderOptions().samples_per_file(3));
  CHECK(*pairs.size() == 12);
  CHECK(pairs.files().size() == 4);
  CHECK(pairs.key(7) == (folder / "x" / name_of(2)).generic_string() + "#1");
  CHECK(pairs.lengths() == std::vector<std::int64_t>{9, 9, 9, 10, 10, 10, 11, 11, 11, 12, 12, 12});
  const auto batch = pairs.get_batch({0, 5, 11});
  CHECK(at::equal(batch[1].data, volume(1, {10, 12, 11})));
  CHECK(at::equal(batch[2].data, volume(3, {12, 12, 10})));
  // Each one is another patch of the same file.
  const auto cropped = pairs.map(tf::RandomCrop({4, 5, 6}));
  std::set<int> corners;
  for (int epoch = 0; epoch < 2; ++epoch) {
    Request request = request_of({0, 1, 2}, 1);
    request.epoch = static_cast<std::uint64_t>(epoch);
    for (const auto& sample : cropped.get_batch(request)) {
      corners.insert(sample.data.flatten()[0].item<int>());
      CHECK(at::equal((sample.data + 7).to(at::kByte), sample.target));
    }
  }
  CHECK(corners.size() >= 5);

  // Headers are read once for each file, whatever part of the dataset is checked.
  write_bytes(folder / "x" / name_of(1), "no array");
  CHECK(pairs.verify().size() == 1);
  CHECK(pairs.subset({0, 4, 5, 8}).verify().size() == 1);
  std::size_t checked = 0;
  (void)pairs.verify([&](std::size_t, std::size_t total) { checked = total; });
  CHECK(checked == 4);
  CHECK(pairs.source()->fingerprint() !=
        PairedFolderDataset(folder / "x", folder / "y").source()->fingerprint());

  // A bad file counts once for max_bad().
  const auto skip = FolderOptions().samples_per_file(3).on_bad_file(OnBadFile::Skip).max_bad(1);
  const FolderDataset tolerant(folder / "x", skip);
  CHECK(tolerant.get_batch({2, 3, 4, 5}).indices == Indices{2});
  CHECK(tolerant.bad_file_count() == 3);

  std::filesystem::create_directory(folder / "classes");
  std::filesystem::rename(folder / "x", folder / "classes" / "x");
  std::filesystem::rename(folder / "y", folder / "classes" / "y");
  const ClassFolderDataset classes(folder / "classes", FolderOptions().samples_per_file(2));
  CHECK(*classes.size() == 16);
  CHECK(classes.get(7).target.item<int>() == 0);
  CHECK(classes.get(8).target.item<int>() == 1);
  CHECK(error_of([&] {
          FolderDataset(folder / "classes" / "y", FolderOptions().samples_per_file(0));
        }).code() == ErrorCode::InvalidArgument);
}

TEST_CASE("of large volumes only the patches are read", "[dataset][crop]") {
  const Folder folder;
  for (const char* name : {"x", "y"}) std::filesystem::create_directory(folder / name);
  const std::string header = npy(header_text("'<i2'", "(4096, 4096, 3000)"));
  for (const char* name : {"x", "y"}) {
    for (int i = 0; i < 2; ++i) {
      const auto path = write_bytes(folder / name / name_of(i), header);
      std::filesystem::resize_file(path, header.size() + std::uint64_t{2} * 4096 * 4096 * 3000);
    }
  }
  const std::uint64_t before = bytes_read();
  const auto crop = tf::RandomCrop({64, 64, 64});
  const auto pairs = PairedFolderDataset(folder / "x", folder / "y").map(crop).stacked();
  CHECK(pairs.get_batch({0, 1, 1}).target.sizes() == at::IntArrayRef({3, 64, 64, 64}));
  const auto patches = ArrayDataset(folder / "x" / name_of(0), LoadOptions())
                           .map(tf::RandomCrop({64, 64}))
                           .stacked();
  CHECK(patches.get_batch({7, 4000}).data.sizes() == at::IntArrayRef({2, 64, 64}));
  CHECK(bytes_read() - before < (10 << 20));
}
