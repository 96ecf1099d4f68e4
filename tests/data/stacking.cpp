// Samples that become a batch.

#include <torch_npy/data/folder_datasets.hpp>
#include <torch_npy/data/transforms.hpp>
#include <torch_npy/tensor/save.hpp>

#include <ATen/ops/equal.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <filesystem>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/files.hpp"
#ifndef _WIN32
#include "support/descriptors.hpp"
#endif
#include "support/resize.hpp"
#include "support/samples.hpp"

using namespace torch_npy;
namespace td = torch::data;

TEST_CASE("Stack reuses the memory of a batch unless something else refers to it", "[dataset]") {
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
  // Later transforms may change it in place.
  CHECK(stack(dataset.get_batch(Indices{0, 1})).storage().use_count() == 1);
  CHECK(dataset.stacked().get_batch(Indices{0, 1}).data.storage().use_count() == 1);

  // A sample that is kept must not change with the batch, nor may the order of samples change.
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

  // Tensors of the user are copied, even if they are rows of one tensor.
  const at::Tensor theirs = samples(3);
  const at::Tensor stacked = stack({theirs[0], theirs[1], theirs[2]});
  CHECK(stacked.data_ptr() != theirs.data_ptr());
  CHECK(at::equal(stacked, theirs));
}

TEST_CASE("samples of different shape or dtype can be batched but not stacked", "[dataset]") {
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
    const Error ours = error_of([&] { (void)dataset.stacked().get_batch(indices); });
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
               (void)dataset.stacked().get_batch(Indices{0, 2});
             }).what(),
             says("a.npy has shape (2, 3), "));

  // Without paths the message names positions in the batch.
  const Error error = error_of([&] {
    transforms::Stack<TensorExample>().apply_batch({at::zeros({2}), at::zeros({3})});
  });
  CHECK_THAT(error.what(), says("sample 1 of the batch has shape (3,)"));

  // Batches of one sample can be stacked.
  auto loader = loader_of(dataset.stacked(), 1);
  for (auto& one : *loader) CHECK(one.data.size(0) == 1);
}

#ifndef _WIN32
TEST_CASE("a tensor keeps no file of the dataset open", "[dataset]") {
  const Folder folder;
  fill_folder(folder, 3);
  const auto before = open_descriptors();
  const at::Tensor last = FolderDataset(folder.path()).get(2).data;
  CHECK(open_descriptors() == before);
  CHECK(at::equal(last, sample(2)));
}
#endif

TEST_CASE("batches reuse memory within a bound", "[dataset]") {
  const Folder folder;
  fill_folder(folder, 4);
  FolderDataset dataset(folder.path());
  const void* first = nullptr;
  {
    const at::Tensor batch = dataset.stacked().get_batch(Indices{0, 1}).data;
    first = batch.data_ptr();
    // In use: another batch gets other memory, also from a copy of the dataset.
    const at::Tensor other = FolderDataset(dataset).stacked().get_batch(Indices{2, 3}).data;
    CHECK(other.data_ptr() != first);
    CHECK(at::equal(batch, samples(2)));
    const at::Tensor view = batch[1];
    CHECK(FolderDataset(dataset).stacked().get_batch(Indices{0}).data.data_ptr() != first);
  }
  const auto again = FolderDataset(dataset).stacked().get_batch(Indices{2, 3}).data;
  const auto once_more = FolderDataset(dataset).stacked().get_batch(Indices{2, 3}).data;
  CHECK((again.data_ptr() == first || once_more.data_ptr() == first));

  at::Tensor last;
  {
    FolderDataset gone(folder.path());
    last = gone.stacked().get_batch(Indices{0, 1}).data;
  }
  CHECK(at::equal(last, samples(2)));
  check_grows(last, {40});

  const auto pool = std::make_shared<torch_npy::detail::BufferPool>(1000);
  const auto take = [&](std::size_t bytes) { return pool->take(bytes); };
  const void* kept = nullptr;
  {
    const auto a = take(600);
    kept = a->data;
  }
  {
    const auto b = take(500);  // fits
    CHECK(b->data == kept);
    const auto c = take(900);
    kept = c->data;
  }  // c is returned first; with b there are 1500 bytes, and c, unused longest, is freed
  {
    const auto d = take(600);
    const auto e = take(100);
    CHECK(d->data != nullptr);
    CHECK(d->data != e->data);
  }
  const auto tiny = take(3);  // not from the pool, whose buffers are far too large
  CHECK(tiny->data != nullptr);
}

TEST_CASE("samples of different layouts or devices are not stacked", "[dataset]") {
  const auto stacked = [](const at::Tensor& second) {
    const Error error = error_of([&] {
      (void)transforms::Stack<TensorExample>().apply_batch({{sample(0)}, {second}});
    });
    CHECK(error.code() == ErrorCode::Mismatch);
    return std::string(error.what());
  };
  CHECK_THAT(stacked(sample(1).to_sparse()),
             says("sample 0 of the batch has layout Strided, sample 1 of the batch has layout "
                  "Sparse; to_dense() converts"));
  CHECK_THAT(stacked(sample(1).to(c10::kMeta)),
             says("sample 0 of the batch has device cpu, sample 1 of the batch has device meta"));
}
