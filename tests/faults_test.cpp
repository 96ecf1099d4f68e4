// Every system call that the library makes fails, in every way that it can, at every place where it
// is made; and every allocation. What is then owed: the right Error or the right result; no
// descriptor, mapping or temporary file left; the old file whole, or the new one.

#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <torch/data.h>

#include <torch_npy.hpp>

#include <fstream>
#include <functional>
#include <iostream>
#include <optional>
#include <set>
#include <sstream>
#include <thread>

#include "bad_input.hpp"
#include "catch.hpp"
#include "faults.hpp"
#include "files.hpp"
#include "zip_bytes.hpp"

using namespace torch_npy;

namespace {

std::ptrdiff_t open_files() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
}

/// Mappings of files in the folder.
std::ptrdiff_t mappings_of(const Folder& folder) {
  std::ifstream maps("/proc/self/maps");
  std::ptrdiff_t count = 0;
  for (std::string line; std::getline(maps, line);) {
    count += line.find(folder.path().string()) != line.npos;
  }
  return count;
}

/// A way to fail, and what it may lead to: success, or an Error of this code.
struct Kind {
  const char* name;
  unsigned calls;  ///< that can fail so
  Fault fault;
  std::optional<ErrorCode> code;  ///< none: it has to succeed all the same
};

const Kind kKinds[] = {
    {"EINTR",
     kOpen | kRead | kWrite | kSync | kClose | kLock | kTruncate,
     {Fault::Fails, EINTR},
     {}},
    {"a short read or write", kRead | kWrite, {Fault::Short}, {}},
    {"EIO",
     kOpen | kClose | kStat | kRead | kWrite | kMap | kTruncate | kSync | kRename | kReadLink |
         kListFolder,
     {Fault::Fails, EIO},
     ErrorCode::Io},
    {"EACCES", kOpen | kStat | kMap | kRename | kReadLink, {Fault::Fails, EACCES}, ErrorCode::Io},
    {"ENOSPC", kOpen | kWrite | kClose | kSync | kRename, {Fault::Fails, ENOSPC}, ErrorCode::Io},
    {"EMFILE", kOpen, {Fault::Fails, EMFILE}, ErrorCode::Exhausted},
    {"ENOMEM",
     kOpen | kStat | kMap | kRename | kListFolder,
     {Fault::Fails, ENOMEM},
     ErrorCode::Exhausted},
    {"a file that ends earlier than it said", kRead, {Fault::AtEnd}, ErrorCode::Truncated},
    // Help that can be done without.
    {"EPERM", kLink | kChmod, {Fault::Fails, EPERM}, {}},
    {"ENOLCK", kLock, {Fault::Fails, ENOLCK}, {}},
    {"EAGAIN", kThread, {Fault::Fails, EAGAIN}, {}},
};

/// Something that the library does, again and again.
struct Work {
  const char* name;
  std::function<void()> prepare;  ///< before each time, with nothing failing
  std::function<void()> run;      ///< throws where its result is wrong
  std::function<void(bool done)> check =
      {};  ///< afterwards: what has to hold, whether run() threw or not
};

std::size_t injected = 0;

void inject(const Work& work, const Folder& folder) {
  work.prepare();
  work.run();  // what is made once in a process is made here
  const auto files = open_files();
  const auto mappings = mappings_of(folder);
  for (const Kind& kind : kKinds) {
    for (std::size_t index = 0;; ++index) {
      INFO(work.name << ", call " << index << ": " << kind.name);
      work.prepare();
      std::string thrown;
      bool is_right = true;
      bool happened;
      {
        const FaultInjection injection(kind.calls, kind.fault, index);
        try {
          work.run();
        } catch (const Error& error) {
          thrown = error.what();
          is_right = kind.code && error.code() == *kind.code && !error.path().empty();
        } catch (const std::exception& error) {
          thrown = std::string("no Error: ") + error.what();
          is_right = false;
        }
        happened = injection.happened();
      }
      INFO("thrown: " << thrown);
      CHECK(is_right);
      if (work.check) work.check(thrown.empty());
      CHECK(open_files() == files);
      CHECK(mappings_of(folder) == mappings);
      if (!happened) break;
      ++injected;
    }
  }
}

void require(bool holds, const char* what) {
  if (!holds) throw std::logic_error(what);
}

