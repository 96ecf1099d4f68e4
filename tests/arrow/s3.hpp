#pragma once

// The S3 server and the proxy that with_server.py started.

#include <torch_npy/arrow.hpp>

#include <arrow/filesystem/s3fs.h>
#include <arrow/io/interfaces.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>

#include "support/files.hpp"
#include "support/npy_bytes.hpp"

inline void require_ok(const ::arrow::Status& status) {
  if (!status.ok()) throw std::runtime_error(status.ToString());
}

inline std::string from_environment(const char* name) {
  const char* const value = std::getenv(name);
  if (value == nullptr) throw std::runtime_error(std::string("no ") + name);
  return value;
}

/// A bucket of its own, which a client writes to directly and others read through the proxy.
class Bucket {
 public:
  Bucket() {
    require_ok(::arrow::fs::EnsureS3Initialized());
    direct_ = files("S3_SERVER", from_environment("AWS_SECRET_ACCESS_KEY"));
    std::random_device random;
    name_ = "test-" + std::to_string(random());
    require_ok(direct_->CreateDir(name_, false));
    forget();
  }
  ~Bucket() { std::filesystem::remove(folder() / "faults"); }
  Bucket(const Bucket&) = delete;
  Bucket& operator=(const Bucket&) = delete;

  /// Short times, and two tries for each request.
  static ::arrow::fs::S3Options options(const char* server, const std::string& secret) {
    auto options =
        ::arrow::fs::S3Options::FromAccessKey(from_environment("AWS_ACCESS_KEY_ID"), secret);
    options.endpoint_override = from_environment(server);
    options.scheme = "http";
    options.region = "us-east-1";
    options.request_timeout = 1;
    options.connect_timeout = 1;
    options.allow_bucket_creation = true;
    options.allow_delayed_open = true;  // a small object takes one request
    options.retry_strategy = ::arrow::fs::S3RetryStrategy::GetAwsStandardRetryStrategy(2);
    return options;
  }

  static std::shared_ptr<::arrow::fs::FileSystem> files(const char* server,
                                                        const std::string& secret) {
    auto made = ::arrow::fs::S3FileSystem::Make(options(server, secret));
    require_ok(made.status());
    return *made;
  }

  torch_npy::arrow::Store store(const std::string& folder = {},
                                const torch_npy::StoreOptions& store_options = {}) const {
    return {files("S3_PROXY", from_environment("AWS_SECRET_ACCESS_KEY")),
            folder.empty() ? name_ : name_ + '/' + folder, store_options};
  }

  const std::string& name() const { return name_; }

  void put(const std::string& name, const std::string& bytes) const {
    auto out = direct_->OpenOutputStream(name_ + '/' + name);
    require_ok(out.status());
    require_ok((*out)->Write(bytes.data(), static_cast<std::int64_t>(bytes.size())));
    require_ok((*out)->Close());
  }
  void put(const std::string& name, const at::Tensor& tensor) const { put(name, npy_of(tensor)); }
  void remove(const std::string& name) const {
    require_ok(direct_->DeleteFile(name_ + '/' + name));
  }

  /// From now on: see faulty_proxy.py.
  void set_faults(const std::string& lines) const {
    write_bytes(folder() / "new", lines);
    std::filesystem::rename(folder() / "new", folder() / "faults");
  }

  /// How many requests for this bucket begin with `method` since forget().
  int requests(const std::string& method) const {
    std::ifstream in(folder() / "requests");
    in.seekg(begin_);
    int count = 0;
    for (std::string line; std::getline(in, line);) {
      if (line.compare(0, method.size(), method) == 0 && line.find(name_) != line.npos) ++count;
    }
    return count;
  }
  void forget() {
    std::error_code error;
    const auto size = std::filesystem::file_size(folder() / "requests", error);
    begin_ = error ? 0 : static_cast<std::streamoff>(size);
  }

 private:
  static std::filesystem::path folder() { return from_environment("S3_FAULTS"); }

  std::shared_ptr<::arrow::fs::FileSystem> direct_;
  std::string name_;
  std::streamoff begin_ = 0;
};
