// Loads files with this library, so that compare.py can compare the results with those of NumPy.
// Reads files from standard input, each as a letter ('h' for the header of an .npy file alone, 'n'
// for .npy, 'z' for .npz, 'N' and 'Z' to load it in every way, 's' for a sparse matrix of SciPy),
// its size in four bytes, little endian, and its bytes. Writes a line for each, with tabs between
// columns and text in hexadecimal.

#include <sys/mman.h>
#include <unistd.h>

#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>

#include <torch_npy/tensor/fields.hpp>
#include <torch_npy/tensor/load.hpp>
#include <torch_npy/tensor/npz.hpp>
#include <torch_npy/tensor/sparse.hpp>
#include <torch_npy/tensor/update_npz.hpp>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

using namespace torch_npy;

namespace {

std::string hex(const std::string& text) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (const char c : text) {
    out += kDigits[static_cast<unsigned char>(c) >> 4];
    out += kDigits[c & 15];
  }
  return out;
}

std::string joined(const std::vector<std::int64_t>& numbers) {
  std::string out;
  for (const std::int64_t number : numbers)
    out += (out.empty() ? "" : ",") + std::to_string(number);
  return out;
}

/// Of the elements in the order of memory.
std::string crc_of(const at::Tensor& tensor) {
  return std::to_string(torch_npy::detail::crc32_by_tables(0, tensor.data_ptr(), tensor.nbytes()));
}

const char* name_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::NotFound: return "NotFound";
    case ErrorCode::Io: return "Io";
    case ErrorCode::Exhausted: return "Exhausted";
    case ErrorCode::OutOfMemory: return "OutOfMemory";
    case ErrorCode::NotNpy: return "NotNpy";
    case ErrorCode::UnsupportedVersion: return "UnsupportedVersion";
    case ErrorCode::BadHeader: return "BadHeader";
    case ErrorCode::UnsupportedDtype: return "UnsupportedDtype";
    case ErrorCode::Truncated: return "Truncated";
    case ErrorCode::TooLarge: return "TooLarge";
    case ErrorCode::BadZip: return "BadZip";
    case ErrorCode::Mismatch: return "Mismatch";
    case ErrorCode::InvalidArgument: return "InvalidArgument";
    case ErrorCode::Transform: return "Transform";
  }
  return "?";
}

std::string line_of(const Error& error) {
  return std::string("error\t") + name_of(error.code()) + "\t" + error.what();
}

/// Options for the fields of records: what no tensor holds comes as its bytes, and unsigned
/// integers that this LibTorch does not have become doubles.
LoadOptions options_for_fields() {
  LoadOptions options;
  options.strings_as_codes(true).raw_bytes(true);
  if (!torch_npy::detail::scalar_type_of(*torch_npy::detail::parse_type_string("<u2"))) {
    options.unsigned_as(at::kDouble);
  }
  return options;
}

/// The same for whole arrays. Raw items whose size an element has become such elements, and long
/// doubles become doubles.
LoadOptions options_for(const DType& dtype) {
  LoadOptions options = options_for_fields();
  if (torch_npy::detail::is_long_double(dtype)) {
    options.dtype(dtype.kind == 'f' ? at::kDouble : at::kComplexDouble);
  }
  switch (dtype.kind == 'V' ? dtype.item_size : 0) {
    case 1: return options.void_as(at::kByte);
    case 2: return options.void_as(at::kShort);
    case 4: return options.void_as(at::kInt);
    case 8: return options.void_as(at::kLong);
    case 16: return options.void_as(at::kComplexDouble);
    default: return options;
  }
}

std::string line_of(const Header& header, const at::Tensor& tensor) {
  std::vector<std::int64_t> strides = tensor.strides().slice(0, header.shape.size()).vec();
  for (std::int64_t& stride : strides) stride *= static_cast<std::int64_t>(tensor.element_size());
  return "array\t" + hex(header.dtype.descr()) + "\t" + joined(header.shape) + "\t" +
         joined(strides) + "\t" + crc_of(tensor);
}

/// LibTorch changes any true bool that it copies to 1.
at::Tensor bits(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kBool ? tensor.view(at::kByte) : tensor;
}

