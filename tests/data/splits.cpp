// Parts of a dataset, chosen at random: random_split() and k_fold().

#include <torch_npy/data/array_dataset.hpp>
#include <torch_npy/data/combine.hpp>
#include <torch_npy/data/file_dataset.hpp>
#include <torch_npy/data/folder_datasets.hpp>
#include <torch_npy/data/loader.hpp>
#include <torch_npy/data/split.hpp>
#include <torch_npy/data/transforms.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/samples.hpp"

using namespace torch_npy;

namespace {

/// A dataset of `size` samples whose data is their number.
Dataset<TensorExample> counting(std::int64_t size) { return ArrayDataset(at::arange(size)); }

/// The numbers of all samples of a part, by its keys.
Indices members(const Dataset<TensorExample>& part) {
  Indices all;
  for (std::size_t i = 0; i < *part.size(); ++i) {
    const std::string key = part.key(i);  // "[3]"
    all.push_back(std::stoul(key.substr(1, key.size() - 2)));
  }
  return all;
}

template <class Parts>
std::vector<Indices> members_of(const Parts& parts) {
  std::vector<Indices> all;
  for (const auto& part : parts) all.push_back(members(part));
  return all;
}

std::vector<std::size_t> sizes_of(const std::vector<Indices>& parts) {
  std::vector<std::size_t> sizes;
  for (const Indices& part : parts) sizes.push_back(part.size());
  return sizes;
}

/// Fails unless each of 0 ... size - 1 is in one part, and parts are in the order of the dataset.
void check_partition(const std::vector<Indices>& parts, std::size_t size) {
  Indices all;
  for (const Indices& part : parts) {
    CHECK(std::is_sorted(part.begin(), part.end()));
    all.insert(all.end(), part.begin(), part.end());
  }
  std::sort(all.begin(), all.end());
  REQUIRE(all.size() == size);
  for (std::size_t i = 0; i < size; ++i) CHECK(all[i] == i);
}

/// How many samples of each label are in a part.
std::map<std::int64_t, int> counts(const Indices& part, const std::vector<std::int64_t>& labels) {
  std::map<std::int64_t, int> counts;
  for (const std::size_t i : part) ++counts[labels[i]];
  return counts;
}

template <class Work>
std::string refused(const Work& work) {
  const Error error = error_of(work);
  CHECK(error.code() == ErrorCode::InvalidArgument);
  return error.what();
}

/// Windows that begin one row apart.
class Overlapping : public NumberSource {
 public:
  using NumberSource::NumberSource;
  bool samples_overlap() const override { return true; }
};

}  // namespace

TEST_CASE("random_split() puts each sample into one part, in the order of the dataset", "[split]") {
  for (const std::int64_t size : {2, 10, 100, 4096, 4097, 10000}) {
    const auto dataset = counting(size);
    const auto parts = members_of(random_split(dataset, {0.5, 0.5}, 3));
    check_partition(parts, static_cast<std::size_t>(size));
    CHECK(parts[0].size() == static_cast<std::size_t>((size + 1) / 2));
  }
  const auto [train, validation] = random_split(counting(10), {0.8, 0.2}, 1);
  CHECK(*train.size() == 8);
  CHECK(*validation.size() == 2);
  const auto batch = validation.stacked().get_batch({0, 1});
  CHECK(batch.indices == Indices{0, 1});
  CHECK(batch.data[0].item<std::int64_t>() == static_cast<std::int64_t>(members(validation)[0]));
}

