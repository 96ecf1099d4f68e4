// A structured array, as NumPy's np.save writes a table whose columns differ in dtype.
//
//   records FILE
#include <torch_npy.hpp>

#include <iostream>

int main(int, char** argv) {
  const std::string path = argv[1];

  const auto fields = torch_npy::load_fields(path);  // [('id', '<i8'), ('pos', [('x', '<f4'), ...
  const torch::Tensor id = fields["id"];             // a view of the records, if possible
  const torch::Tensor x = fields["pos.x"];           // a field inside another field

  for (const auto& field : fields) {
    std::cout << field.key() << ' ' << field.value().scalar_type() << ' ' << field.value().sizes()
              << '\n';
  }
  std::cout << id.sum().item<std::int64_t>() << ' ' << x.sum().item<float>() << '\n';
}
