// Folders of files, and rows of arrays, as batches of LibTorch's data loader.

#include <torch_npy/data/dataset.hpp>
#include <torch_npy/data/transforms.hpp>
#include <torch_npy/tensor/save.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <map>
#include <set>
#include <thread>

#include "catch.hpp"
#include "few_descriptors.hpp"
#include "files.hpp"

using namespace torch_npy;
namespace td = torch::data;

namespace {

using Indices = std::vector<std::size_t>;

const char* name_of(int i) {
  static thread_local char name[32];
  std::snprintf(name, sizeof name, "s%03d.npy", i);
  return name;
}

/// What sample i holds: floats of shape (2, 3), all different.
at::Tensor sample(int i) { return (at::arange(6) + 100 * i).reshape({2, 3}).to(at::kFloat); }

void fill_folder(const Folder& folder, int count) {
  for (int i = 0; i < count; ++i) save(folder / name_of(i), sample(i));
}

td::DataLoaderOptions loading(std::size_t batch, std::size_t workers) {
  return td::DataLoaderOptions().batch_size(batch).workers(workers);
}

template <class Sampler = td::samplers::SequentialSampler, class Dataset>
auto loader_of(Dataset dataset, std::size_t batch, std::size_t workers = 0) {
  return td::make_data_loader<Sampler>(std::move(dataset), loading(batch, workers));
}

/// All of an epoch's data behind one another.
template <class Loader>
at::Tensor epoch(Loader& loader) {
  std::vector<at::Tensor> all;
  for (auto& batch : loader) all.push_back(batch.data.clone());
  return at::cat(all);
}

at::Tensor samples(int count) {
  std::vector<at::Tensor> all;
  for (int i = 0; i < count; ++i) all.push_back(sample(i));
  return at::stack(all);
}

std::string big_endian_npy(const at::Tensor& floats) {
  const at::Tensor dense = floats.contiguous();
  std::string data(static_cast<const char*>(dense.data_ptr()), dense.nbytes());
  for (std::size_t i = 0; i < data.size(); i += 4) std::reverse(&data[i], &data[i] + 4);
  const std::string shape = torch_npy::detail::python_tuple(floats.sizes().vec());
  return npy(header_text("'>f4'", shape), data);
}

}  // namespace

TEST_CASE("a folder's files are the samples, in the order of their names", "[dataset]") {
  const Folder folder;
  fill_folder(folder, 10);
  write_bytes(folder / "notes.txt", "no sample");
  const FolderDataset dataset(folder.path());
  CHECK(*dataset.size() == 10);
  CHECK(dataset.files()[3] == folder / "s003.npy");
  CHECK(dataset.verify().empty());

  for (const std::size_t workers : {0, 1, 4}) {
    CAPTURE(workers);
    auto stacked = loader_of(dataset.stacked(), 4, workers);
    auto mapped =
        loader_of(FolderDataset(dataset).map(transforms::Stack<TensorExample>()), 4, workers);
    auto torchs =
        loader_of(FolderDataset(dataset).map(td::transforms::Stack<TensorExample>()), 4, workers);
    for (int i = 0; i < 2; ++i) {  // epochs
      CHECK(at::equal(epoch(*stacked), samples(10)));
      CHECK(at::equal(epoch(*mapped), samples(10)));
      CHECK(at::equal(epoch(*torchs), samples(10)));
    }
  }
  CHECK(at::equal(FolderDataset(dataset).get(7).data, sample(7)));
}

TEST_CASE("LibTorch's transforms of samples work on our datasets", "[dataset]") {
  const Folder folder;
  fill_folder(folder, 6);
  const FolderDataset plain(folder.path());
  auto lambda = FolderDataset(plain)
                    .map(td::transforms::Lambda<TensorExample>(
                        [](TensorExample example) { return TensorExample(example.data * 2); }))
                    .map(transforms::Stack<TensorExample>());
  CHECK(at::equal(epoch(*loader_of(lambda, 4)), samples(6) * 2));

  const PairedFolderDataset pairs(folder.path(), folder.path());
  auto tensor_lambda = PairedFolderDataset(pairs)
                           .map(td::transforms::TensorLambda<>(
                               [](at::Tensor data) { return data.unsqueeze(0) + 1; }))
                           .map(td::transforms::Normalize<>({1.0}, {2.0}))
                           .map(transforms::Stack<>());
  CHECK(at::equal(epoch(*loader_of(tensor_lambda, 4)), (samples(6) / 2).unsqueeze(1)));

  auto batch_lambda = pairs.stacked().map(td::transforms::BatchLambda<Batch<>, at::Tensor>(
      [](Batch<> batch) { return batch.data - batch.target; }));
  auto loader = loader_of(batch_lambda, 4);
  for (const at::Tensor& zeros : *loader) CHECK(at::equal(zeros, zeros * 0));
}