std::string line_of(const Header& header,
                    const torch::OrderedDict<std::string, at::Tensor>& fields) {
  std::string line = "fields\t" + hex(header.dtype.descr()) + "\t" + joined(header.shape);
  for (const auto& field : fields) {
    line += "\t" + hex(field.key()) + ":" + joined(field.value().sizes().vec()) + ":" +
            crc_of(bits(field.value()).contiguous());
  }
  return line;
}

void require(bool holds, const char* what) {
  if (!holds) throw std::logic_error(what);
}

bool same(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() && a.strides() == b.strides() &&
         a.scalar_type() == b.scalar_type() && crc_of(a) == crc_of(b);
}

/// All fields of records. Each of them alone, and all of them in another order, must be the same.
template <class Load>
std::string line_of_fields(const Header& header, bool thoroughly, const Load& load) {
  const auto fields = load(nullptr);
  if (thoroughly) {
    std::vector<std::string> names = fields.keys();
    std::reverse(names.begin(), names.end());
    const auto reversed = load(&names);
    require(reversed.keys() == names, "fields are not in the order of their names");
    for (const auto& field : fields) {
      const at::Tensor& other = reversed[field.key()];
      require(crc_of(bits(other).contiguous()) == crc_of(bits(field.value()).contiguous()) &&
                  other.sizes() == field.value().sizes(),
              "a field that is named differs");
      const std::vector<std::string> one{field.key()};
      require(load(&one).size() == 1, "one name gives another number of fields");
    }
  }
  return line_of(header, fields);
}

/// A file in memory, with a path.
class MemoryFile {
 public:
  const std::filesystem::path& holding(const std::string& bytes) {
    require(::ftruncate(fd_, 0) == 0 &&
                ::pwrite(fd_, bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()),
            "cannot write to memory");
    return path_;
  }

 private:
  int fd_ = ::memfd_create("judge", 0);
  std::filesystem::path path_ = "/proc/self/fd/" + std::to_string(fd_);
};

/// All ways to load must give the same tensor or the same error.
std::string judge_array(const std::string& bytes, MemoryFile& memory, bool thoroughly) {
  LoadOptions options;
  Header header;
  try {
    header = parse_header(bytes.data(), bytes.size());
    if (header.dtype.is_structured()) {
      const auto& path = memory.holding(bytes);
      return line_of_fields(header, thoroughly, [&](const std::vector<std::string>* names) {
        return names != nullptr ? load_fields(path, *names, options_for_fields())
                                : load_fields(path, options_for_fields());
      });
    }
    options = options_for(header.dtype);
    const at::Tensor tensor = load_bytes(bytes.data(), bytes.size(), options);
    if (thoroughly) {
      const auto& path = memory.holding(bytes);
      require(same(tensor, load(path, options)), "load() and load_bytes() differ");
      require(same(tensor, load(path, LoadOptions(options).mmap(true))), "mmap(true) differs");
      std::istringstream stream(bytes);
      require(same(tensor, load(stream, options)), "a stream differs");
      const Header again = read_header(path);
      require(again.dtype == header.dtype && again.shape == header.shape, "read_header() differs");
    }
    return line_of(header, tensor);
  } catch (const Error& error) {
    if (thoroughly && !header.dtype.is_structured()) {
      const auto code = [&](const auto& call) {
        try {
          (void)call();
        } catch (const Error& other) {
          return other.code();
        }
        throw std::logic_error("one way throws, another does not");
      };
      const auto& path = memory.holding(bytes);
      std::istringstream stream(bytes);
      require(code([&] { return load(path, options); }) == error.code(),
              "a path throws another code");
      require(code([&] { return load(stream, options); }) == error.code(),
              "a stream throws another code");
    }
    return line_of(error);
  }
}

std::string judge_header(const std::string& bytes) {
  try {
    return "header\t" + hex(parse_header(bytes.data(), bytes.size()).dtype.descr());
  } catch (const Error& error) {
    return line_of(error);
  }
}