TEST_CASE("the sizes of parts are those of PyTorch's random_split", "[split]") {
  const auto sizes = [](std::int64_t size, const std::vector<double>& fractions) {
    return sizes_of(members_of(random_split(counting(size), fractions, 5)));
  };
  // len(s) for s in torch.utils.data.random_split(range(size), fractions)
  CHECK(sizes(10, {0.8, 0.2}) == Indices{8, 2});
  CHECK(sizes(11, {0.8, 0.2}) == Indices{9, 2});
  CHECK(sizes(10, {0.7, 0.2, 0.1}) == Indices{7, 2, 1});
  CHECK(sizes(100, {0.29, 0.71}) == Indices{29, 71});
  CHECK(sizes(13, {0.25, 0.25, 0.25, 0.25}) == Indices{4, 3, 3, 3});
  CHECK(sizes(15, {0.25, 0.25, 0.25, 0.25}) == Indices{4, 4, 4, 3});
  CHECK(sizes(1000, {1.0 / 3, 1.0 / 3, 1.0 / 3}) == Indices{334, 333, 333});
  CHECK(sizes(5, {1.0}) == Indices{5});
  CHECK(sizes(5, {0.0, 1.0}) == Indices{0, 5});
  CHECK(sizes(5, {0.0, 0.5, 0.5}) == Indices{0, 3, 2});

  const std::size_t train = 7;
  CHECK(sizes_of(members_of(random_split(counting(10), {train, 10 - train}, 5))) == Indices{7, 3});
  CHECK(sizes_of(members_of(random_split(counting(10), {7, 3}, 5))) == Indices{7, 3});
  CHECK(sizes_of(members_of(random_split(counting(10), {10, 0}, 5))) == Indices{10, 0});
  CHECK(sizes_of(members_of(random_split(counting(10), {0.8F, 0.2F}, 5))) == Indices{8, 2});
  CHECK(sizes_of(members_of(random_split(counting(3), std::vector<int>{1, 1, 1}, 5))) ==
        Indices{1, 1, 1});
  CHECK(sizes_of(members_of(random_split(counting(0), {0, 0}, 5))) == Indices{0, 0});
}

TEST_CASE("numbers of samples may have different types of integers", "[split]") {
  const ArrayDataset dataset(at::arange(10));
  const auto [first, rest] = random_split(dataset, {3, *dataset.size() - 3}, 1);
  const auto parts = random_split(dataset, {3, 7}, 1);
  CHECK(*first.size() == 3);
  CHECK(first.key(2) == parts[0].key(2));
  CHECK(rest.key(6) == parts[1].key(6));
}

TEST_CASE("a seed gives the same parts everywhere, another seed gives others", "[split]") {
  // These numbers must never change: a run that continues validates on the same samples.
  CHECK(members(random_split(counting(20), {0.7, 0.3}, 1)[1]) == Indices{2, 11, 12, 14, 16, 17});
  CHECK(members(random_split(counting(5000), {4994, 6}, 1)[1]) ==
        Indices{627, 749, 927, 1302, 2303, 4579});
  const auto options = SplitOptions().stratify(at::arange(20) % 3);
  CHECK(members(random_split(counting(20), {0.7, 0.3}, 1, options)[1]) ==
        Indices{6, 10, 12, 14, 16, 17});
  std::vector<std::string> names;
  for (int i = 0; i < 20; ++i) names.push_back(std::to_string(i * i % 7));
  const auto grouped = SplitOptions(options).groups(names);
  CHECK(members(random_split(counting(20), {0.7, 0.3}, 1, grouped)[1]) ==
        Indices{3, 4, 10, 11, 17, 18});
  std::set<Indices> all;
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    const Indices part = members(random_split(counting(100), {0.5, 0.5}, seed)[0]);
    CHECK(part == members(random_split(counting(100), {0.5, 0.5}, seed)[0]));
    all.insert(part);
  }
  CHECK(all.size() == 50);
}

TEST_CASE("each sample is as likely as any other to be in a part", "[split]") {
  for (const std::int64_t size : {20, 5000}) {
    std::vector<int> chosen(static_cast<std::size_t>(size));
    constexpr int kSeeds = 400;
    for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
      for (const std::size_t i : members(random_split(counting(size), {0.75, 0.25}, seed)[1])) {
        ++chosen[i];
      }
    }
    // 100 each; five standard deviations are 43.
    CHECK(*std::min_element(chosen.begin(), chosen.end()) > 57);
    CHECK(*std::max_element(chosen.begin(), chosen.end()) < 143);
  }
}