TEST_CASE("Stack hands the batch's memory on when nobody else holds it", "[dataset]") {
  const Folder folder;
  fill_folder(folder, 4);
  FolderDataset dataset(folder.path());
  const auto stack = [](std::vector<TensorExample> batch) {
    return transforms::Stack<TensorExample>().apply_batch(std::move(batch)).data;
  };
  auto batch = dataset.get_batch(Indices{2, 0, 3});
  const void* const memory = batch[0].data.data_ptr();
  CHECK(static_cast<const char*>(batch[1].data.data_ptr()) ==
        static_cast<const char*>(memory) + 24);
  const at::Tensor whole = stack(std::move(batch));
  CHECK(whole.data_ptr() == memory);
  CHECK(at::equal(whole, at::stack({sample(2), sample(0), sample(3)})));
  // The transforms that follow may change it in place.
  CHECK(stack(dataset.get_batch(Indices{0, 1})).storage().use_count() == 1);
  CHECK(dataset.get_stacked_batch(Indices{0, 1}).data.storage().use_count() == 1);

  // A sample that somebody keeps must not change with the batch; nor may the order of samples.
  batch = dataset.get_batch(Indices{0, 1});
  const at::Tensor kept = batch[0].data;
  const at::Tensor copy = stack(std::move(batch));
  CHECK(copy.data_ptr() != kept.data_ptr());
  CHECK(at::equal(copy[0], kept));
  batch = dataset.get_batch(Indices{0, 1});
  std::swap(batch[0], batch[1]);
  CHECK(at::equal(stack(std::move(batch)), at::stack({sample(1), sample(0)})));
  batch = dataset.get_batch(Indices{0, 1, 2});
  batch.pop_back();
  CHECK(at::equal(stack(std::move(batch)), samples(2)));

  // Somebody's own tensors are copied, rows of one tensor though they are.
  const at::Tensor theirs = samples(3);
  const at::Tensor stacked = stack({theirs[0], theirs[1], theirs[2]});
  CHECK(stacked.data_ptr() != theirs.data_ptr());
  CHECK(at::equal(stacked, theirs));
}

TEST_CASE("a transform with its options set is mapped as itself", "[dataset]") {
  const Folder folder;
  for (int i = 0; i < 4; ++i) save(folder / name_of(i), sample(i).unsqueeze(0));
  const PairedFolderDataset dataset(folder.path(), folder.path());
  const Indices all{0, 1, 2, 3};
  const at::Tensor want = samples(4).unsqueeze(1);
  const auto flipped =
      dataset.stacked().map(transforms::RandomHorizontalFlip(1).with_target(false)).get_batch(all);
  CHECK(at::equal(flipped.data, want.flip(-1)));
  CHECK(at::equal(flipped.target, want));
  const auto cropped =
      dataset.stacked().map(transforms::RandomCrop({2, 3}, 0).with_target(false)).get_batch(all);
  CHECK(at::equal(cropped.data, want));
}

TEST_CASE("samples are read as load() reads them, whatever their files look like", "[dataset]") {
  const Folder folder;
  const at::Tensor fortran = at::arange(6).reshape({3, 2}).t().to(at::kFloat);  // (2, 3)
  const auto data = [](const at::Tensor& t) {
    return std::string(static_cast<const char*>(t.data_ptr()), t.nbytes());
  };
  const std::string descr = "'<f4'";
  const auto case_of = [&](const std::vector<std::string>& files, const LoadOptions& options = {}) {
    const Folder some;
    for (std::size_t i = 0; i < files.size(); ++i) {
      write_bytes(some / name_of(static_cast<int>(i)), files[i]);
    }
    const FolderDataset dataset(some.path(), FolderOptions().data_options(options));
    Indices all(files.size());
    std::vector<at::Tensor> want;
    for (std::size_t i = 0; i < all.size(); ++i) {
      all[i] = i;
      want.push_back(load(dataset.files()[i], options));
    }
    auto batch = FolderDataset(dataset).get_batch(all);
    for (std::size_t i = 0; i < all.size(); ++i) {
      CHECK(at::equal(batch[i].data, want[i]));
      CHECK(batch[i].data.scalar_type() == want[i].scalar_type());
      CHECK(batch[i].data.strides() == want[i].strides());
    }
    CHECK(at::equal(dataset.get_stacked_batch(all).data, at::stack(want)));
  };
  const std::string c_order = npy(header_text(descr, "(2, 3)"), data(sample(1)));
  const std::string longer = npy(header_text(descr, "(2, 3)") + "   \n", data(sample(2)));
  const std::string version_2 = npy(header_text(descr, "(2, 3)"), data(sample(3)), 2);
  const std::string f_order = npy(header_text(descr, "(2, 3)", "True"), data(fortran.t()));
  const std::string swapped = big_endian_npy(sample(4));
  const std::string trailing = c_order + "and more";
  case_of({c_order, c_order, longer, version_2, trailing});
  case_of({c_order, swapped, c_order});
  case_of({swapped, swapped});
  case_of({f_order, f_order, f_order});
  case_of({c_order, f_order, swapped, f_order});
  case_of({c_order, swapped, f_order}, LoadOptions().dtype(at::kDouble));
  case_of({c_order, swapped, c_order}, LoadOptions().mmap(true));
  case_of({c_order, longer, swapped}, LoadOptions().rows(1, 2));
  case_of({f_order, f_order}, LoadOptions().rows(0, 1));
  case_of({npy(header_text(descr, "()"), "abcd"), npy(header_text(descr, "()"), "efgh")});
  case_of({npy(header_text(descr, "(0, 3)")), npy(header_text(descr, "(0, 3)"))});
  case_of({npy(header_text("'|u1'", "(40000,)"), std::string(40000, 'x')),
           npy(header_text("'|u1'", "(40000,)"), std::string(40000, 'y'))});
}