/// The arrays of an archive, or the Error of each, one a line.
std::string lines_of(const NpzFile& file, bool thoroughly) {
  std::string lines;
  for (const std::string& name : file.names()) {
    lines += "\n" + hex(name) + "\t";
    try {
      const Header header = file.header(name);
      if (header.dtype.is_structured()) {
        lines += line_of_fields(header, thoroughly, [&](const std::vector<std::string>* names) {
          return names != nullptr ? file.load_fields(name, *names, options_for_fields())
                                  : file.load_fields(name, options_for_fields());
        });
      } else {
        lines += line_of(header, file.load(name, options_for(header.dtype)));
      }
    } catch (const Error& error) {
      lines += line_of(error);
    }
  }
  return lines;
}

/// The same lines without paths.
std::string without_path(std::string lines, const std::string& path) {
  for (std::size_t at; (at = lines.find(path + ": ")) != lines.npos;)
    lines.erase(at, path.size() + 2);
  return lines;
}

/// An archive in memory and in a stream has the same arrays, and keeps them through an update.
void judge_other_ways(const std::string& bytes, const std::string& lines, const std::string& path) {
  const std::string want = without_path(lines, path);
  require(lines_of(NpzFile(bytes.data(), bytes.size()), false) == want, "memory differs");
  std::istringstream stream(bytes);
  require(lines_of(NpzFile(stream), false) == want, "a stream differs");

  const std::filesystem::path copy =
      "/dev/shm/torch_npy_judge_" + std::to_string(::getpid()) + ".npz";
  std::ofstream(copy, std::ios::binary) << bytes;
  try {
    const at::Tensor added = at::arange(7);
    update_npz(copy, {{"torch_npy added", added}}, {}, SaveNpzOptions().sync(false));
    require(same(NpzFile(copy).load("torch_npy added"), added), "an added array differs");
    update_npz(copy, torch::OrderedDict<std::string, at::Tensor>(), {"torch_npy added"},
               SaveNpzOptions().sync(false));
    // Offsets in messages are those of another file.
    if (lines.find("\terror\t") == lines.npos) {
      require(lines_of(NpzFile(copy), false) == want, "an update changed other arrays");
    }
  } catch (const Error& error) {
    // A member that contradicts the directory, which is not copied.
    require(error.code() == ErrorCode::BadZip, error.what());
  }
  std::filesystem::remove(copy);
}

std::string judge_archive(const std::string& bytes, MemoryFile& memory, bool thoroughly) {
  try {
    const auto& path = memory.holding(bytes);
    const std::string lines = lines_of(NpzFile(path), thoroughly);
    if (thoroughly) judge_other_ways(bytes, lines, path.string());
    return "archive" + lines + "\nend";
  } catch (const Error& error) {
    return line_of(error);
  }
}

/// A sparse matrix, as a dense array.
std::string judge_sparse(const std::string& bytes) {
  try {
    const at::Tensor dense =
        load_sparse(NpzFile(bytes.data(), bytes.size()), options_for_fields()).to_dense();
    const auto dtype = torch_npy::detail::dtype_of(dense.scalar_type());
    return "array\t" + hex(dtype.value().descr()) + "\t" + joined(dense.sizes().vec()) + "\t\t" +
           crc_of(bits(dense).contiguous());
  } catch (const Error& error) {
    return line_of(error);
  }
}

}  // namespace

int main() {
  MemoryFile memory;
  for (;;) {
    unsigned char frame[5];
    if (std::fread(frame, 1, sizeof frame, stdin) != sizeof frame) return 0;
    std::string bytes(frame[1] | frame[2] << 8 | frame[3] << 16 | std::size_t{frame[4]} << 24,
                      '\0');
    if (std::fread(bytes.data(), 1, bytes.size(), stdin) != bytes.size()) return 1;
    try {
      const char kind = static_cast<char>(frame[0]);
      std::cout << (kind == 'h'                  ? judge_header(bytes)
                    : kind == 's' || kind == 'S' ? judge_sparse(bytes)
                    : kind == 'z' || kind == 'Z' ? judge_archive(bytes, memory, kind == 'Z')
                                                 : judge_array(bytes, memory, kind == 'N'))
                << std::endl;
    } catch (const std::exception& error) {  // no Error of the library's
      std::cout << "fault\t" << error.what() << std::endl;
    }
  }
}
