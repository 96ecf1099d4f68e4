#ifndef TORCH_NPY_IO_HPP_
#define TORCH_NPY_IO_HPP_

/// @file
/// Headers of files, lists of files, and stores of objects. Takes the standard library and the
/// operating system alone.

// IWYU pragma: begin_exports
#include <torch_npy/io/byte_sink.hpp>
#include <torch_npy/io/byte_source.hpp>
#include <torch_npy/io/disk_cache.hpp>
#include <torch_npy/io/file.hpp>
#include <torch_npy/io/file_writer.hpp>
#include <torch_npy/io/folder.hpp>
#include <torch_npy/io/names.hpp>
#include <torch_npy/io/object_source.hpp>
#include <torch_npy/io/object_store.hpp>
#include <torch_npy/io/parallel.hpp>
#include <torch_npy/io/read_header.hpp>
#include <torch_npy/io/recycled_buffers.hpp>
#include <torch_npy/io/request_threads.hpp>
#include <torch_npy/io/store.hpp>
#include <torch_npy/io/stream.hpp>
#include <torch_npy/io/system_posix.hpp>
#include <torch_npy/io/system_windows.hpp>
#include <torch_npy/io/text_lines.hpp>
// IWYU pragma: end_exports

#endif  // TORCH_NPY_IO_HPP_