TEST_CASE("parts do not change with the epoch", "[split]") {
  const auto [train, validation] = random_split(counting(50), {0.8, 0.2}, 1);
  const Indices part = members(validation);
  Loader loader(validation.stacked(), LoaderOptions().batch_size(3).shuffle(true).workers(2));
  for (int epoch = 0; epoch < 3; ++epoch) {
    std::set<std::size_t> seen;
    for (auto& batch : loader) {
      for (std::int64_t i = 0; i < batch.data.size(0); ++i) {
        seen.insert(static_cast<std::size_t>(batch.data[i].item<std::int64_t>()));
      }
    }
    CHECK(Indices(seen.begin(), seen.end()) == part);
  }
}

TEST_CASE("parts of a stacked, mapped or joined dataset are of its type", "[split]") {
  const Folder folder;
  fill_folder(folder, 10);
  const FolderDataset files(folder.path());
  const auto keys = [](const auto& dataset) {
    std::vector<std::string> all;
    for (std::size_t i = 0; i < *dataset.size(); ++i) all.push_back(dataset.key(i));
    return all;
  };
  const auto want = keys(random_split(files, {0.6, 0.4}, 1)[1]);
  const auto stacked = random_split(files.stacked(), {0.6, 0.4}, 1);
  CHECK(keys(stacked[1]) == want);
  CHECK(stacked[1].get_batch({0, 3}).indices == Indices{0, 3});
  const auto mapped = random_split(
      files.stacked().map(transforms::ToDtype(at::kDouble)).map([](Batch<TensorExample>& batch) {
        batch.data = batch.data + 1;
      }),
      {0.6, 0.4}, 1);
  CHECK(keys(mapped[1]) == want);
  CHECK(mapped[1].get_batch({1}).data.scalar_type() == at::kDouble);
  const FolderDataset others(folder.path());
  CHECK(*random_split(concat(files, others), {5, 15}, 1)[1].size() == 15);
  // A sample that is there twice is twice in one part.
  const auto twice = random_split(concat(files, files), {0.5, 0.5}, 1);
  std::multiset<std::string> found;
  for (std::size_t i = 0; i < *twice[0].size(); ++i) found.insert(twice[0].key(i));
  CHECK(found.size() == 10);
  for (const std::string& key : found) CHECK(found.count(key) == 2);
  CHECK(*random_split(files.subset({1, 2, 3}), {1, 2}, 1)[0].size() == 1);
}

TEST_CASE("a file is in one part, however often and in whatever way a dataset has it", "[split]") {
  const Folder folder;
  fill_folder(folder, 12);
  const FolderDataset folder_files(folder.path());
  const Dataset<TensorExample> all = folder_files;
  const auto one = all.subset({0, 1, 2, 3, 4, 5, 6, 7, 8});
  const auto other = all.subset({9, 10, 11});
  const std::vector<std::filesystem::path> paths = folder_files.files();
  std::vector<std::filesystem::path> listed = paths;
  for (const auto& path : paths) listed.push_back(path.parent_path() / "." / path.filename());
  const Dataset<TensorExample> twice = FileDataset<TensorExample>(listed);
  const std::vector<Dataset<TensorExample>> datasets = {
      concat(concat(one, other), all), concat(concat(all, other), concat(other, all)),
      concat(concat(all, other).subset({0, 1, 2, 3, 4, 5, 6, 12}), all), twice};
  for (const auto& dataset : datasets) {
    for (const std::uint64_t seed : {1, 2, 3}) {
      const auto parts = random_split(dataset, {0.5, 0.5}, seed);
      std::set<std::string> first;
      for (std::size_t i = 0; i < *parts[0].size(); ++i) {
        first.insert(std::filesystem::path(parts[0].key(i)).filename().string());
      }
      CHECK(!first.empty());
      for (std::size_t i = 0; i < *parts[1].size(); ++i) {
        CHECK(first.count(std::filesystem::path(parts[1].key(i)).filename().string()) == 0);
      }
      CHECK(*parts[0].size() + *parts[1].size() == *dataset.size());
    }
  }
}