TEST_CASE("samples that differ can be batched but not stacked", "[dataset]") {
  const Folder folder;
  save(folder / "a.npy", at::zeros({2, 3}));
  save(folder / "b.npy", at::zeros({2, 3}));
  save(folder / "c.npy", at::zeros({2, 4}));
  save(folder / "d.npy", at::zeros({2, 3}, at::kInt));
  FolderDataset dataset(folder.path());
  const auto batch = dataset.get_batch(Indices{0, 2, 1, 3});
  CHECK(batch[0].data.sizes() == at::IntArrayRef({2, 3}));
  CHECK(batch[1].data.sizes() == at::IntArrayRef({2, 4}));
  CHECK(batch[2].data.sizes() == at::IntArrayRef({2, 3}));
  CHECK(batch[3].data.scalar_type() == at::kInt);

  const auto check = [&](const Indices& indices, const char* first, const char* second) {
    const Error ours = error_of([&] { (void)dataset.get_stacked_batch(indices); });
    const Error mapped = error_of(
        [&] { transforms::Stack<TensorExample>().apply_batch(dataset.get_batch(indices)); });
    for (const Error& error : {ours, mapped}) {
      CHECK(error.code() == ErrorCode::Mismatch);
      CHECK_THAT(error.what(), says((folder / first).string() + " has"));
      CHECK_THAT(error.what(), says((folder / second).string() + " has"));
    }
  };
  check({0, 1, 2}, "a.npy", "c.npy");
  check({2, 0}, "c.npy", "a.npy");
  check({1, 3}, "b.npy", "d.npy");
  CHECK_THAT(error_of([&] {
               (void)dataset.get_stacked_batch(Indices{0, 2});
             }).what(),
             says("a.npy has shape (2, 3), "));

  // Where the files are not known any more, places in the batch are.
  const Error error = error_of([&] {
    transforms::Stack<TensorExample>().apply_batch({at::zeros({2}), at::zeros({3})});
  });
  CHECK_THAT(error.what(), says("sample 1 of the batch has shape (3,)"));

  // One at a time nothing differs.
  auto loader = loader_of(dataset.stacked(), 1);
  for (auto& one : *loader) CHECK(one.data.size(0) == 1);
}

