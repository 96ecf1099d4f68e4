// A table in a CSV file: the path of each sample, its label, and the fold that it is in.

#include <torch_npy.hpp>

#include <iostream>

int main() {
  using namespace torch_npy;

  const auto columns = FileListOptions().path_column("path").label_column("label");
  const ListedFiles listed = read_file_list("labels.csv", ".", columns);
  const FileDataset recordings(listed.files, listed.labels);

  const auto patient = [](const std::string& key) { return key.substr(0, key.rfind('/')); };
  const auto whole_patients = SplitOptions().groups(patient);
  const auto [train, test] = random_split(recordings, {0.8, 0.2}, /*seed=*/1, whole_patients);
  const auto [mean, std] = mean_and_std(train, StatisticsOptions().axis(0));  // of each lead
  const auto normalize = transforms::Normalize(mean, std).axis(0);

  Loader loader(train.stacked().map(normalize), LoaderOptions().batch_size(4).shuffle(true));
  for (auto& batch : loader) std::cout << batch.data.sizes() << ' ' << batch.target.sizes() << '\n';
  for (std::size_t i = 0; i < *test.size(); ++i) std::cout << "test: " << test.key(i) << '\n';
}
