// Reading, with every system call failing in turn.

#include <torch/data.h>
#include <torch_npy.hpp>

#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>

#include <fstream>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/fault_work.hpp"
#include "support/faults.hpp"
#include "support/files.hpp"
#include "support/zip_bytes.hpp"

using namespace torch_npy;

TEST_CASE("each failing system call of a load gives the right Error or the right result",
          "[faults]") {
  const Folder folder;
  const at::Tensor small = floats({30, 100});
  const at::Tensor large = floats({300, 10000});  // large enough for several threads
  save(folder / "small.npy", small, kQuick);
  save(folder / "large.npy", large, kQuick);
  save(folder / "fortran.npy", floats({100, 300}).t(), kQuick);
  save_npz(folder / "a.npz", {{"a", small}, {"b", large}}, SaveNpzOptions().sync(false));
  save_sparse(folder / "sparse.npz", small.to_sparse(), SaveNpzOptions().sync(false));
  write_bytes(folder / "fields.npy",
              npy(header_text("[('a', '<f4'), ('b', '>i2')]", "(5000,)"), std::string(30000, 'x')));
  const std::string deflated =
      has_deflate() ? zip({ZipPart::packed("a.npy", read_bytes(folder / "small.npy"))}) : "";
  write_bytes(folder / "deflated.npz", deflated);
  save(folder / "twin.npy", small, kQuick);

  const auto same = [](const at::Tensor& got, const at::Tensor& want) {
    require(got.sizes() == want.sizes() && at::equal(got, want), "another result");
  };
  const auto nothing = [] {};
  at::Tensor out = at::empty({30, 100});
  std::vector<Work> works = {
      {"load a small file", nothing, [&] { same(load(folder / "small.npy"), small); }},
      {"load a large file", nothing, [&] { same(load(folder / "large.npy"), large); }},
      {"load with four threads", nothing,
       [&] { same(load(folder / "large.npy", LoadOptions().threads(4)), large); }},
      {"load and convert", nothing,
       [&] {
         same(load(folder / "small.npy", LoadOptions().dtype(at::kDouble)), small.to(at::kDouble));
       }},
      {"load rows in Fortran order", nothing,
       [&] {
         same(load(folder / "fortran.npy", LoadOptions().rows(10, 30)),
              floats({100, 300}).t().narrow(0, 10, 20));
       }},
      {"load a region that is partly outside", nothing,
       [&] {
         const auto region = LoadOptions().region({{290, 301}, {5000, 5100}});
         same(load(folder / "large.npy", LoadOptions(region).out_of_bounds(OutOfBounds::Shift)),
              large.narrow(0, 289, 11).narrow(1, 5000, 100));
         const at::Tensor filled =
             load(folder / "large.npy", LoadOptions(region).out_of_bounds(OutOfBounds::Fill));
         same(filled.narrow(0, 0, 10), large.narrow(0, 290, 10).narrow(1, 5000, 100));
       }},
      {"map a region", nothing,
       [&] {
         same(load(folder / "large.npy", LoadOptions().mmap(true).region({{3, 5}, {7, 9}})),
              large.narrow(0, 3, 2).narrow(1, 7, 2));
       }},
      {"map", nothing, [&] { same(load(folder / "large.npy", LoadOptions().mmap(true)), large); }},
      {"load_into", nothing, [&] { load_into(out, folder / "small.npy"), same(out, small); }},
      {"load_all", nothing,
       [&] {
         for (const at::Tensor& tensor :
              load_all({folder / "small.npy", folder / "twin.npy"}, LoadOptions().threads(2)))
           same(tensor, small);
       }},
      {"read_header", nothing,
       [&] { require(read_header(folder / "small.npy").shape[0] == 30, "another header"); }},
      {"load_fields", nothing,
       [&] { require(load_fields(folder / "fields.npy").size() == 2, "other fields"); }},
      {"load_npz", nothing,
       [&] {
         const auto arrays = load_npz(folder / "a.npz", LoadOptions().threads(1));
         same(arrays["a"], small), same(arrays["b"], large);
       }},
      {"load_npz with names", nothing,
       [&] { same(load_npz(folder / "a.npz", {"b"}, LoadOptions().threads(1))["b"], large); }},
      {"load_npz that skips", nothing,
       [&] {
         // Only what a truncated file has lost is skipped, and the callback gets its Error.
         std::size_t skipped = 0;
         const auto skip =
             LoadOptions().threads(1).on_unreadable(OnUnreadable::Skip, [&](const Error& error) {
               require(error.code() == ErrorCode::Truncated, "another array is skipped");
               require(!error.path().empty(), "an Error without a path");
               ++skipped;
             });
         const auto arrays = load_npz(folder / "a.npz", skip);
         require(arrays.size() + skipped == 2, "an array is lost without a sign");
         if (arrays.contains("a")) same(arrays["a"], small);
         if (arrays.contains("b")) same(arrays["b"], large);
       }},
      {"load_fields with names", nothing,
       [&] { require(load_fields(folder / "fields.npy", {"b"}).size() == 1, "other fields"); }},
      {"load_sparse", nothing, [&] { same(load_sparse(folder / "sparse.npz").to_dense(), small); }},
      {"map an array of an archive", nothing,
       [&] { same(NpzFile(folder / "a.npz").load("b", LoadOptions().mmap(true)), large); }},
  };
  if (has_deflate()) {
    works.push_back({"load a deflated array", nothing,
                     [&] { same(load_npz(folder / "deflated.npz")["a"], small); }});
  }
  for (const Work& work : works) inject(work, folder);
  std::cout << injected << " faults injected into reading\n";
}

TEST_CASE("a failing read of a stream with an archive throws Error", "[faults]") {
  const Folder folder;
  const auto path = folder / "a.npz";
  const at::Tensor tensor = floats({300, 1000});
  save_npz(path, {{"a", tensor}}, SaveNpzOptions().sync(false));
  for (const auto& [fault, code] : {std::pair(Fault{Fault::Fails, EIO}, ErrorCode::Io),
                                    std::pair(Fault{Fault::AtEnd, 0}, ErrorCode::BadZip)}) {
    for (std::size_t index = 0;; ++index) {
      std::ifstream in(path, std::ios::binary);
      const FaultInjection injection(kRead, fault, index);
      try {
        const at::Tensor got = load_npz(NpzFile(in))["a"];
        CHECK(at::equal(got, tensor));
        if (!injection.happened()) break;
      } catch (const Error& error) {
        const bool is_empty = error.code() == ErrorCode::Truncated && index == 0;
        CHECK((error.code() == code || is_empty));
      }
    }
  }
}

TEST_CASE("a failing read of a stream throws Error", "[faults]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  const at::Tensor tensor = floats({300, 1000});
  save(path, tensor, kQuick);
  for (const auto& [fault, code] : {std::pair(Fault{Fault::Fails, EIO}, ErrorCode::Io),
                                    std::pair(Fault{Fault::AtEnd, 0}, ErrorCode::Truncated)}) {
    for (std::size_t index = 0;; ++index) {
      std::ifstream in(path, std::ios::binary);
      const FaultInjection injection(kRead, fault, index);
      try {
        const at::Tensor got = load(in);
        CHECK(at::equal(got, tensor));
        if (!injection.happened()) break;
      } catch (const Error& error) {
        CHECK(error.code() == code);
      }
    }
  }
}