TEST_CASE("a bad file ends the epoch with its Error, or is left out", "[dataset]") {
  const Folder folder;
  fill_folder(folder, 9);
  const std::string whole = read_bytes(folder / "s004.npy");
  write_bytes(folder / "s004.npy", whole.substr(0, whole.size() - 1));
  write_bytes(folder / "s007.npy", "no array");

  SECTION("thrown") {
    FolderDataset dataset(folder.path());
    Error error = error_of([&] { epoch(*loader_of(dataset.stacked(), 3)); });
    CHECK(error.code() == ErrorCode::Truncated);
    CHECK(error.path() == folder / "s004.npy");
    for (const std::size_t workers : {1, 2}) {
      auto loader = loader_of(dataset.stacked(), 3, workers);
      try {
        epoch(*loader);
        FAIL("nothing was thrown");
      } catch (const td::WorkerException& exception) {
        CHECK_THAT(exception.what(), says("s004.npy: data cut short"));
        error = error_of([&] { std::rethrow_exception(exception.original_exception); });
        CHECK(error.path() == folder / "s004.npy");
      }
    }
    CHECK(dataset.bad_file_count() == 0);
  }
  SECTION("left out") {
    std::set<std::string> heard;
    const FolderDataset dataset(
        folder.path(), FolderOptions().on_bad_file(OnBadFile::Skip, [&](const Error& error) {
          heard.insert(error.path().filename().string());
        }));
    const at::Tensor good = samples(9).index_select(0, at::tensor({0, 1, 2, 3, 5, 6, 8}));
    for (const std::size_t workers : {0, 3}) {
      CHECK(at::equal(epoch(*loader_of(dataset.stacked(), 3, workers)), good));
      auto mapped = FolderDataset(dataset).map(transforms::Stack<TensorExample>());
      CHECK(at::equal(epoch(*loader_of(mapped, 3, workers)), good));
    }
    CHECK(heard == std::set<std::string>{"s004.npy", "s007.npy"});
    CHECK(dataset.bad_file_count() == 8);

    // The first of a batch tells nothing about the others when it is bad.
    CHECK(at::equal(dataset.get_stacked_batch(Indices{4, 7, 8}).data, sample(8).unsqueeze(0)));
    // Of some batches nothing is left.
    CHECK(FolderDataset(dataset).get_batch(Indices{7, 4}).empty());
    CHECK_THAT(error_of([&] {
                 (void)dataset.get_stacked_batch(Indices{7, 4});
               }).what(),
               says("a batch without samples"));
    // One that was asked for alone is not left out.
    CHECK(error_of([&] { (void)FolderDataset(dataset).get(7); }).path() == folder / "s007.npy");
    CHECK(dataset.bad_file_count() == 14);
  }
  SECTION("left out with its partner") {
    const Folder targets;
    fill_folder(targets, 9);
    write_bytes(targets / "s000.npy", "");
    const PairedFolderDataset dataset(folder.path(), targets.path(),
                                      FolderOptions().on_bad_file(OnBadFile::Skip));
    const auto batch = dataset.get_stacked_batch(Indices{0, 1, 4, 5, 7, 8});
    CHECK(at::equal(batch.data, at::stack({sample(1), sample(5), sample(8)})));
    CHECK(at::equal(batch.target, batch.data));
    CHECK(dataset.bad_file_count() == 3);
  }
  SECTION("gone since the folder was read") {
    FolderDataset dataset(folder.path());
    std::filesystem::remove(folder / "s001.npy");
    const Error error = error_of([&] { (void)dataset.get(1); });
    CHECK(error.code() == ErrorCode::NotFound);
    CHECK(error.path() == folder / "s001.npy");
  }
}

TEST_CASE("what is not a file's fault is thrown in any case", "[dataset]") {
  const Folder folder;
  fill_folder(folder, 3);
  const auto skipping = FolderOptions().on_bad_file(OnBadFile::Skip);
  const FolderDataset dataset(folder.path(), skipping);
#ifndef __SANITIZE_ADDRESS__  // the sanitizers need descriptors themselves
  {
    const FewDescriptors none(0);
    CHECK(error_of([&] {
            (void)dataset.get_stacked_batch(Indices{0, 1});
          }).code() == ErrorCode::Exhausted);
  }
#endif
  CHECK(dataset.bad_file_count() == 0);
  const FolderDataset wrong(folder.path(),
                            FolderOptions(skipping).data_options(LoadOptions().dtype(at::kQInt8)));
  CHECK(error_of([&] {
          (void)wrong.get_stacked_batch(Indices{0, 1});
        }).code() == ErrorCode::InvalidArgument);
}

TEST_CASE("verify() finds all bad files before training", "[dataset]") {
  const Folder folder;
  fill_folder(folder, 250);
  const std::string whole = read_bytes(folder / "s004.npy");
  write_bytes(folder / "s004.npy", whole.substr(0, whole.size() - 1));
  write_bytes(folder / "s010.npy", "");
  write_bytes(folder / "s249.npy", npy(header_text("'|O'", "(1,)"), "12345678"));
  const FolderDataset dataset(folder.path());
  std::vector<std::size_t> reported;
  const std::vector<Error> errors = dataset.verify([&](std::size_t done, std::size_t total) {
    CHECK(total == 250);
    reported.push_back(done);
  });
  REQUIRE(errors.size() == 3);
  CHECK(errors[0].path() == folder / "s004.npy");
  CHECK(errors[0].code() == ErrorCode::Truncated);
  CHECK(errors[1].path() == folder / "s010.npy");
  CHECK(errors[2].code() == ErrorCode::UnsupportedDtype);
  CHECK(std::is_sorted(reported.begin(), reported.end()));
  CHECK(reported.size() == 125);
  CHECK(reported.back() == 250);

  const PairedFolderDataset pairs(folder.path(), folder.path());
  CHECK(pairs.verify().size() == 6);
  CHECK_THROWS_WITH(
      dataset.verify([](std::size_t, std::size_t) { throw std::runtime_error("no"); }), "no");
}