TEST_CASE("a stratified split divides every label in the same proportions", "[split]") {
  // 60, 30 and 10 samples; one label is -7.
  std::vector<std::int64_t> labels;
  for (int i = 0; i < 100; ++i) labels.push_back(i % 10 < 6 ? 5 : i % 10 < 9 ? -7 : 1000000);
  const auto options = SplitOptions().stratify(labels);
  for (const std::uint64_t seed : {1, 2, 3}) {
    const auto parts = members_of(random_split(counting(100), {0.8, 0.1, 0.1}, seed, options));
    check_partition(parts, 100);
    CHECK(counts(parts[0], labels) == std::map<std::int64_t, int>{{5, 48}, {-7, 24}, {1000000, 8}});
    CHECK(counts(parts[1], labels) == std::map<std::int64_t, int>{{5, 6}, {-7, 3}, {1000000, 1}});
    CHECK(counts(parts[2], labels) == std::map<std::int64_t, int>{{5, 6}, {-7, 3}, {1000000, 1}});
  }
  CHECK(members(random_split(counting(100), {0.8, 0.2}, 1, options)[1]) !=
        members(random_split(counting(100), {0.8, 0.2}, 2, options)[1]));
  // A tensor of labels, of any dtype of integers.
  for (const auto dtype : {at::kLong, at::kInt, at::kShort}) {
    const at::Tensor tensor = at::tensor(labels, at::kLong).to(at::kInt) % 1000;
    std::vector<std::int64_t> same;
    for (std::int64_t i = 0; i < 100; ++i) same.push_back(tensor[i].item<std::int64_t>());
    CHECK(members(random_split(counting(100), {0.8, 0.2}, 1,
                               SplitOptions().stratify(tensor.to(dtype)))[1]) ==
          members(random_split(counting(100), {0.8, 0.2}, 1, SplitOptions().stratify(same))[1]));
  }
}

TEST_CASE("every stratified split rounds the share of each label up or down", "[split]") {
  // Any sizes of labels and of parts; found with parts that took their share of what was left.
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    const auto size = static_cast<std::int64_t>(2 + random() % 30);
    std::vector<std::int64_t> labels;
    for (std::int64_t i = 0; i < size; ++i) labels.push_back(random() % (1 + random() % 6));
    std::vector<std::int64_t> sizes;
    for (std::int64_t left = size; left != 0; left -= sizes.back()) {
      sizes.push_back(static_cast<std::int64_t>(random() % static_cast<std::size_t>(left + 1)));
    }
    const auto parts =
        members_of(random_split(counting(size), sizes, random(), SplitOptions().stratify(labels)));
    check_partition(parts, labels.size());
    std::map<std::int64_t, int> all;
    for (const std::int64_t label : labels) ++all[label];
    for (std::size_t part = 0; part < parts.size(); ++part) {
      REQUIRE(parts[part].size() == static_cast<std::size_t>(sizes[part]));
      auto found = counts(parts[part], labels);
      for (const auto& [label, count] : all) {
        const double share = static_cast<double>(count * sizes[part]) / static_cast<double>(size);
        REQUIRE(found[label] >= std::floor(share));
        REQUIRE(found[label] <= std::ceil(share));
      }
    }
  }
}

TEST_CASE("a stratified split has exact sizes, and each label is rounded up or down", "[split]") {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    // Labels of 1, 2, 3, ... 23 samples.
    std::vector<std::int64_t> labels;
    for (std::int64_t label = 1; label < 24; ++label) labels.insert(labels.end(), label, label);
    const auto size = static_cast<std::int64_t>(labels.size());
    const auto options = SplitOptions().stratify(labels);
    const auto parts = members_of(random_split(counting(size), {0.8, 0.2}, seed, options));
    check_partition(parts, labels.size());
    CHECK(parts[0].size() == 221);
    for (auto& [label, count] : counts(parts[0], labels)) {
      CHECK(std::abs(count - 0.8 * static_cast<double>(label)) < 1.01);
    }
    for (const auto& fold : k_fold(counting(size), 5, seed, options)) {
      CHECK(std::abs(static_cast<double>(*fold.validation.size()) - 55.2) < 1);
      for (auto& [label, count] : counts(members(fold.validation), labels)) {
        CHECK(std::abs(count - static_cast<double>(label) / 5) < 1.01);
      }
    }
  }
  // As many labels as samples: chance decides which of them are in a part.
  std::vector<std::int64_t> all_different;
  for (int i = 0; i < 100; ++i) all_different.push_back(i);
  const auto options = SplitOptions().stratify(all_different);
  std::set<Indices> different;
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    different.insert(members(random_split(counting(100), {0.9, 0.1}, seed, options)[1]));
  }
  CHECK(different.size() == 10);
}

