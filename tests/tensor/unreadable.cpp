// Archives and records of which some part cannot be a tensor.

#ifdef TORCH_NPY_SINGLE_HEADER
#include <torch_npy.hpp>
#else
#include <torch_npy/tensor/fields.hpp>
#include <torch_npy/tensor/npz.hpp>
#endif

#include <string>
#include <vector>

#include "support/archives.hpp"
#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/zip_bytes.hpp"

using namespace torch_npy;

namespace {

using Names = std::vector<std::string>;

std::string array_with(const char* descr, std::size_t bytes) {
  return npy(header_text(descr, "(1,)"), std::string(bytes, 'x'));
}

/// An archive as a Mac makes it, with arrays that no tensor holds.
std::vector<ZipPart> mixed_parts() {
  return {ZipPart::stored("a.npy", floats(2, 3)),
          ZipPart::stored("names.npy", array_with("'<U1'", 4)),
          ZipPart::stored("__MACOSX/._a.npy", std::string("\0\5\26\7", 4)),
          ZipPart::stored("object.npy", array_with("'|O'", 9)),
          ZipPart::stored(".git/index", "DIRC"),
          ZipPart::stored("long.npy", array_with("'<f16'", 16)),
          ZipPart::stored("uuid.npy", array_with("'|V18'", 18)),
          ZipPart::stored("half.npy", array_with("'<f4'", 3)),
          ZipPart::stored("text.npy", "not an array"),
          ZipPart::stored("b.npy", floats(1, 1))};
}

Names keys_of(const torch::OrderedDict<std::string, at::Tensor>& arrays) { return arrays.keys(); }

LoadOptions skipping(std::vector<Error>& errors) {
  return LoadOptions().on_unreadable(OnUnreadable::Skip,
                                     [&errors](const Error& error) { errors.push_back(error); });
}

}  // namespace

TEST_CASE("load_npz() loads the arrays that it is given the names of, in their order",
          "[npz][unreadable]") {
  const Folder folder;
  const auto path = write_bytes(folder / "m.npz", zip(mixed_parts()));
  const auto arrays = load_npz(path, {"b", "a.npy"});
  CHECK(keys_of(arrays) == Names{"b", "a.npy"});
  CHECK(arrays["a.npy"].sizes().vec() == std::vector<std::int64_t>{2, 3});
  CHECK(keys_of(load_npz(path, Names{})).empty());
  CHECK(load_npz(NpzFile(path), {"a"}).size() == 1);
  CHECK(load_npz(path, {"names"}, LoadOptions().strings_as_codes(true))["names"].numel() == 1);

  const Error twice = error_of([&] { (void)load_npz(path, {"a", "b", "a"}); });
  CHECK(twice.code() == ErrorCode::InvalidArgument);
  CHECK_THAT(twice.what(), says("the array \"a\" twice"));
  CHECK(error_of([&] {
          (void)load_npz(path, {"a", "a.npy"});
        }).code() == ErrorCode::InvalidArgument);
  CHECK_THAT(error_of([&] {
               (void)load_npz(path, {"a", "names"});
             }).what(),
             says("to load the others, leave this name out"));
  const Error missing = error_of([&] { (void)load_npz(path, {"a", "c"}); });
  CHECK(missing.code() == ErrorCode::NotFound);
  CHECK_THAT(missing.what(), says("no array \"c\"; there are \"a\", \"names\""));
}

TEST_CASE("an array that cannot be loaded is named, with the two ways to load the others",
          "[npz][unreadable]") {
  const Folder folder;
  const auto path = write_bytes(folder / "m.npz", zip(mixed_parts()));
  const Error error = error_of([&] { (void)load_npz(path); });
  CHECK(error.code() == ErrorCode::UnsupportedDtype);
  CHECK(error.path() == path);
  CHECK_THAT(error.what(), says("member \"names.npy\": strings"));
  CHECK_THAT(error.what(), says("strings_as_codes(true)"));
  CHECK_THAT(error.what(), says("to load the others, give their names, or set"));
  CHECK_THAT(error.what(), says("on_unreadable(OnUnreadable::Skip)"));
}

