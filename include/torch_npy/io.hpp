#ifndef TORCH_NPY_IO_HPP_
#define TORCH_NPY_IO_HPP_

/// @file
/// Headers of files, and lists of files. Takes the standard library and the operating system alone.

// IWYU pragma: begin_exports
#include <torch_npy/io/byte_sink.hpp>
#include <torch_npy/io/byte_source.hpp>
#include <torch_npy/io/file.hpp>
#include <torch_npy/io/file_writer.hpp>
#include <torch_npy/io/folder.hpp>
#include <torch_npy/io/parallel.hpp>
#include <torch_npy/io/read_header.hpp>
#include <torch_npy/io/stream.hpp>
#include <torch_npy/io/system_posix.hpp>
#include <torch_npy/io/system_windows.hpp>
#include <torch_npy/io/text_lines.hpp>
// IWYU pragma: end_exports

#endif  // TORCH_NPY_IO_HPP_