TEST_CASE("partners are matched by name", "[dataset]") {
  const Folder folder;
  const auto inputs = folder / "inputs", targets = folder / "targets";
  std::filesystem::create_directories(inputs / "deep");
  std::filesystem::create_directories(targets / "deep");
  for (int i = 9; i-- > 0;) {
    save(inputs / name_of(i), sample(i));
    save(targets / name_of(i), sample(i).to(at::kInt) + 1);
  }
  save(inputs / "deep" / "x.npy", sample(50));
  save(targets / "deep" / "x.npy", sample(51));
  const PairedFolderDataset dataset(inputs, targets,
                                    FolderOptions().data_options(LoadOptions().dtype(at::kDouble)));
  CHECK(*dataset.size() == 9);
  CHECK(dataset.target_files()[2] == targets / "s002.npy");
  const auto batch = dataset.get_stacked_batch(Indices{8, 0});
  CHECK(at::equal(batch.data, at::stack({sample(8), sample(0)}).to(at::kDouble)));
  CHECK(at::equal(batch.target, batch.data.to(at::kInt) + 1));

  const PairedFolderDataset deep(
      inputs, targets,
      FolderOptions().recursive(true).target_options(LoadOptions().dtype(at::kByte)));
  CHECK(*deep.size() == 10);
  CHECK(deep.files()[0] == inputs / "deep/x.npy");
  CHECK(deep.get_stacked_batch(Indices{1}).target.scalar_type() == at::kByte);

  std::filesystem::remove(inputs / "s003.npy");
  save(inputs / "t003.npy", sample(3));
  Error error = error_of([&] { PairedFolderDataset(inputs, targets); });
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK_THAT(error.what(), says("2 files have no partner:\n  " + (inputs / "t003.npy").string() +
                                "\n  " + (targets / "s003.npy").string()));
  CHECK_THAT(error.what(), !says("more"));
  for (int i = 60; i < 72; ++i) save(targets / name_of(i), sample(i));
  error = error_of([&] { PairedFolderDataset(inputs, targets); });
  CHECK_THAT(error.what(), says("14 files have no partner"));
  CHECK_THAT(error.what(), says("s067.npy\n  and 4 more"));
}

TEST_CASE("each folder of a folder is a class", "[dataset]") {
  const Folder folder;
  for (const char* name : {"b", "a-b", "a", ".hidden"}) {
    std::filesystem::create_directories(folder / name);
    for (int i = 0; i < 3; ++i) save(folder / name / name_of(i), at::full({2}, name[0]));
  }
  save(folder / "stray.npy", at::zeros({7}));
  const ClassFolderDataset dataset(folder.path());
  CHECK(dataset.classes() == std::vector<std::string>{"a", "a-b", "b"});
  CHECK(*dataset.size() == 9);
  CHECK(dataset.files()[3] == folder / "a-b/s000.npy");
  const auto batch = dataset.get_stacked_batch(Indices{0, 8, 3, 2});
  CHECK(at::equal(batch.target, at::tensor({0, 2, 1, 0}, at::kLong)));
  CHECK(
      at::equal(batch.data.select(1, 0), at::tensor({'a', 'b', 'a', 'a'}).to(batch.data.dtype())));
  const auto one = ClassFolderDataset(dataset).get(8);
  CHECK(one.target.dim() == 0);
  CHECK(one.target.item<std::int64_t>() == 2);

  write_bytes(folder / "a-b" / "s001.npy", "bad");
  const ClassFolderDataset skipping(folder.path(), FolderOptions().on_bad_file(OnBadFile::Skip));
  CHECK(at::equal(skipping.get_stacked_batch(Indices{2, 4, 5, 6}).target,
                  at::tensor({0, 1, 2}, at::kLong)));

  std::filesystem::create_directories(folder / "empty");
  const Error error = error_of([&] { ClassFolderDataset(folder.path()); });
  CHECK(error.code() == ErrorCode::NotFound);
  CHECK(error.path() == folder / "empty");
  CHECK_THAT(error_of([&] { ClassFolderDataset(folder / "a"); }).what(), says("no folders"));
  CHECK_THAT(
      error_of([&] { ClassFolderDataset(folder.path(), FolderOptions().pattern("t*")); }).what(),
      says("a: no .npy file in this folder matches the pattern \"t*\""));

  // Nothing comes into a class from the folder that the class is in.
  std::filesystem::remove(folder / "empty");
  std::filesystem::create_directory_symlink("..", folder / "a" / "up");
  CHECK(*ClassFolderDataset(folder.path(), FolderOptions().recursive(true)).size() == 9);
}