TEST_CASE("advice about the other arrays is given only if there are others", "[npz][unreadable]") {
  const Folder folder;
  const auto words_of = [&](const std::vector<ZipPart>& parts) {
    const auto path = write_bytes(folder / "a.npz", zip(parts));
    return std::string(error_of([&] { (void)load_npz(path); }).what());
  };
  const ZipPart text = ZipPart::stored("format.npy", array_with("'<U1'", 4));
  const ZipPart shape = ZipPart::stored("shape.npy", floats(1, 2));
  const ZipPart data = ZipPart::stored("data.npy", floats(1, 2));
  CHECK_THAT(words_of({text}), !says("to load the others"));
  CHECK_THAT(words_of({text, shape}), says("to load the others, give their names"));
  CHECK_THAT(words_of({text, shape, data}),
             says("load_sparse() loads the matrix") && !says("to load the others"));
  CHECK_THAT(words_of({ZipPart::stored("a.npy", array_with("[('x', '<f4'), ('o', '|O')]", 9))}),
             says("some of which are Python objects") && !says("load_fields()"));
}

TEST_CASE("a zip archive without any array is refused by load_npz()", "[npz][unreadable]") {
  const Folder folder;
  const auto path =
      write_bytes(folder / "a.npz",
                  zip({ZipPart::stored("xl/book.xml", "<x/>"), ZipPart::stored("b.npz", "PK")}));
  const Error error = error_of([&] { (void)load_npz(path); });
  CHECK(error.code() == ErrorCode::NotNpy);
  CHECK_THAT(error.what(),
             says("of its 2 members, the first of which is \"xl/book.xml\", none is an .npy file"));
  CHECK(NpzFile(path).names().empty());
  CHECK(load_npz(write_bytes(folder / "empty.npz", zip({}))).is_empty());
}

TEST_CASE("on_unreadable(Skip) loads the rest, and the callback gets each Error in order",
          "[npz][unreadable]") {
  const Folder folder;
  const auto path = write_bytes(folder / "m.npz", zip(mixed_parts()));
  for (const std::size_t threads : {1, 4}) {
    std::vector<Error> errors;
    const auto arrays = load_npz(path, skipping(errors).threads(threads));
    CHECK(keys_of(arrays) == Names{"a", "b"});
    REQUIRE(errors.size() == 6);
    const Names members{"names", "object", "long", "uuid", "half", "text"};
    for (std::size_t i = 0; i < errors.size(); ++i) {
      CHECK(errors[i].path() == path);
      CHECK_THAT(errors[i].what(), says("member \"" + members[i] + ".npy\""));
    }
    CHECK(errors[4].code() == ErrorCode::Truncated);
  }
  // A callback is not needed, and names can be skipped, too.
  const auto silent = LoadOptions().on_unreadable(OnUnreadable::Skip);
  CHECK(keys_of(load_npz(path, {"uuid", "b"}, silent)) == Names{"b"});
}

TEST_CASE("a damaged array is skipped, a limit and a wrong call are not", "[npz][unreadable]") {
  const Folder folder;
  std::string bytes =
      zip({ZipPart::stored("a.npy", floats(2, 3)), ZipPart::stored("b.npy", floats(1, 1))});
  bytes[bytes.find("\x93NUMPY") + 140] ^= 1;  // the data of a
  const auto path = write_bytes(folder / "d.npz", bytes);
  std::vector<Error> errors;
  CHECK(keys_of(load_npz(path, skipping(errors))) == Names{"b"});
  REQUIRE(errors.size() == 1);
  CHECK(errors[0].code() == ErrorCode::BadZip);
  CHECK(error_of([&] { (void)load_npz(path, skipping(errors).max_bytes(1)); }).code() ==
        ErrorCode::TooLarge);
  CHECK(error_of([&] { (void)load_npz(path, skipping(errors).rows(0, 9)); }).code() ==
        ErrorCode::InvalidArgument);
  CHECK(error_of([&] { (void)load_npz(path, {"c"}, skipping(errors)); }).code() ==
        ErrorCode::NotFound);
  // What a callback throws comes out.
  const auto throwing = LoadOptions().on_unreadable(
      OnUnreadable::Skip, [](const Error&) { throw std::runtime_error("enough"); });
  CHECK_THROWS_WITH(load_npz(path, throwing), "enough");
}

TEST_CASE("what macOS and version control put into an archive is no array", "[npz][unreadable]") {
  const Folder folder;
  auto parts = mixed_parts();
  parts.push_back(ZipPart::stored("sub/.hidden.npy", "no array"));
  parts.push_back(ZipPart::stored(".real.npy", floats(1, 2)));  // np.savez can write it
  const NpzFile file(write_bytes(folder / "m.npz", zip(parts)));
  CHECK(file.names() ==
        Names{"a", "names", "object", "long", "uuid", "half", "text", "b", ".real"});
  CHECK(file.load(".real").numel() == 2);
  const Error error = error_of([&] { (void)file.load("__MACOSX/._a.npy"); });
  CHECK(error.code() == ErrorCode::NotNpy);
  // One that cannot be read is listed, unless macOS put it there.
  std::string damaged = zip(
      {ZipPart::stored(".w.npy", floats(1, 2)), ZipPart::stored("__MACOSX/._w.npy", floats(1, 2))});
  damaged.replace(damaged.find(".w.npy"), 1, "_");
  damaged.replace(damaged.find("__MACOSX/._w"), 1, "-");
  const NpzFile bad(write_bytes(folder / "bad.npz", damaged));
  CHECK(bad.names() == Names{".w"});
  CHECK(error_of([&] { (void)load_npz(folder / "bad.npz"); }).code() == ErrorCode::BadZip);
}

