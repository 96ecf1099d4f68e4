// The bare limit: the system calls, the memcpy and the checksums that the work takes, and nothing
// else. No LibTorch, and no look at headers, which all have the 128 bytes that np.save gives them.

#include <dirent.h>
#include <fcntl.h>
#include <libdeflate.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <random>
#include <thread>

#include "worker.hpp"

namespace {

using bench::Answer;
using bench::has;
using bench::number;
using bench::Words;

constexpr std::size_t kHeader = 128;
constexpr std::size_t kMiB = std::size_t{1} << 20;

template <class Result>
Result check(Result result, const char* call) {
  if (result < 0) throw std::runtime_error(std::string(call) + ": " + std::strerror(errno));
  return result;
}

int open_file(const std::string& path) { return check(::open(path.c_str(), O_RDONLY), "open"); }

std::size_t size_of(int fd) {
  struct stat status;
  check(::fstat(fd, &status), "fstat");
  return static_cast<std::size_t>(status.st_size);
}

void read_at(int fd, char* out, std::size_t size, std::size_t offset) {
  while (size != 0) {
    const ssize_t got = check(::pread(fd, out, size, static_cast<off_t>(offset)), "pread");
    if (got == 0) throw std::runtime_error("pread: the file ends");
    out += got;
    offset += static_cast<std::size_t>(got);
    size -= static_cast<std::size_t>(got);
  }
}

void in_threads(std::size_t count, const std::function<void(std::size_t)>& work) {
  std::vector<std::thread> others;
  for (std::size_t i = 1; i < count; ++i) others.emplace_back(work, i);
  work(0);
  for (std::thread& other : others) other.join();
}

/// Memory for one array. Up to 32 MiB malloc hands out again what has been in use; what is larger
/// is fresh each time, and best in huge pages.
class Memory {
 public:
  Memory() = default;
  explicit Memory(std::size_t bytes) : size_(bytes + 2 * kMiB) {
    if (bytes <= 32 * kMiB) {
      size_ = 0;
      base_ = std::malloc(bytes);
      data_ = static_cast<char*>(base_);
      return;
    }
    base_ = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base_ == MAP_FAILED) throw std::bad_alloc();
    const auto address = reinterpret_cast<std::uintptr_t>(base_);
    data_ = static_cast<char*>(base_) + (2 * kMiB - address % (2 * kMiB)) % (2 * kMiB);
    ::madvise(data_, bytes, MADV_HUGEPAGE);
  }
  Memory(Memory&& other) noexcept { *this = std::move(other); }
  Memory& operator=(Memory&& other) noexcept {
    std::swap(base_, other.base_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Memory() {
    if (size_ == 0) {
      std::free(base_);
    } else {
      ::munmap(base_, size_);
    }
  }

  char* data() const { return data_; }

 private:
  void* base_ = nullptr;
  char* data_ = nullptr;
  std::size_t size_ = 0;  // of the mapping; 0 for malloc's
};

void turn_round(char* data, std::size_t bytes) {
  for (std::size_t at = 0; at < bytes; at += 4) {
    std::uint32_t word;
    std::memcpy(&word, data + at, sizeof word);
    word = __builtin_bswap32(word);
    std::memcpy(data + at, &word, sizeof word);
  }
}

/// load FILE COUNT [swapped]: a small file into the same buffer each time, a large one by a thread
/// for each processor.
Answer load(const Words& words) {
  constexpr std::size_t kSmall = 16384;
  constexpr std::size_t kPiece = 4 * kMiB;  // whole huge pages: no two threads need the same one
  const bool swaps = has(words, 3, "swapped");
  const std::size_t block = swaps ? kMiB / 8 : kPiece;  // turned round while it is in the cache
  static char small[kSmall];
  const char* data = nullptr;
  std::size_t bytes = 0;
  Memory memory;
  const double time = bench::seconds(number(words.at(2)), [&] {
    memory = Memory();
    const int fd = open_file(words.at(1));
    const auto got = static_cast<std::size_t>(check(::read(fd, small, kSmall), "read"));
    if (got < kSmall) {
      bytes = got - kHeader;
      data = small + kHeader;
    } else {
      bytes = size_of(fd) - kHeader;
      memory = Memory(bytes);
      data = memory.data();
      std::atomic<std::size_t> next{0};
      const std::size_t threads =
          bytes < 8 * kMiB ? 1 : std::max(1U, std::thread::hardware_concurrency());
      in_threads(threads, [&](std::size_t) {
        for (std::size_t at; (at = next.fetch_add(kPiece)) < bytes;) {
          for (const std::size_t end = std::min(at + kPiece, bytes); at < end; at += block) {
            const std::size_t size = std::min(block, end - at);
            read_at(fd, memory.data() + at, size, kHeader + at);
            if (swaps) turn_round(memory.data() + at, size);
          }
        }
      });
    }
    ::close(fd);
  });
  return {time, bench::total(data, bytes)};
}

struct Mapping {
  void* base = nullptr;
  std::size_t size = 0;

  void open(const std::string& path) {
    const int fd = open_file(path);
    size = size_of(fd);
    base = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    if (base == MAP_FAILED) throw std::runtime_error("mmap");
    ::close(fd);
  }
  void close() {
    if (size != 0) ::munmap(base, size);
    size = 0;
  }
  const char* data() const { return static_cast<const char*>(base) + kHeader; }
  std::size_t bytes() const { return size - kHeader; }
};

/// map FILE COUNT: the mapping alone.
Answer map(const Words& words) {
  Mapping mapping;
  const double time = bench::seconds(number(words.at(2)), [&] {
    mapping.close();
    mapping.open(words.at(1));
  });
  const std::size_t bytes = mapping.bytes();
  mapping.close();
  return {time, bytes};
}

/// read_map FILE: the mapping, and then every element.
Answer read_map(const Words& words) {
  Mapping mapping;
  std::uint64_t sum = 0;
  const double time = bench::seconds(1, [&] {
    mapping.open(words.at(1));
    sum = bench::total(mapping.data(), mapping.bytes());
  });
  mapping.close();
  return {time, sum};
}

std::vector<std::size_t> shuffled(std::size_t count) {
  static std::mt19937_64 random(0);
  std::vector<std::size_t> order(count);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::shuffle(order.begin(), order.end(), random);
  return order;
}

/// The files of a folder, listed once, and memory for the batches of each thread.
struct Folder {
  int descriptor = -1;
  std::vector<std::string> names;
  std::size_t bytes = 0;  // of the data in each
  std::vector<std::vector<char>> buffers;

  void open(const std::string& path) {
    descriptor = check(::open(path.c_str(), O_RDONLY | O_DIRECTORY), "open");
    DIR* const stream = ::opendir(path.c_str());
    while (const dirent* const entry = ::readdir(stream)) {
      if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
    }
    ::closedir(stream);
    const int fd = open_file(path + '/' + names.at(0));
    bytes = size_of(fd) - kHeader;
    ::close(fd);
  }

  void read(std::size_t index, char* out) const {
    char header[kHeader];
    const iovec parts[] = {{header, kHeader}, {out, bytes}};
    const int fd = check(::openat(descriptor, names[index].c_str(), O_RDONLY), "openat");
    const ssize_t got = check(::preadv(fd, parts, 2, 0), "preadv");
    if (got != static_cast<ssize_t>(kHeader + bytes)) throw std::runtime_error("preadv: too few");
    ::close(fd);
  }
};

/// epoch FOLDER BATCH THREADS [sum]: every file once, shuffled; batches in memory that is used
/// again.
Answer epoch(const Words& words) {
  static std::map<std::string, Folder> folders;
  const std::size_t batch = number(words.at(2)), threads = number(words.at(3));
  const bool sums = has(words, 4, "sum");
  Folder& folder = folders[words.at(1)];
  if (folder.names.empty()) folder.open(words.at(1));
  folder.buffers.resize(threads);
  for (std::vector<char>& buffer : folder.buffers) buffer.resize(batch * folder.bytes);
  const std::vector<std::size_t> order = shuffled(folder.names.size());

  std::atomic<std::size_t> next{0};
  std::atomic<std::uint64_t> sum{0};
  const double time = bench::seconds(1, [&] {
    in_threads(threads, [&](std::size_t thread) {
      char* const buffer = folder.buffers[thread].data();
      for (std::size_t first; (first = next.fetch_add(batch)) < order.size();) {
        const std::size_t count = std::min(batch, order.size() - first);
        for (std::size_t i = 0; i < count; ++i) {
          folder.read(order[first + i], buffer + i * folder.bytes);
        }
        sum += sums ? bench::total(buffer, count * folder.bytes) : count;
      }
    });
  });
  return {time, sum};
}

/// rows FILE BATCH THREADS [sum]: every row of 4 KiB of a mapped array once, shuffled, copied into
/// batches.
Answer rows(const Words& words) {
  constexpr std::size_t kRow = 4096;
  static std::map<std::string, Mapping> mappings;
  const std::size_t batch = number(words.at(2)), threads = number(words.at(3));
  const bool sums = has(words, 4, "sum");
  Mapping& mapping = mappings[words.at(1)];
  if (mapping.size == 0) mapping.open(words.at(1));
  const std::vector<std::size_t> order = shuffled(mapping.bytes() / kRow);
  std::vector<std::vector<char>> buffers(threads, std::vector<char>(batch * kRow));

  std::atomic<std::size_t> next{0};
  std::atomic<std::uint64_t> sum{0};
  const double time = bench::seconds(1, [&] {
    in_threads(threads, [&](std::size_t thread) {
      char* const buffer = buffers[thread].data();
      for (std::size_t first; (first = next.fetch_add(batch)) < order.size();) {
        const std::size_t count = std::min(batch, order.size() - first);
        for (std::size_t i = 0; i < count; ++i) {
          std::memcpy(buffer + i * kRow, mapping.data() + order[first + i] * kRow, kRow);
        }
        sum += sums ? bench::total(buffer, count * kRow) : count;
      }
    });
  });
  return {time, sum};
}

/// Does batches of `order` in some threads: work(first, last, out) fills `out`, which is used again
/// by each thread. Returns seconds.
double in_batches(const std::vector<std::size_t>& order, std::size_t batch, std::size_t threads,
                  std::size_t bytes,
                  const std::function<void(const std::size_t*, const std::size_t*, char*)>& work) {
  static std::map<std::size_t, std::vector<char>> buffers;
  for (std::size_t i = 0; i < threads; ++i) buffers[i].resize(batch * bytes);
  std::atomic<std::size_t> next{0};
  return bench::seconds(1, [&] {
    in_threads(threads, [&](std::size_t thread) {
      char* const out = buffers.at(thread).data();
      for (std::size_t first; (first = next.fetch_add(batch)) < order.size();) {
        const std::size_t last = std::min(first + batch, order.size());
        work(order.data() + first, order.data() + last, out);
      }
    });
  });
}

/// Every file of a folder, mapped once.
std::vector<Mapping>& mappings_of(const std::string& folder) {
  static std::map<std::string, std::vector<Mapping>> all;
  std::vector<Mapping>& mappings = all[folder];
  if (!mappings.empty()) return mappings;
  Folder files;
  files.open(folder);
  std::sort(files.names.begin(), files.names.end());
  for (const std::string& name : files.names) {
    mappings.emplace_back();
    mappings.back().open(folder + '/' + name);
  }
  return mappings;
}

/// whole FOLDER BATCH THREADS BEGIN SIZE [sum]: every file of a folder read whole, shuffled; the
/// sum is that of SIZE bytes from BEGIN on.
Answer whole(const Words& words) {
  static std::map<std::string, Folder> folders;
  Folder& folder = folders[words.at(1)];
  if (folder.names.empty()) folder.open(words.at(1));
  const std::size_t begin = number(words.at(4)), size = number(words.at(5));
  const std::size_t bytes = folder.bytes + kHeader;
  const bool sums = has(words, 6, "sum");
  std::atomic<std::uint64_t> sum{0};
  const double time =
      in_batches(shuffled(folder.names.size()), number(words.at(2)), number(words.at(3)), bytes,
                 [&](const std::size_t* first, const std::size_t* last, char* out) {
                   for (const std::size_t* i = first; i != last; ++i) {
                     const int fd = check(
                         ::openat(folder.descriptor, folder.names[*i].c_str(), O_RDONLY), "openat");
                     check(::read(fd, out, bytes), "read");
                     ::close(fd);
                     sum += sums ? bench::total(out + begin, size) : 1;
                   }
                 });
  return {time, sum};
}

/// windows FOLDER LENGTH BATCH THREADS [sum]: windows of LENGTH + 1 tokens of 16 bits, LENGTH
/// apart, widened to pairs of 64 bits: all but the last one, and all but the first one.
Answer windows(const Words& words) {
  const std::vector<Mapping>& shards = mappings_of(words.at(1));
  const std::size_t length = number(words.at(2));
  const bool sums = has(words, 5, "sum");
  std::vector<const std::uint16_t*> starts;
  for (const Mapping& shard : shards) {
    const auto* const tokens = reinterpret_cast<const std::uint16_t*>(shard.data());
    for (std::size_t at = 0; at + length + 1 <= shard.bytes() / 2; at += length) {
      starts.push_back(tokens + at);
    }
  }
  std::atomic<std::uint64_t> sum{0};
  const std::size_t row = length * sizeof(std::int64_t);
  const double time = in_batches(
      shuffled(starts.size()), number(words.at(3)), number(words.at(4)), 2 * row,
      [&](const std::size_t* first, const std::size_t* last, char* out) {
        auto* data = reinterpret_cast<std::int64_t*>(out);
        std::int64_t* target = data + static_cast<std::size_t>(last - first) * length;
        for (const std::size_t* i = first; i != last; ++i, data += length, target += length) {
          std::copy_n(starts[*i], length, data);
          std::copy_n(starts[*i] + 1, length, target);
        }
        const auto count = static_cast<std::size_t>(last - first);
        sum += sums ? bench::total(out, count * row) : count;
      });
  return {time, sum};
}

/// patches FOLDER DEPTH HEIGHT WIDTH EDGE BATCH THREADS: a cube of EDGE x EDGE x EDGE from each
/// volume of numbers of 16 bits, at a random position, copied row by row.
Answer patches(const Words& words) {
  const std::vector<Mapping>& volumes = mappings_of(words.at(1));
  const std::size_t depth = number(words.at(2)), height = number(words.at(3)),
                    width = number(words.at(4)), edge = number(words.at(5));
  const std::size_t row = 2 * edge, cube = row * edge * edge;
  std::atomic<std::uint64_t> count{0};
  static std::atomic<unsigned> seed{0};
  const double time = in_batches(
      shuffled(volumes.size()), number(words.at(6)), number(words.at(7)), cube,
      [&](const std::size_t* first, const std::size_t* last, char* out) {
        std::minstd_rand random(++seed);
        for (const std::size_t* i = first; i != last; ++i) {
          const std::size_t z = random() % (depth - edge + 1), y = random() % (height - edge + 1),
                            x = random() % (width - edge + 1);
          for (std::size_t a = 0; a < edge; ++a) {
            for (std::size_t b = 0; b < edge; ++b, out += row) {
              const std::size_t at = ((z + a) * height + y + b) * width + x;
              std::memcpy(out, volumes[*i].data() + 2 * at, row);
            }
          }
          ++count;
        }
      });
  return {time, count};
}

/// unpack FILE (BEGIN SIZE CRC PACKED)...: deflated members of an archive, by a thread for each
/// processor, and their checksums.
Answer unpack(const Words& words) {
  const std::size_t count = (words.size() - 2) / 4;
  std::vector<Memory> members(count);
  std::atomic<std::size_t> next{0};
  std::atomic<bool> damaged{false};
  const auto value = [&](std::size_t i, std::size_t of) { return number(words[2 + 4 * i + of]); };
  const double time = bench::seconds(1, [&] {
    const int fd = open_file(words.at(1));
    in_threads(std::max(1U, std::thread::hardware_concurrency()), [&](std::size_t) {
      libdeflate_decompressor* const decompressor = ::libdeflate_alloc_decompressor();
      for (std::size_t i; (i = next.fetch_add(1)) < count;) {
        const std::size_t size = value(i, 1), packed = value(i, 3);
        const Memory in(packed);
        members[i] = Memory(size);
        read_at(fd, in.data(), packed, value(i, 0));
        if (::libdeflate_deflate_decompress(decompressor, in.data(), packed, members[i].data(),
                                            size, nullptr) != LIBDEFLATE_SUCCESS ||
            ::libdeflate_crc32(0, members[i].data(), size) != value(i, 2)) {
          damaged = true;
        }
      }
      ::libdeflate_free_decompressor(decompressor);
    });
    ::close(fd);
  });
  if (damaged) throw std::runtime_error("an archive is damaged");
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < count; ++i) {
    sum += bench::total(members[i].data() + kHeader, value(i, 1) - kHeader);
  }
  return {time, sum};
}

/// npz FILE (BEGIN SIZE CRC)...: stored members of an archive, by a thread for each processor, and
/// their checksums.
Answer load_archive(const Words& words) {
  constexpr std::size_t kPiece = kMiB / 8;  // summed up while it is in the cache
  const std::size_t count = (words.size() - 2) / 3;
  std::vector<Memory> members(count);
  std::atomic<std::size_t> next{0};
  std::atomic<bool> damaged{false};
  const auto value = [&](std::size_t i, std::size_t of) { return number(words[2 + 3 * i + of]); };
  const double time = bench::seconds(1, [&] {
    const int fd = open_file(words.at(1));
    in_threads(std::max(1U, std::thread::hardware_concurrency()), [&](std::size_t) {
      for (std::size_t i; (i = next.fetch_add(1)) < count;) {
        const std::size_t size = value(i, 1);
        members[i] = Memory(size);
        std::uint32_t crc = 0;
        for (std::size_t at = 0; at < size; at += kPiece) {
          const std::size_t piece = std::min(kPiece, size - at);
          read_at(fd, members[i].data() + at, piece, value(i, 0) + at);
          crc = ::libdeflate_crc32(crc, members[i].data() + at, piece);
        }
        if (crc != value(i, 2)) damaged = true;
      }
    });
    ::close(fd);
  });
  if (damaged) throw std::runtime_error("a checksum is wrong");
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < count; ++i) {
    sum += bench::total(members[i].data() + kHeader, value(i, 1) - kHeader);
  }
  return {time, sum};
}