const auto kQuick = SaveOptions().sync(false);

at::Tensor floats(at::IntArrayRef sizes) {
  std::int64_t count = 1;
  for (const std::int64_t size : sizes) count *= size;
  return at::arange(count, at::kFloat).view(sizes);
}

}  // namespace

namespace {

/// Runs `work` in a process of its own, which may give up rights and mount what goes with it, and
/// gives what that wrote; "skipped" where it has no right to.
std::string in_child(const std::function<void(std::ostream&)>& work) {
  int ends[2];
  if (::pipe(ends) != 0) throw std::runtime_error("pipe");
  const pid_t child = ::fork();
  if (child == 0) {
    std::ostringstream out;
    try {
      work(out);
    } catch (const std::exception& error) {
      out << "thrown: " << error.what();
    }
    const std::string text = out.str();
    ::_exit(::write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size()) ? 0
                                                                                            : 1);
  }
  ::close(ends[1]);
  std::string text;
  char some[256];
  for (ssize_t got; (got = ::read(ends[0], some, sizeof some)) > 0;)
    text.append(some, static_cast<std::size_t>(got));
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  return status == 0 ? text : "the process died";
}

template <class Work>
std::string words_of(const Work& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing thrown";
}

}  // namespace

TEST_CASE("reading, with every system call failing in turn", "[faults]") {
  const Folder folder;
  const at::Tensor small = floats({30, 100});
  const at::Tensor large = floats({300, 10000});  // by two threads, or more
  save(folder / "small.npy", small, kQuick);
  save(folder / "large.npy", large, kQuick);
  save(folder / "fortran.npy", floats({100, 300}).t(), kQuick);
  save_npz(folder / "a.npz", {{"a", small}, {"b", large}}, SaveNpzOptions().sync(false));
  write_bytes(folder / "fields.npy",
              npy(header_text("[('a', '<f4'), ('b', '>i2')]", "(5000,)"), std::string(30000, 'x')));
  const std::string deflated =
      has_deflate() ? zip({ZipPart::packed("a.npy", read_bytes(folder / "small.npy"))}) : "";
  write_bytes(folder / "deflated.npz", deflated);
  std::filesystem::create_directories(folder / "set" / "deep");
  for (const char* name : {"set/a.npy", "set/b.npy", "set/deep/c.npy"})
    save(folder / name, small, kQuick);
  std::filesystem::create_directory(folder / "twins");
  for (const char* name : {"twins/a.npy", "twins/b.npy"}) save(folder / name, small, kQuick);

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
      {"map", nothing, [&] { same(load(folder / "large.npy", LoadOptions().mmap(true)), large); }},
      {"load_into", nothing, [&] { load_into(out, folder / "small.npy"), same(out, small); }},
      {"load_all", nothing,
       [&] {
         for (const at::Tensor& tensor :
              load_all({folder / "small.npy", folder / "set/a.npy"}, LoadOptions().threads(2)))
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
      {"map an array of an archive", nothing,
       [&] { same(NpzFile(folder / "a.npz").load("b", LoadOptions().mmap(true)), large); }},
      {"ArrayDataset", nothing,
       [&] {
         same(ArrayDataset(folder / "small.npy", folder / "small.npy")
                  .stacked()
                  .get_batch({3, 1})
                  .data[0],
              small[3]);
       }},
      {"FolderDataset", nothing,
       [&] {
         const FolderDataset set(folder / "set", FolderOptions().recursive(true));
         require(set.size().value() == 3, "other files");
         same(FolderDataset(set).stacked().get_batch({0, 2}).data[1], small);
       }},
      {"PairedFolderDataset", nothing,
       [&] {
         same(PairedFolderDataset(folder / "twins", folder / "twins")
                  .stacked()
                  .get_batch({0, 1})
                  .target[1],
              small);
       }},
      {"ClassFolderDataset", nothing,
       [&] { require(ClassFolderDataset(folder / "set").classes().size() == 1, "other classes"); }},
  };
  if (has_deflate()) {
    works.push_back({"load a deflated array", nothing,
                     [&] { same(load_npz(folder / "deflated.npz")["a"], small); }});
  }
  for (const Work& work : works) inject(work, folder);
  std::cout << injected << " faults injected into reading\n";
}

TEST_CASE("writing, with every system call failing in turn", "[faults]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  const auto link = folder / "link.npy";
  std::filesystem::create_symlink("a.npy", link);
  const at::Tensor before = floats({10});
  const at::Tensor after = floats({600, 1000});
  save(folder / "old", before, kQuick);
  save(folder / "new", after, kQuick);
  save_npz(folder / "new.npz", {{"a", after}, {"b", before}});
  const std::string old_bytes = read_bytes(folder / "old");
  const std::string new_bytes = read_bytes(folder / "new");
  const std::string npz_bytes = read_bytes(folder / "new.npz");
  const std::size_t files = folder.count();

  const auto restore = [&] {
    std::filesystem::remove(path);
    write_bytes(path, old_bytes);
    std::filesystem::permissions(path, std::filesystem::perms(0600));
  };
  const auto check = [&](const std::string& want_new, bool done) {
    const std::string found = read_bytes(path);
    CHECK((found == (done ? want_new : old_bytes)));
    CHECK((std::filesystem::status(path).permissions() & std::filesystem::perms(077)) ==
          std::filesystem::perms::none);
    CHECK(std::filesystem::is_symlink(link));
    CHECK(folder.count() == files + 1);
  };
  const auto check_npy = [&](bool done) { check(new_bytes, done); };
  const auto check_npz = [&](bool done) { check(npz_bytes, done); };
  const auto check_new = [&](bool done) {
    CHECK(std::filesystem::exists(path) == done);
    if (done) CHECK((read_bytes(path) == new_bytes));
    CHECK(folder.count() == files + done);
  };
  inject({"save", restore, [&] { save(path, after); }, check_npy}, folder);
  inject({"save through a link", restore, [&] { save(link, after); }, check_npy}, folder);
  inject({"save a new file", [&] { std::filesystem::remove(path); }, [&] { save(path, after); },
          check_new},
         folder);
  inject({"save_npz", restore,
          [&] {
            save_npz(path, {{"a", after}, {"b", before}});
          },
          check_npz},
         folder);
  std::cout << injected << " faults injected so far\n";
}

TEST_CASE("appending, with every system call failing in turn", "[faults]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  const at::Tensor rows = floats({1000, 500});
  const std::size_t files = folder.count();
  // Whatever fails: the rows of the last flush() that ended are there, and what is there is a
  // beginning of all.
  std::int64_t flushed = 0;
  const auto check = [&](bool done) {
    CHECK(folder.count() <= files + 1);
    if (!std::filesystem::exists(path)) {
      CHECK_FALSE(done);
      CHECK(flushed == 0);
      return;
    }
    const at::Tensor got = load(path);
    CHECK(got.size(0) >= flushed);
    CHECK(at::equal(got, rows.narrow(0, 0, got.size(0))));
    if (done) CHECK(got.size(0) == 1000);
  };
  const auto run = [&](bool sync) {
    Appender appender(path, {500}, at::kFloat, SaveOptions().sync(sync));
    const std::int64_t begin = appender.rows();
    appender.append(rows.narrow(0, begin, 10));
    appender.flush();
    flushed = begin + 10;
    appender.append(rows.narrow(0, begin + 10, 990 - begin));
    appender.close();
    flushed = 1000;
  };
  const auto none = [&] { std::filesystem::remove(path), flushed = 0; };
  const auto some = [&] {
    std::filesystem::remove(path), save(path, rows.narrow(0, 0, 5), kQuick), flushed = 5;
  };
  inject({"make a file and append", none, [&] { run(true); }, check}, folder);
  inject({"append to a file", some, [&] { run(false); }, check}, folder);
  std::cout << injected << " faults injected so far\n";

  // What failed once, the disk being full for a while, can be tried again; all but a failed sync.
  for (std::size_t index = 0;; ++index) {
    some();
    Appender appender(path, kQuick);
    bool happened = false;
    bool threw = false;
    std::int64_t appended = 5;
    {
      const FaultInjection injection(kWrite | kTruncate, {Fault::Fails, ENOSPC}, index);
      try {
        appender.append(rows.narrow(0, 5, 800));
        appended += 800;
        appender.flush();
      } catch (const Error&) {
        threw = true;
      }
      happened = injection.happened();
    }
    INFO("call " << index << (threw ? " threw" : ""));
    CHECK(appender.rows() == appended);
    appender.append(rows.narrow(0, appended, 1000 - appended));
    appender.close();
    CHECK(at::equal(load(path), rows));
    if (!happened) break;
  }
}

TEST_CASE("what is to survive a power cut is flushed before it counts", "[faults]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  const auto calls_of = [](const auto& work) {
    record_calls(kWrite | kSync | kRename);
    work();
    std::string order;
    for (const MadeCall& made : recorded_calls()) {
      order += made.call == kWrite ? 'w' : made.call == kRename ? 'r' : made.is_folder ? 'f' : 's';
    }
    return order;
  };
  // Written, flushed, renamed, and then the folder is flushed.
  const at::Tensor rows = floats({20, 10});
  CHECK(calls_of([&] { save(path, rows); }) == "wwsrf");
  CHECK(calls_of([&] { save(path, rows, kQuick); }) == "wwr");
  const std::string npz = calls_of([&] { save_npz(folder / "a.npz", {{"a", rows}}); });
  CHECK(npz.substr(npz.find_last_of('w')) == "wsrf");
  // Rows, flushed, and then the header that counts them, flushed.
  Appender appender(path);
  appender.append(rows);
  CHECK(calls_of([&] { appender.flush(); }) == "wsws");
  // A failure to flush is told once by the system, and for ever by the Appender.
  appender.append(rows);
  {
    const FaultInjection injection(kSync, {Fault::Fails, EIO}, 0);
    CHECK_THROWS_AS(appender.flush(), Error);
  }
  CHECK_THROWS_AS(appender.flush(), Error);
  CHECK(load(path).size(0) == 40);

  // No moment in which others may read what replaces a file, and no program that is started has it
  // open.
  std::filesystem::permissions(path, std::filesystem::perms(0600));
  record_calls(kOpen);
  save(path, rows);
  for (const MadeCall& made : recorded_calls()) {
    CHECK(made.is_private);
    CHECK((made.mode & 077) == 0);
  }
  record_calls(kOpen);
  (void)load(path);
  Appender(path, kQuick).append(rows);
  (void)FolderDataset(folder.path());
  for (const MadeCall& made : recorded_calls()) CHECK(made.is_private);
}

