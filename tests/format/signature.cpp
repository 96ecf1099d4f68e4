// Files of other formats: the message says what they are.

#include <torch_npy/format/header.hpp>
#include <torch_npy/format/signature.hpp>

#include <cstddef>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/headers.hpp"

using namespace torch_npy;

namespace {

struct OtherFile {
  const char* name;
  std::string bytes;
  const char* words;  ///< empty if the file is not recognized
};

/// The local header of a zip archive's first member: Python and PyTorch write them.
std::string local_header(const std::string& name, const std::string& extra = {}) {
  std::string bytes("PK\x03\x04\x14\0\0\0\0\0\0\0!\0\x04\xd7\x95\xdf\xd0\0\0\0\xd0\0\0\0", 26);
  detail::append_little_endian(bytes, {{name.size(), 2}, {extra.size(), 2}});
  return bytes + name + extra;
}

std::vector<OtherFile> other_files() {
  const std::string padding("FB\x10\0ZZZZZZZZZZZZZZZZ", 20);
  const std::string pickle(
      "}\x94\x8c\x01"
      "a\x94");
  const std::string lfs =
      "version https://git-lfs.github.com/spec/v1\n"
      "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";
  const std::string safetensors = R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}})";
  return {
      {"gzip", "\x1f\x8b\x08", "a gzip file: unpack it first"},
      {"gzip with the time of day", std::string("\x1f\x8b\x08\0\xb1\xa8\x08k\x02\xff", 10),
       "a gzip file"},
      {"zstd", "\x28\xb5\x2f\xfd jm", "a zstd file: unpack it first"},
      {"bzip2", "BZh91AY&SY", "a bzip2 file: unpack it first"},
      {"xz",
       std::string("\xfd"
                   "7zXZ\0\0\x04",
                   8),
       "an xz file: unpack it first"},
      {"HDF5", std::string("\x89HDF\r\n\x1a\n\0\0", 10), "an HDF5 file: read it with h5py"},
      {"MATLAB 5", "MATLAB 5.0 MAT-file Platform: posix, Created on: Fri Aug",
       "a MATLAB file: read it with scipy.io.loadmat()"},
      {"MATLAB 7.3", "MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on:",
       "a MATLAB 7.3 file, which is HDF5: read it with h5py"},
      {"pickle 2", std::string("\x80\x02}q\0X", 6), "a Python pickle"},
      {"pickle 3", std::string("\x80\x03}q\0X", 6), "a Python pickle"},
      {"pickle 4", "\x80\x04\x95\xa7" + std::string(7, '\0') + pickle, "a Python pickle"},
      {"pickle 5", "\x80\x05\x95\x92" + std::string(7, '\0') + pickle, "a Python pickle"},
      {"PyTorch before 1.6",
       "\x80\x02\x8a\nl\xfc\x9c"
       "F\xf9 j\xa8P\x19.\x80\x02M\xe9\x03",
       "a PyTorch file"},
      {"torch.save", local_header("archive/data.pkl", padding) + "\x80\x02", "a PyTorch file"},
      {"TorchScript", local_header("linear/data/0", padding), "a PyTorch file"},
      {"PyTorch, zipped again", local_header("archive/data.pkl"), "a PyTorch file"},
      {"np.savez", local_header("a.npy"), "an .npz archive, which load_npz() reads"},
      {"np.savez in NumPy 2",
       local_header("a.npy", std::string("\x01\0\x10\0", 4) + std::string(16, '\0')),
       "an .npz archive, which load_npz() reads"},
      {"an empty archive", "PK\x05\x06" + std::string(18, '\0'),
       "a zip archive: load_npz() reads it if"},
      {"a zip header cut short", "PK\x03\x04", "a zip archive: load_npz() reads it if"},
      {"another zip archive", local_header("word/document.xml"),
       "a zip archive: load_npz() reads it if"},
      {"safetensors", std::string("\x37\0\0\0\0\0\0\0", 8) + safetensors, "a safetensors file"},
      {"safetensors longer than its limit", std::string(8, '\xff') + safetensors, ""},
      {"Git LFS", lfs, "a Git LFS pointer"},
      {"HTML", "<!DOCTYPE html>\n<html>", "an HTML or XML page"},
      {"HTML after blanks", "\xef\xbb\xbf\r\n\t <HTML lang=en>", "an HTML or XML page"},
      {"XML", "<?xml version=\"1.0\"?><Error>", "an HTML or XML page"},
      {"JSON", "{\n  \"error\": \"not found\"}", "JSON text"},
      {"PNG", std::string("\x89PNG\r\n\x1a\n\0", 9), "a PNG image"},
      {"JPEG", "\xff\xd8\xff\xe0", "a JPEG image"},
      {"a part of a signature", "BZ", ""},
      {"blanks only", std::string(600, ' '), ""},
      {"a brace only", "{  ", ""},
      {"text", "1,2,3\n", ""},
      {"raw bytes", std::string("\x80\x04\0", 3), ""},
      {"zeros", std::string(64, '\0'), ""},
  };
}

}  // namespace

TEST_CASE("the message about a file of another format says what it is", "[header][bad]") {
  for (const OtherFile& file : other_files()) {
    INFO(file.name);
    const Error error = error_of([&] { parse(file.bytes); });
    INFO(error.what());
    CHECK(error.code() == ErrorCode::NotNpy);
    CHECK_THAT(error.what(), says("not an .npy file: it starts with \""));
    const bool is_known = *file.words != '\0';
    CHECK((std::string(error.what()).find("; it looks like ") != std::string::npos) == is_known);
    if (is_known) CHECK_THAT(error.what(), says(std::string("; it looks like ") + file.words));
    CHECK(detail::escaped(error.what(), /*ascii=*/true) == error.what());
  }
}

TEST_CASE("any start of a file of another format is described or not", "[header][bad]") {
  for (const OtherFile& file : other_files()) {
    for (std::size_t size = 1; size < file.bytes.size(); ++size) {
      const std::string start(file.bytes, 0, size);  // with its end where ASan sees reads after it
      CHECK(error_of([&] { parse(start); }).code() == ErrorCode::NotNpy);
    }
  }
}
