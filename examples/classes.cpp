// A folder for each class. One class is rare, and the validation set does not have it.

#include <torch_npy.hpp>

#include <iostream>

int main() {
  using namespace torch_npy;

  const ClassFolderDataset train("train");
  const ClassFolderDataset validation(
      "validation", FolderOptions().classes(train.classes()).allow_empty_classes(true));
  for (const auto& [name, label] : validation.class_to_index())
    std::cout << name << ' ' << label << '\n';

  // Each class is drawn as often as any other one.
  const torch::Tensor labels = train.targets();
  const torch::Tensor weights = labels.bincount().to(torch::kFloat64).reciprocal().index({labels});
  Loader loader(train.stacked().map(transforms::ToTensor()),
                LoaderOptions().batch_size(32).order(weighted(weights, 3000)).seed(1).workers(2));
  torch::Tensor drawn = torch::zeros(3, torch::kInt64);
  for (auto& batch : loader) drawn += batch.target.bincount({}, 3);
  std::cout << drawn.div(1000.0).round() << '\n';
}
