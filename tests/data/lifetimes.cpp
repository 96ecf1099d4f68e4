// References into a temporary object do not compile.

#include <torch/data.h>
#include <torch_npy.hpp>

#include <type_traits>
#include <utility>

using namespace torch_npy;

namespace {

// Expressions that compile for `Object&` and must not compile for a temporary `Object`.

template <class Object>
using FilesOf = decltype(std::declval<Object>().files());
template <class Object>
using TargetFilesOf = decltype(std::declval<Object>().target_files());
template <class Object>
using PrefetchOf = decltype(prefetch(std::declval<Object>(), at::kCPU));
template <class Object>
using PartOf = decltype(torch_npy::detail::SourcePart(std::declval<Object>(), 0, 0));
template <class Object>
using WriterOf = decltype(torch_npy::detail::ZipWriter(std::declval<Object>()));
template <class Object>
using StreamLoadOf = decltype(load(std::declval<Object>()));

template <template <class> class Expression, class Object, class = void>
constexpr bool kCompiles = false;
template <template <class> class Expression, class Object>
constexpr bool kCompiles<Expression, Object, std::void_t<Expression<Object>>> = true;

template <template <class> class Expression, class Object>
constexpr bool kForLasting = kCompiles<Expression, Object&> && !kCompiles<Expression, Object>;

using Loader = decltype(torch::data::make_data_loader(std::declval<FolderDataset>()))::element_type;

static_assert(kForLasting<FilesOf, FolderDataset>);
static_assert(kForLasting<FilesOf, PairedFolderDataset>);
static_assert(kForLasting<TargetFilesOf, PairedFolderDataset>);
static_assert(kForLasting<FilesOf, ClassFolderDataset>);
static_assert(kForLasting<PrefetchOf, Loader>);
static_assert(kForLasting<PartOf, torch_npy::detail::File>);
static_assert(kForLasting<WriterOf, torch_npy::detail::AtomicFile>);
static_assert(kForLasting<StreamLoadOf, std::istream>);
// Small results are copies.
static_assert(!std::is_reference_v<decltype(std::declval<ClassFolderDataset>().classes())>);
static_assert(!std::is_reference_v<decltype(std::declval<NpzFile>().names())>);

}  // namespace
