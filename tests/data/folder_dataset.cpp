// Folders of files as samples.

#include <torch_npy/data/array_dataset.hpp>
#include <torch_npy/data/folder_datasets.hpp>
#include <torch_npy/data/transforms.hpp>
#include <torch_npy/tensor/load.hpp>
#include <torch_npy/tensor/save.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/samples.hpp"

using namespace torch_npy;
namespace td = torch::data;

TEST_CASE("the files of a folder are the samples, in order of name", "[dataset]") {
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

TEST_CASE("samples equal what load() returns, for any layout of their files", "[dataset]") {
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
    CHECK(at::equal(dataset.stacked().get_batch(all).data, at::stack(want)));
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

TEST_CASE("a folder without samples throws Error and tells what it contains", "[dataset]") {
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
  check(folder.path(), {}, "1 subfolder: set recursive(true) to include subfolders");
  check(folder.path(), FolderOptions().recursive(true), "no .npy file in this folder");
  check(folder.path(), FolderOptions().pattern("x*"), "matches the pattern \"x*\"");
  const c10::Device cuda(c10::kCUDA, 100);
  save(folder / "a.npy", at::zeros({1}));
  const Error error = error_of([&] {
    FolderDataset(folder.path(), FolderOptions().data_options(LoadOptions().device(cuda)));
  });
  CHECK(error.code() == ErrorCode::InvalidArgument);
}

TEST_CASE("an index out of range throws Error", "[dataset]") {
  const Folder folder;
  fill_folder(folder, 3);
  FolderDataset dataset(folder.path());
  const Error error = error_of([&] { (void)dataset.get_batch(Indices{0, 3}); });
  CHECK(error.code() == ErrorCode::InvalidArgument);
  CHECK_THAT(error.what(), says("index 3 is out of range for a dataset of 3 samples"));
  CHECK(dataset.get_batch(Indices{}).empty());
}

TEST_CASE("many threads read one dataset", "[dataset]") {
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
        right += at::equal(dataset.stacked().get_batch(indices).data, rows);
        right += at::equal(array.stacked().get_batch(indices).data, rows);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(right == 8 * 40 * 2);
}