/// save FROM TO: the bytes of one file written to another, and flushed to the disk.
Answer save(const Words& words) {
  static std::map<std::string, Memory> contents;
  static std::size_t size = 0;
  Memory& content = contents[words.at(1)];
  if (content.data() == nullptr) {
    const int fd = open_file(words.at(1));
    size = size_of(fd);
    content = Memory(size);
    read_at(fd, content.data(), size, 0);
    ::close(fd);
  }
  bench::remove_file(words.at(2));
  const double time = bench::seconds(1, [&] {
    const int fd = check(::open(words.at(2).c_str(), O_WRONLY | O_CREAT, 0666), "open");
    ::fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(size));
    for (std::size_t done = 0; done < size;) {
      const ssize_t put =
          check(::write(fd, content.data() + done, std::min(size - done, 16 * kMiB)), "write");
      // The disk has something to do from here on, and not only when all is written.
      ::sync_file_range(fd, static_cast<off_t>(done), put, SYNC_FILE_RANGE_WRITE);
      done += static_cast<std::size_t>(put);
    }
    check(::fsync(fd), "fsync");
    check(::close(fd), "close");
  });
  return {time, size};
}

/// list FOLDER: readdir alone, which neither keeps the names nor sorts them.
Answer list(const Words& words) {
  std::uint64_t count = 0;
  const double time = bench::seconds(1, [&] {
    DIR* const stream = ::opendir(words.at(1).c_str());
    if (stream == nullptr) throw std::runtime_error("opendir");
    while (const dirent* const entry = ::readdir(stream)) count += entry->d_name[0] != '.';
    ::closedir(stream);
  });
  return {time, count};
}

