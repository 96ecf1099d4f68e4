// Loads files with this library, so that compare.py can compare the results with those of NumPy.
// Reads files from standard input, each as a letter ('n' for .npy, 'N' to load it in every way, 'z'
// for .npz), its size in four bytes, little endian, and its bytes. Writes a line for each, with
// tabs between columns and text in hexadecimal.

#include <sys/mman.h>
#include <unistd.h>

#include <ATen/core/Tensor.h>

#include <torch_npy/tensor/fields.hpp>
#include <torch_npy/tensor/load.hpp>
#include <torch_npy/tensor/npz.hpp>

#include <cstdio>
#include <iostream>
#include <sstream>
#include <stdexcept>

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
    case ErrorCode::NotNpy: return "NotNpy";
    case ErrorCode::UnsupportedVersion: return "UnsupportedVersion";
    case ErrorCode::BadHeader: return "BadHeader";
    case ErrorCode::UnsupportedDtype: return "UnsupportedDtype";
    case ErrorCode::Truncated: return "Truncated";
    case ErrorCode::TooLarge: return "TooLarge";
    case ErrorCode::BadZip: return "BadZip";
    case ErrorCode::Mismatch: return "Mismatch";
    case ErrorCode::InvalidArgument: return "InvalidArgument";
  }
  return "?";
}

std::string line_of(const Error& error) {
  return std::string("error\t") + name_of(error.code()) + "\t" + error.what();
}

/// Options for any dtype whose bits a tensor can hold: raw bytes become elements of their size, and
/// unsigned integers that this LibTorch does not have become doubles.
LoadOptions options_for(const DType& dtype) {
  LoadOptions options;
  options.strings_as_codes(true);
  if (torch_npy::detail::is_wide_unsigned(dtype) && !torch_npy::detail::scalar_type_of(dtype))
    options.dtype(at::kDouble);
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
      return line_of(header, load_fields(memory.holding(bytes), options.strings_as_codes(true)));
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

std::string judge_archive(const std::string& bytes, MemoryFile& memory) {
  try {
    const NpzFile file(memory.holding(bytes));
    std::string line = "archive";
    for (const std::string& name : file.names()) {
      line += "\n" + hex(name) + "\t";
      try {
        const Header header = file.header(name);
        if (header.dtype.is_structured()) {
          line += line_of(header, file.load_fields(name, LoadOptions().strings_as_codes(true)));
        } else {
          line += line_of(header, file.load(name, options_for(header.dtype)));
        }
      } catch (const Error& error) {
        line += line_of(error);
      }
    }
    return line + "\nend";
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
      std::cout << (frame[0] == 'z' ? judge_archive(bytes, memory)
                                    : judge_array(bytes, memory, frame[0] == 'N'))
                << std::endl;
    } catch (const std::exception& error) {  // no Error of the library's
      std::cout << "fault\t" << error.what() << std::endl;
    }
  }
}
