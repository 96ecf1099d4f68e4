// Appending to files of other writers.

#include <torch_npy/tensor/append.hpp>
#include <torch_npy/tensor/load.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "support/appending.hpp"
#include "support/catch.hpp"
#include "support/files.hpp"

using namespace torch_npy;

TEST_CASE("headers of other writers grow as long as they have room", "[append]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  const std::string data = floats(8);
  struct Tight {
    const char* name;
    std::string bytes;
    std::int64_t most;
  };
  const std::string canonical = header_text("'<f4'", "(8,)");  // nothing is free but the line end
  const Tight table[] = {
      {"no blanks at all", npy(canonical, data), 9},
      {"one blank", tight("'<f4'", "(8, )", data), 99},
      {"other order, double quotes",
       npy("{\"shape\": (8,), \"descr\": \"<f4\", \"fortran_order\": False}     ", data), 999},
      {"no line end", npy("{'descr':'<f4', 'fortran_order':False, 'shape':(8L,) }     ", data), 99},
      {"canonical, and blanks over pages",
       npy("{'descr': '<f4', 'fortran_order': False, 'shape': (8,), }" + std::string(9000, ' ') +
               "\n",
           data),
       10000},
      {"version 2", npy(canonical + "  ", data, 2), 999},
      {"version 3, native order", npy(header_text("'=f4'", "(8,)   "), data, 3), 9999},
  };
  const at::Tensor whole = at::arange(10100, at::kFloat);
  for (const Tight& tight : table) {
    INFO(tight.name);
    write_bytes(path, tight.bytes);
    const auto offset = read_header(path).data_offset;
    Appender appender(path, {}, at::kFloat, kQuick);
    std::int64_t rows = 8;
    const auto check = [&] {
      appender.flush();
      const Header header = read_header(path);
      CHECK(header.data_offset == offset);
      CHECK(header.version == tight.bytes[6]);
      CHECK(at::equal(load(path), whole.narrow(0, 0, rows)));
    };
    check();
    CHECK((read_bytes(path) == tight.bytes));  // nothing was appended
    while (rows < tight.most) {
      const std::int64_t count = (std::min)(tight.most - rows, rows);
      appender.append(whole.narrow(0, rows, count));
      rows += count;
      check();
    }
    if (tight.bytes.size() > 9000) continue;
    const std::string before = read_bytes(path);
    const Error error = error_of([&] { appender.append(whole.narrow(0, rows, 2)); });
    CHECK(error.code() == ErrorCode::TooLarge);
    CHECK_THAT(error.what(), says("can count at most " + std::to_string(tight.most)));
    appender.close();
    CHECK((read_bytes(path) == before));
  }
}

TEST_CASE("the header keeps the spelling of its dtype", "[append]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  const std::string eight(8, '\1');
  const auto grown = [&](const std::string& descr, const std::string& items,
                         const at::Tensor& row) {
    write_bytes(path, tight("'" + descr + "'", "(1,)   ", items));
    Appender appender(path, kQuick);
    appender.append(row);
    appender.close();
    return read_bytes(path);
  };
  const at::Tensor two = at::ones({1}, at::kLong);
  const std::string more = "\1" + std::string(7, '\0');
  for (const char* descr : {"<M8[ns]", "<m8[25s]", "<M8"}) {
    INFO(descr);
    const std::string got = grown(descr, eight, two);
    CHECK(got.find("'descr': '" + std::string(descr) + "'") != got.npos);
    CHECK(got.find("'shape': (2,)") != got.npos);
    CHECK((got.substr(got.size() - 16) == eight + more));
    CHECK(error_of([&] { Appender(path, kQuick).append(two.to(at::kDouble)); }).code() ==
          ErrorCode::Mismatch);
  }

  const at::Tensor brains = at::ones({1}, at::kBFloat16);
  const std::string one = saved(brains).substr(128);
  for (const char* descr : {"<V2", "|V2"}) {
    INFO(descr);
    const std::string got = grown(descr, "ab", brains);
    CHECK(got.find("'descr': '" + std::string(descr) + "'") != got.npos);
    CHECK((got.substr(got.size() - 4) == "ab" + one));
    Appender(path, {}, at::kBFloat16, kQuick).append(brains);
    CHECK(load(path, LoadOptions().void_as(at::kBFloat16)).size(0) == 3);
    std::string text = header_text("'" + std::string(descr) + "'", "(1,)");
    text.insert(text.size() - 1, 'V' - text.size(), ' ');  // so that the byte of its length is a V
    Appender(write_bytes(path, npy(text, "ab")), kQuick).append(brains);
    CHECK(read_bytes(path).find(std::string("'") + descr + "'") != std::string::npos);
    CHECK(error_of([&] { Appender(path, {}, at::kHalf); }).code() == ErrorCode::Mismatch);
    CHECK(error_of([&] { Appender(path).append(brains.to(at::kShort)); }).code() ==
          ErrorCode::Mismatch);
  }
}

TEST_CASE("leftover bytes after the array are overwritten", "[append]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  const at::Tensor whole = counting(12, {3}, at::kInt);
  for (const std::size_t size : {1, 5, 6, 100, 5000}) {
    const std::string bytes = saved(whole.narrow(0, 0, 9)) + std::string(size, '\x93');
    write_bytes(path, bytes);
    Appender appender(path, kQuick);
    appender.flush();
    CHECK((read_bytes(path) == bytes));
    appender.append(whole.narrow(0, 9, 3));
    appender.close();
    CHECK((read_bytes(path) == saved(whole)));
  }
}