TEST_CASE("folders without samples are errors that say what is there", "[dataset]") {
  const Folder folder;
  const auto check = [&](const std::filesystem::path& path, const FolderOptions& options,
                         const char* words) {
    const Error error = error_of([&] { FolderDataset(path, options); });
    CHECK(error.code() == ErrorCode::NotFound);
    CHECK(error.path() == path);
    CHECK_THAT(error.what(), says(words));
  };
  check(folder / "none", {}, "cannot open the folder");
  check(write_bytes(folder / "file", ""), {}, "cannot open the folder");
  check("", {}, "the path is empty");
  check(folder.path(), {}, "no .npy file in this folder");
  std::filesystem::create_directories(folder / "deeper");
  check(folder.path(), {}, "1 folder, which recursive(true) looks into");
  check(folder.path(), FolderOptions().recursive(true), "no .npy file in this folder");
  check(folder.path(), FolderOptions().pattern("x*"), "matches the pattern \"x*\"");
  const c10::Device cuda(c10::kCUDA, 100);
  save(folder / "a.npy", at::zeros({1}));
  const Error error = error_of([&] {
    FolderDataset(folder.path(), FolderOptions().data_options(LoadOptions().device(cuda)));
  });
  CHECK(error.code() == ErrorCode::InvalidArgument);
}

TEST_CASE("an index that no sample has is an Error", "[dataset]") {
  const Folder folder;
  fill_folder(folder, 3);
  FolderDataset dataset(folder.path());
  const Error error = error_of([&] { (void)dataset.get_batch(Indices{0, 3}); });
  CHECK(error.code() == ErrorCode::InvalidArgument);
  CHECK_THAT(error.what(), says("sample 3 of a dataset of 3 samples"));
  CHECK(dataset.get_batch(Indices{}).empty());
}

TEST_CASE("the rows of an array are samples", "[dataset]") {
  const Folder folder;
  const at::Tensor data = at::arange(5 * 12).reshape({5, 3, 4}).to(at::kFloat);
  const auto rows = [](const at::Tensor& tensor, const std::vector<std::int64_t>& indices) {
    return tensor.index_select(0, at::tensor(indices, at::kLong));
  };
  const auto check = [&](const std::filesystem::path& path, const LoadOptions& options = {}) {
    const at::Tensor want = load(path, options);
    ArrayDataset dataset(path, options);
    REQUIRE(*dataset.size() == static_cast<std::size_t>(want.size(0)));
    CHECK(at::equal(dataset.get_stacked_batch(Indices{1, 0, 1}).data, rows(want, {1, 0, 1})));
    const auto batch = dataset.get_batch(Indices{1, 0});
    CHECK(at::equal(batch[0].data, want[1]));
    CHECK(batch[0].data.strides() == want.contiguous()[1].strides());
    CHECK(batch[0].data.scalar_type() == want.scalar_type());
    auto loader =
        td::make_data_loader<td::samplers::SequentialSampler>(dataset.stacked(), loading(2, 2));
    CHECK(at::equal(epoch(*loader), want));
  };
  save(folder / "c.npy", data);
  check(folder / "c.npy");
  check(folder / "c.npy", LoadOptions().dtype(at::kDouble));
  check(folder / "c.npy", LoadOptions().rows(1, 4));
  save(folder / "1d.npy", at::arange(7));
  check(folder / "1d.npy");
  check(write_bytes(folder / "big.npy", big_endian_npy(data)));
  check(folder / "big.npy", LoadOptions().dtype(at::kInt).rows(2, 5));
  save(folder / "empty.npy", at::zeros({3, 0}));
  check(folder / "empty.npy");
  const std::string odd = read_bytes(folder / "c.npy");
  check(write_bytes(folder / "odd.npy", npy(header_text("'<f4'", "(5, 3, 4)"), odd.substr(128))));

  // Rows of a Fortran-ordered array keep that order among themselves.
  save(folder / "f.npy", data.permute({2, 1, 0}).contiguous().permute({2, 1, 0}));
  REQUIRE(read_header(folder / "f.npy").fortran_order);
  for (const auto& options :
       {LoadOptions(), LoadOptions().rows(1, 4), LoadOptions().dtype(at::kLong)}) {
    ArrayDataset dataset(folder / "f.npy", options);
    const at::Tensor want = load(folder / "f.npy", options);
    const auto batch = dataset.get_batch(Indices{2, 0});
    CHECK(at::equal(batch[0].data, want[2]));
    CHECK(batch[0].data.strides() == at::IntArrayRef({1, 3}));
    CHECK(at::equal(dataset.get_stacked_batch(Indices{2, 0}).data, rows(want, {2, 0})));
  }

  save(folder / "none.npy", at::zeros({0, 3}));
  CHECK(*ArrayDataset(folder / "none.npy").size() == 0);
}

