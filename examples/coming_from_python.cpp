// What one writes in Python, and the same in C++. Reads images.npy and labels.npy in the working
// directory, and writes files of its own there.
#include <torch_npy.hpp>

#include <iostream>

using namespace torch_npy;
using namespace torch_npy::transforms;
namespace data = torch::data;

int main() {
  // images = torch.from_numpy(np.load("images.npy"))
  auto images = load("images.npy");
  // labels = torch.from_numpy(np.load("labels.npy")).to(torch.int64)
  auto labels = load("labels.npy", LoadOptions().dtype(torch::kInt64));
  // some = torch.from_numpy(np.load("images.npy", mmap_mode="r")[10:20].copy())
  auto some = load("images.npy", LoadOptions().rows(10, 20));
  // mapped = torch.from_numpy(np.load("images.npy", mmap_mode="c"))
  auto mapped = load("images.npy", LoadOptions().mmap(true));
  // device = torch.device("cuda" if torch.cuda.is_available() else "cpu"); some = some.to(device)
  const auto device = default_device();
  some = to_device(some, device);
  // np.save("some.npy", some.cpu().numpy())
  save("some.npy", some);
  // np.savez("both.npz", images=images.numpy(), labels=labels.numpy())
  save_npz("both.npz", {{"images", images}, {"labels", labels}});
  // labels = torch.from_numpy(np.load("both.npz")["labels"])
  labels = NpzFile("both.npz").load("labels");

  // torch.manual_seed(0)
  torch::manual_seed(0);
  // class Digits(Dataset):
  //     def __init__(self):
  //         self.images, self.labels = np.load("images.npy", mmap_mode="r"), np.load("labels.npy")
  //     def __len__(self):
  //         return len(self.images)
  //     def __getitem__(self, i):
  //         image = torch.from_numpy(self.images[i].copy()).unsqueeze(0) / 255
  //         return (image - 0.1) / 0.2, self.labels[i]
  auto digits = ArrayDataset("images.npy", "labels.npy")
                    .map(Stack<>())
                    .map(ToTensor())
                    .map(Normalize(0.1, 0.2));
  // loader = DataLoader(Digits(), batch_size=64, shuffle=True, num_workers=2)
  auto loader = data::make_data_loader(digits, data::DataLoaderOptions(64).workers(2));
  // for image, label in loader:
  //     image, label = image.to(device, non_blocking=True), label.to(device, non_blocking=True)
  std::int64_t samples = 0;
  for (auto& batch : prefetch(*loader, device)) {
    samples += batch.data.size(0);
  }

  std::cout << images.sizes() << ' ' << mapped.equal(images) << ' ' << some.sizes() << ' '
            << labels.sizes() << ' ' << samples << '\n';
}