TEST_CASE("samples of one group are never in two parts", "[split]") {
  // 40 patients with 1 to 12 images, in any order.
  std::vector<std::string> patients;
  for (int i = 0; i < 260; ++i) {
    patients.push_back("patient " + std::to_string((i * i + 7 * i) % 40 * (i % 3 + 1) % 40));
  }
  const std::set<std::string> names(patients.begin(), patients.end());
  const auto options = SplitOptions().groups(patients);
  const auto groups_of = [&](const Indices& part) {
    std::set<std::string> groups;
    for (const std::size_t i : part) groups.insert(patients[i]);
    return groups;
  };
  std::set<Indices> different;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const auto parts = members_of(random_split(counting(260), {0.6, 0.2, 0.2}, seed, options));
    check_partition(parts, 260);
    std::size_t groups = 0;
    for (const Indices& part : parts) groups += groups_of(part).size();
    CHECK(groups == names.size());
    CHECK(std::abs(static_cast<double>(parts[0].size()) - 156) < 13);
    CHECK(std::abs(static_cast<double>(parts[1].size()) - 52) < 13);
    different.insert(parts[1]);
    std::set<std::string> validated;
    for (const auto& fold : k_fold(counting(260), 5, seed, options)) {
      const auto train = groups_of(members(fold.train));
      for (const std::string& name : groups_of(members(fold.validation))) {
        CHECK(train.count(name) == 0);
        CHECK(validated.insert(name).second);
      }
    }
    CHECK(validated == names);
  }
  CHECK(different.size() > 15);

  // By a function of the key.
  const Folder folder;
  for (const char* name : {"a_0", "a_1", "b_0", "c_0", "c_1", "c_2"}) {
    save(folder / (std::string(name) + ".npy"), sample(1));
  }
  const auto patient_of = [](const std::string& key) {
    return std::filesystem::path(key).filename().string().substr(0, 1);
  };
  const auto by_key = SplitOptions().groups(patient_of);
  const auto parts = random_split(FolderDataset(folder.path()), {0.5, 0.3, 0.2}, 1, by_key);
  std::set<std::string> seen;
  for (const auto& part : parts) {
    CHECK(*part.size() != 0);
    for (std::size_t i = 0; i < *part.size(); ++i) {
      CHECK(patient_of(part.key(i)) == patient_of(part.key(0)));
    }
    CHECK(seen.insert(patient_of(part.key(0))).second);
  }
}

TEST_CASE("a split may be stratified and grouped", "[split]") {
  // 60 patients with 4 images each; every third patient is ill.
  std::vector<std::string> patients;
  std::vector<std::int64_t> labels;
  for (int i = 0; i < 240; ++i) {
    patients.push_back(std::to_string(i / 4));
    labels.push_back(i / 4 % 3 == 0 ? 1 : 0);
  }
  const auto options = SplitOptions().stratify(labels).groups(patients);
  for (const std::uint64_t seed : {1, 2, 3}) {
    const auto parts = members_of(random_split(counting(240), {0.8, 0.2}, seed, options));
    check_partition(parts, 240);
    CHECK(counts(parts[0], labels) == std::map<std::int64_t, int>{{0, 128}, {1, 64}});
    CHECK(counts(parts[1], labels) == std::map<std::int64_t, int>{{0, 32}, {1, 16}});
    for (const std::size_t i : parts[1]) {
      CHECK(std::binary_search(parts[1].begin(), parts[1].end(), i / 4 * 4));
    }
  }
  // Both labels have an odd number of groups.
  const auto six =
      SplitOptions().stratify(at::arange(6) % 2).groups({"a", "b", "c", "d", "e", "f"});
  CHECK(*random_split(counting(6), {0.5, 0.5}, 1, six)[0].size() == 3);
}