TEST_CASE("links that lead nowhere by name, and access control lists", "[faults]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  // A file that has no name any more, through the link that /proc has to it.
  save(path, floats({3}), kQuick);
  const int fd = ::open(path.c_str(), O_RDWR);
  std::filesystem::remove(path);
  const auto link = "/proc/self/fd/" + std::to_string(fd);
  CHECK_THAT(words_of([&] { save(link, floats({4})); }), says("an open file that has no name"));
  ::close(fd);
  CHECK(folder.count() == 0);

  // A list that lets user 1001 read, and not the group, though the mode says 0640: a set of entries
  // in the form of Linux's posix_acl_xattr, (tag, permissions, id).
  save(path, floats({3}), kQuick);
  const std::string list = little(2, 4) + little(1, 2) + little(6, 2) + little(0xffffffff, 4) +
                           little(2, 2) + little(4, 2) + little(1001, 4) + little(4, 2) +
                           little(0, 2) + little(0xffffffff, 4) + little(16, 2) + little(4, 2) +
                           little(0xffffffff, 4) + little(32, 2) + little(0, 2) +
                           little(0xffffffff, 4);
  if (::setxattr(path.c_str(), "system.posix_acl_access", list.data(), list.size(), 0) != 0) {
    WARN("skipped: a file system without access control lists");
    return;
  }
  struct stat status;
  REQUIRE(::stat(path.c_str(), &status) == 0);
  REQUIRE((status.st_mode & 0777) == 0640);
  save(path, floats({4}), kQuick);
  REQUIRE(::stat(path.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0600);
  // One that new files have from their folder.
  REQUIRE(::setxattr(folder.path().c_str(), "system.posix_acl_default", list.data(), list.size(),
                     0) == 0);
  std::filesystem::permissions(path, std::filesystem::perms(0640));
  save(path, floats({5}), kQuick);
  CHECK(::getxattr(path.c_str(), "system.posix_acl_access", nullptr, 0) == -1);
  REQUIRE(::stat(path.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0640);
}

TEST_CASE("a fork does not keep a file locked that was closed", "[faults]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  Appender appender(path, {2}, at::kFloat, kQuick);
  const pid_t child = ::fork();
  if (child == 0) {
    for (;;) ::pause();
  }
  appender.close();
  CHECK(words_of([&] { Appender again(path, kQuick); }) == "nothing thrown");
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
}

TEST_CASE("a stream that fails is an Error", "[faults]") {
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

TEST_CASE("10,000 loads that fail leave no memory, descriptor or mapping", "[faults]") {
  const Folder folder;
  std::vector<std::filesystem::path> paths;
  std::vector<std::string> contents;
  for (const BadInput& bad : bad_inputs()) {
    contents.push_back(bad.bytes);
    paths.push_back(write_bytes(folder / (std::to_string(paths.size()) + ".npy"), bad.bytes));
  }
  std::size_t failed = 0;
  const auto fails = [&](const auto& call) {
    try {
      (void)call();
    } catch (const Error&) {
      ++failed;
    }
  };
  const auto fail_all = [&] {
    for (std::size_t i = 0; i < paths.size(); ++i) {
      fails([&] { return load(paths[i]); });
      fails([&] { return load(paths[i], LoadOptions().mmap(true)); });
      fails([&] { return load_bytes(contents[i].data(), contents[i].size()); });
      fails([&] { return load_fields(paths[i], LoadOptions().rows(0, 1).dtype(at::kFloat)); });
      fails([&] { return load_npz(paths[i]); });
    }
  };
  fail_all();  // what is made once in a process is made here
  const auto live = live_allocations.load();
  const auto files = open_files();
  for (failed = 0; failed < 10000;) fail_all();
  CHECK(live_allocations == live);
  CHECK(open_files() == files);
  CHECK(mappings_of(folder) == 0);
}

TEST_CASE("a mapping goes with the last tensor on it", "[faults]") {
  const Folder folder;
  const at::Tensor tensor = floats({300, 1000});
  save(folder / "a.npy", tensor, kQuick);
  save_npz(folder / "a.npz", {{"a", tensor}});
  for (const bool archive : {false, true}) {
    const auto mmap = LoadOptions().mmap(true);
    at::Tensor whole =
        archive ? NpzFile(folder / "a.npz").load("a", mmap) : load(folder / "a.npy", mmap);
    at::Tensor row = whole[7];
    at::Tensor turned = whole.t().narrow(0, 1, 5);
    std::thread([tensor = std::move(whole)] { (void)tensor.sum(); }).join();
    CHECK(mappings_of(folder) == 1);
    row = at::Tensor();
    CHECK(mappings_of(folder) == 1);
    CHECK(at::equal(turned, tensor.t().narrow(0, 1, 5)));
    turned = at::Tensor();
    CHECK(mappings_of(folder) == 0);
  }
}

TEST_CASE("every allocation fails in turn", "[faults]") {
  const Folder folder;
  const at::Tensor tensor = floats({300, 10});
  const auto path = folder / "a.npy";
  save(path, tensor, kQuick);
  save_npz(folder / "a.npz", {{"a", tensor}, {"b", tensor}});
  write_bytes(folder / "fields.npy",
              npy(header_text("[('a', '<f4'), ('b', '>i2')]", "(50,)"), std::string(300, 'x')));
  const std::string bytes = read_bytes(path);
  std::filesystem::create_symlink("a.npy", folder / "link.npy");
  std::filesystem::create_directory(folder / "set");
  for (const char* name : {"set/a.npy", "set/b.npy"}) save(folder / name, tensor, kQuick);
  const std::size_t files = folder.count();

  const std::vector<std::pair<const char*, std::function<void()>>> works = {
      {"parse_header", [&] { (void)parse_header(bytes.data(), bytes.size()); }},
      {"read_header", [&] { (void)read_header(path); }},
      {"load", [&] { (void)load(path); }},
      {"load and convert", [&] { (void)load(path, LoadOptions().dtype(at::kDouble)); }},
      {"map", [&] { (void)load(path, LoadOptions().mmap(true)); }},
      {"load_bytes", [&] { (void)load_bytes(bytes.data(), bytes.size()); }},
      {"load_fields", [&] { (void)load_fields(folder / "fields.npy"); }},
      {"load_npz", [&] { (void)load_npz(folder / "a.npz", LoadOptions().threads(1)); }},
      {"an error",
       [&] {
         try {
           (void)load(folder / "fields.npy");
         } catch (const Error&) {
         }
       }},
      {"save", [&] { save(path, tensor, kQuick); }},
      {"save through a link", [&] { save(folder / "link.npy", tensor, kQuick); }},
      {"save_npz",
       [&] {
         save_npz(folder / "a.npz", {{"a", tensor}, {"b", tensor}}, SaveNpzOptions().sync(false));
       }},
      {"append",
       [&] {
         Appender appender(folder / "a.npy", kQuick);
         appender.append(tensor.narrow(0, 0, 1));
         appender.close();
         save(path, tensor, kQuick);
       }},
      {"FolderDataset",
       [&] {
         (void)FolderDataset(folder / "set").stacked().get_batch({0, 1});
       }},
  };
  std::size_t failures = 0;
  for (const auto& [name, work] : works) {
    work();
    const auto open = open_files();
    bool happened = true;
    for (std::size_t index = 0; happened && index < 5000; ++index) {
      INFO(name << ", allocation " << index);
      const auto live = live_allocations.load();
      bool threw = false;
      {
        const FaultInjection injection(kAllocate, {Fault::Fails, ENOMEM}, index);
        try {
          work();
        } catch (const std::exception&) {  // Error, std::bad_alloc, or LibTorch's own
          threw = true;
        }
        happened = injection.happened();
      }
      failures += threw;
      REQUIRE(live_allocations == live);
      REQUIRE(open_files() == open);
      REQUIRE(mappings_of(folder) == 0);
      REQUIRE(folder.count() == files);
    }
    CHECK(at::equal(load(path), tensor));
  }
  std::cout << failures << " allocations failed\n";
}

TEST_CASE("a disk that is full", "[faults]") {
  const Folder folder;
  const std::string said = in_child([&](std::ostream& out) {
    if (::unshare(CLONE_NEWNS) != 0 ||
        ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("none", folder.path().c_str(), "tmpfs", 0, "size=256k") != 0) {
      out << "skipped";
      return;
    }
    const auto path = folder / "a.npy";
    save(path, floats({100}));
    const std::string before = read_bytes(path);
    out << words_of([&] { save(path, floats({1000, 1000})); }) << '\n';
    out << words_of([&] { save_npz(path, {{"a", floats({1000, 1000})}}); }) << '\n';
    Appender appender(path);
    out << words_of([&] { appender.append(floats({1000000})); }) << '\n';
    out << (read_bytes(path) == before && folder.count() == 1 ? "the old file" : "another file")
        << '\n';
    appender.append(floats({20000}));  // what there is room for
    appender.close();
    out << load(path).numel() << '\n';
  });
  if (said == "skipped") {
    WARN("skipped: no right to mount a small disk");
    return;
  }
  const auto lines = [&] {
    std::vector<std::string> all;
    std::istringstream in(said);
    for (std::string line; std::getline(in, line);) all.push_back(line);
    return all;
  }();
  INFO(said);
  REQUIRE(lines.size() == 5);
  for (int i = 0; i < 3; ++i) {
    CHECK_THAT(lines[static_cast<std::size_t>(i)], says("a.npy: cannot write at byte "));
    CHECK_THAT(lines[static_cast<std::size_t>(i)], says("No space left on device"));
  }
  CHECK(lines[3] == "the old file");
  CHECK(lines[4] == "20100");
}

TEST_CASE("a folder that may not be written to", "[faults]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  save(path, floats({10}), kQuick);
  std::filesystem::permissions(path, std::filesystem::perms(0666));
  std::filesystem::permissions(folder.path(), std::filesystem::perms(0555));
  const std::string said = in_child([&](std::ostream& out) {
    if (::getuid() == 0 && ::setuid(65534) != 0) throw std::runtime_error("setuid");
    out << words_of([&] { save(path, floats({20})); });
    Appender appender(path);  // needs the file alone
    appender.append(floats({10}));
    appender.close();
  });
  std::filesystem::permissions(folder.path(), std::filesystem::perms(0755));
  CHECK_THAT(said, says("a.npy: cannot create a file in this folder: Permission denied"));
  CHECK(load(path).numel() == 20);
  CHECK(folder.count() == 1);
}

TEST_CASE("nobody can read a replaced file who could not read the old one", "[faults]") {
  if (::getuid() != 0) {
    WARN("skipped: takes root, to be others");
    return;
  }
  const Folder folder;
  std::filesystem::permissions(folder.path(), std::filesystem::perms(0777));
  struct Row {
    mode_t mode;  // of a file of user 65533 and group 65532, which another user saves over
    gid_t member_of;
    gid_t want_group;
    mode_t want;
  };
  for (const Row& row : {Row{0640, 65532, 65532, 0640},
                         {0640, 65531, 65531, 0600},
                         {0604, 65531, 65531, 0600},
                         {0644, 65531, 65531, 0644},
                         {0664, 65531, 65531, 0644}}) {
    const auto path = folder / "a.npy";
    std::filesystem::remove(path);
    save(path, floats({10}), kQuick);
    REQUIRE(::chown(path.c_str(), 65533, 65532) == 0);
    REQUIRE(::chmod(path.c_str(), row.mode) == 0);
    const std::string said = in_child([&](std::ostream& out) {
      ::umask(0);
      if (::setgroups(1, &row.member_of) != 0 || ::setgid(65531) != 0 || ::setuid(65534) != 0) {
        throw std::runtime_error("setuid");
      }
      save(path, floats({20}), kQuick);
      out << "saved";
    });
    CHECK(said == "saved");
    struct stat status;
    REQUIRE(::stat(path.c_str(), &status) == 0);
    CHECK(status.st_uid == 65534);
    CHECK(status.st_gid == row.want_group);
    CHECK((status.st_mode & 07777) == row.want);
    // Root gives it back to whom it belongs.
    save(path, floats({5}), kQuick);
    REQUIRE(::stat(path.c_str(), &status) == 0);
    CHECK(status.st_uid == 65534);
    CHECK((status.st_mode & 07777) == row.want);
  }
}

TEST_CASE("a link to another file system is followed", "[faults]") {
  const std::filesystem::path memory = "/dev/shm";
  if (!std::filesystem::is_directory(memory)) {
    WARN("skipped: there is no /dev/shm");
    return;
  }
  const Folder folder;
  const auto target = memory / (folder.path().filename().string() + ".npy");
  std::filesystem::create_symlink(target, folder / "link.npy");
  std::filesystem::create_symlink("link.npy", folder / "link of a link.npy");
  for (const std::int64_t size : {10, 20}) {  // made, and replaced
    save(folder / "link of a link.npy", floats({size}));
    CHECK(load(target).numel() == size);
    CHECK(std::filesystem::is_symlink(folder / "link.npy"));
    CHECK(folder.count() == 2);
  }
  std::filesystem::remove(target);
}

TEST_CASE("two processes save to one path, and nobody ever reads half a file", "[faults]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  const auto version = [](std::int64_t number) {
    return at::full({number % 40 + 1, 500}, number, at::kLong);
  };
  save(path, version(0), kQuick);
  std::filesystem::create_symlink("a.npy", folder / "link.npy");
  struct Saver {
    pid_t id = ::fork();
    ~Saver() {
      if (id <= 0) return;
      ::kill(id, SIGKILL);
      ::waitpid(id, nullptr, 0);
    }
  };
  std::optional<Saver> savers[2];
  for (std::int64_t parity = 0; parity < 2; ++parity) {
    if (savers[parity].emplace().id != 0) continue;
    try {
      // Every other one through a link.
      const auto to = parity == 0 ? path : folder / "link.npy";
      for (std::int64_t number = parity;; number += 2) save(to, version(number), kQuick);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
      ::_exit(1);
    }
  }
  std::set<std::int64_t> seen;
  // As long as it takes to see both of them at work, and many versions.
  const auto of_parity = [&](std::int64_t parity) {
    return std::count_if(seen.begin(), seen.end(),
                         [&](std::int64_t number) { return number % 2 == parity; });
  };
  for (int round = 0; round < 3000 || of_parity(0) < 20 || of_parity(1) < 20; ++round) {
    const at::Tensor got = load(path, LoadOptions().mmap(round % 2 != 0));
    const auto number = got[0][0].item<std::int64_t>();
    REQUIRE(at::equal(got, version(number)));
    seen.insert(number);
    for (const auto& saver : savers) REQUIRE(::waitpid(saver->id, nullptr, WNOHANG) == 0);
  }
}