TEST_CASE("arrays of data and targets have the same length", "[dataset]") {
  const Folder folder;
  save(folder / "data.npy", at::arange(12).reshape({6, 2}).to(at::kByte));
  save(folder / "target.npy", at::arange(6));
  save(folder / "short.npy", at::arange(5));
  save(folder / "0-d.npy", at::zeros({}));
  ArrayDataset dataset(folder / "data.npy", folder / "target.npy", LoadOptions().dtype(at::kFloat));
  // What is mapped stays, whatever happens to the names.
  std::filesystem::remove(folder / "target.npy");
  const auto batch = dataset.get_stacked_batch(Indices{5, 1});
  CHECK(at::equal(batch.data, at::tensor({10.F, 11.F, 2.F, 3.F}).reshape({2, 2})));
  CHECK(at::equal(batch.target, at::tensor({5, 1}, at::kLong)));

  Error error = error_of([&] { ArrayDataset(folder / "data.npy", folder / "short.npy"); });
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK_THAT(error.what(),
             says("data of 6 samples and targets of 5, in " + (folder / "short.npy").string()));
  error = error_of([&] { ArrayDataset(folder / "0-d.npy"); });
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK(error.path() == folder / "0-d.npy");
  error = error_of([&] { ArrayDataset(folder / "none.npy"); });
  CHECK(error.code() == ErrorCode::NotFound);

  const std::string big = npy(header_text("'<u2'", "(2,)"), std::string("\x01\x00\xff\xff", 4));
  ArrayDataset checked(write_bytes(folder / "u2.npy", big), LoadOptions().dtype(at::kShort));
  CHECK(checked.get(0).data.item<std::int64_t>() == 1);
  error = error_of([&] { (void)checked.get(1); });
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK(error.path() == folder / "u2.npy");
}

TEST_CASE("batches are read into memory that was used before, within a bound", "[dataset]") {
  const Folder folder;
  fill_folder(folder, 4);
  FolderDataset dataset(folder.path());
  const void* first = nullptr;
  {
    const at::Tensor batch = dataset.get_stacked_batch(Indices{0, 1}).data;
    first = batch.data_ptr();
    // In use: another batch gets other memory, also from a copy of the dataset.
    const at::Tensor other = FolderDataset(dataset).get_stacked_batch(Indices{2, 3}).data;
    CHECK(other.data_ptr() != first);
    CHECK(at::equal(batch, samples(2)));
    const at::Tensor view = batch[1];
    CHECK(FolderDataset(dataset).get_stacked_batch(Indices{0}).data.data_ptr() != first);
  }
  const auto again = FolderDataset(dataset).get_stacked_batch(Indices{2, 3}).data;
  const auto once_more = FolderDataset(dataset).get_stacked_batch(Indices{2, 3}).data;
  CHECK((again.data_ptr() == first || once_more.data_ptr() == first));

  at::Tensor last;
  {
    FolderDataset gone(folder.path());
    last = gone.get_stacked_batch(Indices{0, 1}).data;
  }
  CHECK(at::equal(last, samples(2)));
  last.resize_({40});  // as any other tensor

  // A tensor that is kept keeps nothing else of the dataset.
  const auto open_files = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
  };
  const auto before = open_files();
  last = FolderDataset(folder.path()).get(2).data;
  CHECK(open_files() == before);
  CHECK(at::equal(last, sample(2)));

  const auto pool = std::make_shared<torch_npy::detail::BufferPool>(1000);
  const auto take = [&](std::size_t bytes) { return pool->take(bytes); };
  const void* kept = nullptr;
  {
    const at::DataPtr a = take(600);
    kept = a.get();
  }
  {
    const at::DataPtr b = take(500);  // fits
    CHECK(b.get() == kept);
    const at::DataPtr c = take(900);
    kept = c.get();
  }  // c comes back first; with b there are 1500 bytes, and c, unused longest, is let go
  {
    const at::DataPtr d = take(600);
    const at::DataPtr e = take(100);
    CHECK(d.get() != nullptr);
    CHECK(d.get() != e.get());
  }
  const at::DataPtr tiny = take(3);  // none of those: they are far too large
  CHECK(tiny.get() != nullptr);
}