TEST_CASE("k_fold() validates each sample once", "[split]") {
  for (const std::size_t k : {2, 3, 10, 11}) {
    const auto folds = k_fold(counting(11), k, 1);
    REQUIRE(folds.size() == k);
    std::vector<Indices> validation;
    for (const auto& [train, rest] : folds) {
      check_partition({members(train), members(rest)}, 11);
      validation.push_back(members(rest));
    }
    check_partition(validation, 11);
    for (std::size_t i = 0; i < k; ++i) {
      CHECK(validation[i].size() == 11 / k + (i < 11 % k ? 1 : 0));
    }
  }
  CHECK(members(k_fold(counting(11), 3, 1)[0].train) !=
        members(k_fold(counting(11), 3, 2)[0].train));
  const auto stacked = k_fold(counting(11).stacked(), 3, 1);
  CHECK(stacked[2].train.get_batch({0, 7}).data.size(0) == 2);
}

TEST_CASE("a split that cannot be made is refused", "[split]") {
  const auto ten = counting(10);
  const auto with = [&](const std::vector<double>& fractions) {
    return refused([&] { (void)random_split(ten, fractions, 1); });
  };
  CHECK_THAT(with({0.8, 0.3}), says("fractions that sum to 1, found 0.800000 + 0.300000"));
  CHECK_THAT(with({0.8, 0.1}), says("sum to 1"));
  CHECK_THAT(with({8.0, 2.0}), says("numbers of samples are given as integers"));
  CHECK_THAT(with({1.5, -0.5}), says("at least 0, found -0.5"));
  CHECK_THAT(with({std::nan(""), 1.0}), says("at least 0"));
  CHECK_THAT(with({HUGE_VAL, 1.0}), says("sum to 1"));
  CHECK_THAT(with({0.99, 0.01}), says("part 1 with the fraction 0.01"));
  CHECK_THAT(with({}), says("at least one part"));
  CHECK_THAT(refused([&] {
               (void)random_split(ten, {8, 3}, 1);
             }),
             says("sum to 10, the size of the dataset, found 8 + 3"));
  CHECK_THAT(refused([&] { (void)random_split(ten, {8, 1}, 1); }), says("found 8 + 1"));
  CHECK_THAT(refused([&] { (void)random_split(ten, {12, -2}, 1); }), says("found 12 + -2"));
  CHECK_THAT(refused([&] { (void)random_split(ten, {1, 0}, 1); }), says("such as 0.8"));

  for (const std::size_t k : {0, 1, 11}) {
    CHECK_THAT(refused([&] { (void)k_fold(ten, k, 1); }),
               says("k from 2 to the number of samples, 10, found " + std::to_string(k)));
  }

  const auto by = [&](const SplitOptions& options) {
    const std::string error = refused([&] { (void)random_split(ten, {0.5, 0.5}, 1, options); });
    CHECK(error == refused([&] { (void)k_fold(ten, 2, 1, options); }));
    return error;
  };
  CHECK_THAT(by(SplitOptions().stratify(std::vector<std::int64_t>{1, 2})),
             says("stratify() has 2 labels, the dataset has 10 samples: give one label"));
  CHECK_THAT(by(SplitOptions().stratify(at::arange(11))), says("stratify() has 11 labels"));
  CHECK_THAT(by(SplitOptions().groups({"a", "b", "c"})), says("groups() has 3 names"));
  CHECK_THAT(by(SplitOptions().groups(std::vector<std::string>(10, "a"))),
             says("1 group cannot be divided into 2 parts"));
  CHECK_THAT(refused([] { (void)SplitOptions().groups(SplitOptions::GroupOf()); }),
             says("expects a function"));
  const auto labels = [](const at::Tensor& tensor) {
    return refused([&] { (void)SplitOptions().stratify(tensor); });
  };
  CHECK_THAT(labels(at::arange(10).reshape({10, 1})), says("found shape (10, 1) and dtype Long"));
  CHECK_THAT(labels(at::arange(10).to(at::kFloat)), says("dtype Float"));
  CHECK_THAT(labels({}), says("an undefined tensor"));
}