TEST_CASE("raw_bytes() loads what no tensor holds as its bytes", "[npz][unreadable][dtype]") {
  const Folder folder;
  const auto path = write_bytes(folder / "m.npz", zip(mixed_parts()));
  const NpzFile file(path);
  const auto raw = LoadOptions().raw_bytes(true);
  for (const auto& [name, size] :
       {std::pair("names", 4), std::pair("long", 16), std::pair("uuid", 18)}) {
    INFO(name);
    const at::Tensor bytes = file.load(name, raw);
    CHECK(bytes.scalar_type() == at::kByte);
    CHECK(bytes.sizes().vec() == std::vector<std::int64_t>{1, size});
    CHECK(bytes[0][size - 1].item<int>() == 'x');
  }
  CHECK(file.load("uuid", LoadOptions(raw).dtype(at::kFloat)).scalar_type() == at::kByte);
  CHECK(file.load("a", raw).scalar_type() == at::kFloat);
  CHECK(file.load("names", LoadOptions(raw).strings_as_codes(true)).scalar_type() == at::kInt);
  CHECK(file.load("long", LoadOptions(raw).dtype(at::kDouble)).sizes().size() == 1);
  CHECK(file.load("uuid", LoadOptions(raw).void_as(at::kBFloat16)).numel() == 18);
  // dtype() asks for numbers, which there are not.
  CHECK(error_of([&] { (void)file.load("long", LoadOptions(raw).dtype(at::kInt)); }).code() ==
        ErrorCode::UnsupportedDtype);
  CHECK(error_of([&] { (void)file.load("object", raw); }).code() == ErrorCode::UnsupportedDtype);
  // Records, as they are.
  const auto records = write_bytes(
      folder / "r.npy", npy(header_text("[('a', '<i2'), ('b', '|i1')]", "(2,)"), "abcdef"));
  CHECK(load(records, raw).sizes().vec() == std::vector<std::int64_t>{2, 3});
}

TEST_CASE("fields are loaded by name, and the others need not have a dtype",
          "[fields][unreadable]") {
  const Folder folder;
  const auto path = write_bytes(
      folder / "r.npy", npy(header_text("[('uuid', '|V18'), ('v', '<f4'), ('pos', [('x', '<i2'), "
                                        "('y', '<i2')]), ('l', '<f16')]",
                                        "(2,)"),
                            std::string(2 * 42, 'x')));
  const Error error = error_of([&] { (void)load_fields(path); });
  CHECK(error.code() == ErrorCode::UnsupportedDtype);
  CHECK_THAT(error.what(), says("field \"uuid\": raw bytes ('|V18') have no numeric type; "
                                "raw_bytes(true)"));
  CHECK_THAT(error.what(), says("to load the others, give their names"));
  CHECK(keys_of(load_fields(path, {"v"})) == Names{"v"});
  CHECK(keys_of(load_fields(path, {"pos.y", "v"})) == Names{"pos.y", "v"});
  CHECK(keys_of(load_fields(path, {"pos"})) == Names{"pos.x", "pos.y"});
  CHECK(keys_of(open(path).load_fields({"pos.x"})) == Names{"pos.x"});
  CHECK(load_fields(path, {"l"}, LoadOptions().dtype(at::kDouble))["l"].numel() == 2);
  CHECK(load_fields(path, Names{}).is_empty());

  const Error missing = error_of([&] { (void)load_fields(path, {"v", "w"}); });
  CHECK(missing.code() == ErrorCode::NotFound);
  CHECK_THAT(missing.what(), says("no field \"w\"; there are \"uuid\", \"v\", \"pos.x\""));
  CHECK(error_of([&] {
          (void)load_fields(path, {"pos", "pos.x"});
        }).code() == ErrorCode::InvalidArgument);

  std::vector<Error> errors;
  CHECK(keys_of(load_fields(path, skipping(errors))) == Names{"v", "pos.x", "pos.y"});
  REQUIRE(errors.size() == 2);
  CHECK(errors[0].path() == path);
  CHECK_THAT(errors[0].what(), says(path.string() + ": field \"uuid\""));
  CHECK_THAT(errors[1].what(), says("field \"l\""));

  const auto raw = load_fields(path, LoadOptions().raw_bytes(true));
  CHECK(raw["uuid"].sizes().vec() == std::vector<std::int64_t>{2, 18});
  CHECK(raw["uuid"].scalar_type() == at::kByte);
  CHECK(raw["l"].sizes().vec() == std::vector<std::int64_t>{2, 16});
  CHECK(raw["v"].scalar_type() == at::kFloat);

  // In an archive, the callback gets its path and the member.
  const auto archive =
      write_bytes(folder / "r.npz", zip({ZipPart::stored("r.npy", read_bytes(path))}));
  errors.clear();
  CHECK(NpzFile(archive).load_fields("r", {"uuid", "v"}, skipping(errors)).size() == 1);
  REQUIRE(errors.size() == 1);
  CHECK_THAT(errors[0].what(), says(archive.string() + ": member \"r.npy\": field \"uuid\""));
  const auto rethrowing =
      LoadOptions().on_unreadable(OnUnreadable::Skip, [](const Error& error) { throw error; });
  CHECK(error_of([&] { (void)NpzFile(archive).load_fields("r", rethrowing); }).what() ==
        std::string(errors[0].what()));
  errors.clear();
  CHECK(NpzFile(archive)["r"].load_fields(skipping(errors)).size() == 3);
  REQUIRE(errors.size() == 2);
  CHECK_THAT(errors[0].what(), says(archive.string() + ": member \"r.npy\": field \"uuid\""));
}

