// Free functions on sixteen threads, as the thread sanitizer runs them.

#include <torch/data.h>
#include <torch_npy.hpp>

#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>

#include <sstream>
#include <string>

#include "support/at_once.hpp"
#include "support/catch.hpp"
#include "support/files.hpp"

using namespace torch_npy;

namespace {

/// Whether the call throws an Error of this code.
template <class Call>
bool fails_with(ErrorCode code, const Call& call) {
  try {
    (void)call();
  } catch (const Error& error) {
    return error.code() == code;
  }
  return false;
}

}  // namespace

TEST_CASE("sixteen threads call every free function at once", "[threads]") {
  const Folder folder;
  const at::Tensor small = floats({20, 30});
  const at::Tensor large = floats({300, 10000});
  save(folder / "small.npy", small, kQuick);
  save(folder / "large.npy", large, kQuick);
  save_npz(folder / "a.npz", {{"a", small}, {"b", small + 1}});
  write_bytes(folder / "bad.npy", "no array");
  write_bytes(folder / "fields.npy",
              npy(header_text("[('a', '<f4'), ('b', '>i2')]", "(50,)"), std::string(300, 'x')));
  const std::string bytes = read_bytes(folder / "small.npy");
  const Header header = read_header(folder / "small.npy");
  const NpzFile archive(folder / "a.npz");

  const auto work = [&](int thread) {
    const auto own = folder / (std::to_string(thread) + ".npy");
    const auto shared = folder / "shared.npy";
    bool good = true;
    for (int round = 0; round < 3; ++round) {
      const bool mmap = (thread + round) % 2 == 0;
      good &= at::equal(load(folder / "small.npy", LoadOptions().mmap(mmap)), small);
      good &= at::equal(load(folder / "large.npy", LoadOptions().threads(2)), large);
      good &= at::equal(load(folder / "small.npy", LoadOptions().dtype(at::kDouble).rows(3, 7)),
                        small.narrow(0, 3, 4).to(at::kDouble));
      good &= at::equal(load_bytes(bytes.data(), bytes.size()), small);
      std::stringstream stream;
      save(stream, small);
      good &= stream.str() == bytes && at::equal(load(stream), small);
      const at::Tensor out = at::empty({20, 30});
      load_into(out, folder / "small.npy");
      good &= at::equal(out, small);
      for (const at::Tensor& tensor : load_all({folder / "small.npy", folder / "small.npy"})) {
        good &= at::equal(tensor, small);
      }
      good &= load_fields(folder / "fields.npy")["b"].size(0) == 50;
      good &= at::equal(load_npz(folder / "a.npz")["b"], small + 1);
      good &= archive.contains("a") && !archive.is_deflated("a") &&
              archive.header("a").shape == header.shape && archive.names().size() == 2 &&
              at::equal(archive.load("a", LoadOptions().mmap(mmap)), small);
      good &=
          parse_header(bytes.data(), bytes.size()).shape == read_header(folder / "small.npy").shape;
      good &= format_header(header) == bytes.substr(0, header.data_offset);
      good &= to_device(small, default_device()).defined();
      good &= fails_with(ErrorCode::NotNpy, [&] { return load(folder / "bad.npy"); });
      good &= fails_with(ErrorCode::NotFound, [&] { return load(folder / "none.npy"); });

      save(own, small + thread, kQuick);
      good &= at::equal(load(own), small + thread);
      save(shared, floats({20, 30}, static_cast<float>(1000 * thread)), kQuick);
      const at::Tensor any = load(shared);
      good &= at::equal(any, floats({20, 30}, any[0][0].item<float>()));
      save_npz(folder / "shared.npz", {{"a", small}}, SaveNpzOptions().sync(false));
      good &= at::equal(load_npz(folder / "shared.npz")["a"], small);
      Appender appender(own, kQuick);
      appender.append(small);
      appender.close();
      good &= load(own).size(0) == 40;
    }
    return good;
  };
  CHECK(failures_of(work) == 0);
}