TEST_CASE("samples of one file are never in two parts", "[split]") {
  const Folder folder;
  for (int i = 0; i < 6; ++i) save(folder / (std::to_string(i) + ".npy"), sample(i));
  const FolderDataset patches(folder.path(), FolderOptions().samples_per_file(5));
  const auto file_of = [](const std::string& key) { return key.substr(0, key.rfind('#')); };
  const auto check = [&](const auto& some, const auto& others) {
    std::set<std::string> files;
    for (std::size_t i = 0; i < *some.size(); ++i) files.insert(file_of(some.key(i)));
    CHECK(*some.size() % 5 == 0);
    for (std::size_t i = 0; i < *others.size(); ++i)
      CHECK(files.count(file_of(others.key(i))) == 0);
  };
  const auto [half, other] = random_split(patches, {0.5, 0.5}, 1);
  CHECK(half.size() == 15);
  check(half, other);
  for (const auto& fold : k_fold(concat(patches, patches), 3, 1)) {
    CHECK(*fold.train.size() + *fold.validation.size() == 60);
  }
  for (const auto& fold : k_fold(patches.subset({0, 29, 1, 28, 2, 27, 10, 11}), 2, 1)) {
    for (std::size_t i = 0; i < *fold.train.size(); ++i) {
      for (std::size_t k = 0; k < *fold.validation.size(); ++k) {
        CHECK(file_of(fold.train.key(i)) != file_of(fold.validation.key(k)));
      }
    }
  }
}

TEST_CASE("samples that overlap are not split", "[split]") {
  const Dataset<> windows(std::make_shared<const Overlapping>(10));
  CHECK_THAT(refused([&] {
               (void)random_split(windows, {0.5, 0.5}, 1);
             }),
             says("the samples of this dataset overlap"));
  CHECK_THAT(refused([&] { (void)k_fold(windows.stacked(), 2, 1); }),
             says("k_fold(): the samples"));
}

TEST_CASE("a dataset is split before random transforms", "[split]") {
  const auto images = ArrayDataset(at::arange(2 * 3 * 4 * 4).reshape({2, 3, 4, 4}));
  const auto check = [](const auto& dataset, bool is_random) {
    CHECK(dataset.is_random() == is_random);
    CHECK(dataset.subset({0, 1}).is_random() == is_random);
    if (!is_random) {
      (void)random_split(dataset, {0.5, 0.5}, 1);
      return;
    }
    CHECK_THAT(refused([&] {
                 (void)random_split(dataset, {0.5, 0.5}, 1);
               }),
               says("the dataset has a random transform"));
    CHECK_THAT(refused([&] { (void)k_fold(dataset, 2, 1); }), says("split first"));
  };
  using namespace transforms;
  check(images, false);
  check(images.map(ToDtype(at::kFloat)), false);
  check(images.map([](TensorExample& one) { one.data = one.data + 1; }), false);
  check(images.stacked().map([](auto& batch) { batch.data = batch.data + 1; }), false);
  check(images.map(RandomHorizontalFlip(0.5)), true);
  check(images.stacked().map(RandomCrop({2, 2})), true);
  check(images.map(RandomVerticalFlip(0.5)).stacked().map(ToDtype(at::kFloat)), true);
  check(images.map([](TensorExample& one, at::Generator&) { one.data = one.data + 1; }), true);
  check(images.stacked().map([](auto& batch, at::Generator&) { batch.data = batch.data + 1; }),
        true);
  check(concat(Dataset<TensorExample>(images), images.map(RandomVerticalFlip(0.5))), true);
  const auto parts = random_split(images, {0.5, 0.5}, 1);
  CHECK(parts[0].map(RandomVerticalFlip(1)).get(0).data.dim() == 3);
}