TEST_CASE("of a field and a field of a field that have one name with dots, each has its fields",
          "[fields][unreadable]") {
  const Folder folder;
  const char* const descr = "[('a', [('b', '|u1'), ('c', '|u1')]), ('a.b', [('d', '|u1')])]";
  const auto path = write_bytes(folder / "d.npy", npy(header_text(descr, "(1,)"), "\1\2\3"));
  const auto all = load_fields(path);
  CHECK(keys_of(all) == Names{"a.b", "a.c", "a.b.d"});
  const auto reversed = load_fields(path, {"a.b.d", "a.c", "a.b"});
  CHECK(keys_of(reversed) == Names{"a.b.d", "a.c", "a.b"});
  CHECK(reversed["a.b"].item<int>() == 1);
  CHECK(reversed["a.b.d"].item<int>() == 3);
  CHECK(keys_of(load_fields(path, {"a"})) == Names{"a.b", "a.c"});
}

TEST_CASE("no field of an array with objects is loaded", "[fields][unreadable]") {
  const Folder folder;
  const auto path =
      write_bytes(folder / "o.npy",
                  npy(header_text("[('a', '<f4'), ('o', '|O')]", "(1,)"), std::string(12, 'x')));
  for (const Names& names : {Names{"a"}, Names{"a", "o"}}) {
    const Error error = error_of(
        [&] { (void)load_fields(path, names, LoadOptions().on_unreadable(OnUnreadable::Skip)); });
    CHECK(error.code() == ErrorCode::UnsupportedDtype);
    CHECK_THAT(error.what(), says("field \"o\""));
    CHECK_THAT(error.what(), says("one pickle"));
  }
  const auto raw = LoadOptions().raw_bytes(true);
  CHECK(error_of([&] { (void)load(path, raw); }).code() == ErrorCode::UnsupportedDtype);
  const auto nested = write_bytes(
      folder / "n.npy",
      npy(header_text("[('a', [('b', '<f4'), ('o', '|O')])]", "(1,)"), std::string(12, 'x')));
  CHECK_THAT(error_of([&] { (void)load(nested, raw); }).what(), says("one pickle"));
}

TEST_CASE("a field with a value that does not fit is skipped", "[fields][unreadable]") {
  const Folder folder;
  const auto path = write_bytes(folder / "u.npy",
                                npy(header_text("[('big', '<u8'), ('small', '<u8')]", "(1,)"),
                                    std::string(8, '\xff') + std::string("\x05\0\0\0\0\0\0\0", 8)));
  std::vector<Error> errors;
  const auto fields = load_fields(path, skipping(errors).unsigned_as(at::kLong));
  CHECK(keys_of(fields) == Names{"small"});
  CHECK(fields["small"].item<std::int64_t>() == 5);
  REQUIRE(errors.size() == 1);
  CHECK(errors[0].code() == ErrorCode::Mismatch);
}