TEST_CASE("many threads may read one dataset", "[dataset]") {
  const Folder folder;
  fill_folder(folder, 40);
  const FolderDataset dataset(folder.path());
  save(folder / "all.npy", samples(40));
  const ArrayDataset array(folder / "all.npy");
  const at::Tensor want = samples(40);
  std::atomic<int> right{0};
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (std::size_t i = 0; i < 40; ++i) {
        const Indices indices{i, (i + t) % 40};
        const at::Tensor rows = at::stack({want[static_cast<std::int64_t>(indices[0])],
                                           want[static_cast<std::int64_t>(indices[1])]});
        right += at::equal(dataset.get_stacked_batch(indices).data, rows);
        right += at::equal(array.get_stacked_batch(indices).data, rows);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(right == 8 * 40 * 2);
}

TEST_CASE("one seed gives the same batches with any number of workers", "[dataset]") {
  const Folder folder;
  for (int i = 0; i < 50; ++i) save(folder / name_of(i), at::randn({1, 5, 7}));
  const FolderDataset dataset(folder.path());
  const auto epochs = [&](auto tag, std::size_t workers, std::uint64_t seed, auto mapped) {
    using Sampler = typename decltype(tag)::type;
    torch::manual_seed(seed);
    auto loader = loader_of<Sampler>(mapped(), 8, workers);
    std::vector<at::Tensor> all;
    for (int i = 0; i < 3; ++i) all.push_back(epoch(*loader));
    return at::cat(all);
  };
  const auto stacked = [&] {
    return FolderDataset(folder.path())
        .stacked()
        .map(transforms::RandomHorizontalFlip<TensorExample>())
        .map(transforms::RandomCrop<TensorExample>(4, 1));
  };
  using Samples = std::vector<TensorExample>;
  const auto one_by_one = [&] {
    return FolderDataset(folder.path())
        .map(transforms::RandomHorizontalFlip<Samples>())
        .map(transforms::RandomCrop<Samples>(4, 1))
        .map(transforms::Stack<TensorExample>());
  };
  struct Sequential {
    using type = td::samplers::SequentialSampler;
  };
  struct Random {
    using type = td::samplers::RandomSampler;
  };
  const at::Tensor in_order = epochs(Sequential(), 0, 1, stacked);
  const at::Tensor shuffled = epochs(Random(), 0, 1, stacked);
  for (const std::size_t workers : {1, 2, 4}) {
    CHECK(at::equal(epochs(Sequential(), workers, 1, stacked), in_order));
    CHECK(at::equal(epochs(Random(), workers, 1, stacked), shuffled));
    CHECK(at::equal(epochs(Random(), workers, 1, one_by_one), shuffled));
  }
  CHECK(!at::equal(epochs(Sequential(), 2, 2, stacked), in_order));
  // Epochs differ, though without shuffling they have the same batches.
  CHECK(!at::equal(in_order.narrow(0, 0, 50), in_order.narrow(0, 50, 50)));
  CHECK(!at::equal(in_order.narrow(0, 50, 50), in_order.narrow(0, 100, 50)));
}

TEST_CASE("what is drawn depends on nothing but seed, samples and visits", "[dataset]") {
  const Folder folder;
  constexpr int kFiles = 64;
  for (int i = 0; i < kFiles; ++i) save(folder / name_of(i), at::arange(2).reshape({1, 1, 2}));
  const auto flips = [&](std::size_t batch, std::size_t workers, bool peek) {
    torch::manual_seed(1);
    const FolderDataset dataset(folder.path());
    auto mapped = dataset.stacked().map(transforms::RandomHorizontalFlip<TensorExample>());
    // A look at a sample between making the transform and the loader, on this thread.
    if (peek) (void)mapped.get_batch(Indices{kFiles - 1});
    auto loader = loader_of(mapped, batch, workers);
    std::vector<at::Tensor> epochs;
    for (int i = 0; i < 6; ++i) epochs.push_back(epoch(*loader).select(-1, 0).flatten());
    return at::stack(epochs);
  };
  const at::Tensor peeked = flips(8, 0, true);
  for (const std::size_t workers : {1, 2, 4}) CHECK(at::equal(flips(8, workers, true), peeked));

  // Also in batches of one, epochs draw independently: 32 +- 4 flips each, not always as many.
  const at::Tensor counts = flips(1, 0, false).sum(1);
  CHECK(counts.min().item<std::int64_t>() > 12);
  CHECK(counts.max().item<std::int64_t>() < 52);
  CHECK(counts.min().item<std::int64_t>() != counts.max().item<std::int64_t>());
}