/// append FROM TO COUNT BUFFER: the rows of one file again and again, by fwrite with a buffer of so
/// many bytes, or with its own (0).
Answer append(const Words& words) {
  constexpr std::size_t kRow = 1024;
  const int source = open_file(words.at(1));
  const std::size_t size = size_of(source);
  std::vector<char> content(size);
  read_at(source, content.data(), size, 0);
  ::close(source);
  const std::size_t rows = (size - kHeader) / kRow, count = number(words.at(3));
  bench::remove_file(words.at(2));
  const double time = bench::seconds(1, [&] {
    std::FILE* const file = std::fopen(words.at(2).c_str(), "wb");
    if (file == nullptr) throw std::runtime_error("fopen");
    std::vector<char> buffer(number(words.at(4)));  // glibc takes no notice of a size alone
    if (!buffer.empty()) std::setvbuf(file, buffer.data(), _IOFBF, buffer.size());
    std::fwrite(content.data(), 1, kHeader, file);
    for (std::size_t i = 0; i < count; ++i) {
      std::fwrite(content.data() + kHeader + i % rows * kRow, 1, kRow, file);
    }
    if (std::fclose(file) != 0) throw std::runtime_error("fclose");
  });
  const int result = open_file(words.at(2));
  const std::size_t written = size_of(result);
  ::close(result);
  return {time, written};
}

}  // namespace

int main() {
  return bench::serve({{"load", load},
                       {"map", map},
                       {"read_map", read_map},
                       {"epoch", epoch},
                       {"rows", rows},
                       {"whole", whole},
                       {"windows", windows},
                       {"patches", patches},
                       {"unpack", unpack},
                       {"npz", load_archive},
                       {"save", save},
                       {"list", list},
                       {"append", append}});
}
