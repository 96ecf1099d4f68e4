// xtensor: load_npy.

#if __has_include(<xtensor/io/xnpy.hpp>)
#include <xtensor/core/xtensor_config.hpp>
#include <xtensor/io/xnpy.hpp>
#else
#include <xtensor/xnpy.hpp>
#include <xtensor/xtensor_config.hpp>
#endif

#include "worker.hpp"

namespace {

bench::Answer version(const bench::Words&) {
  return {0, 0,
          "xtensor " + std::to_string(XTENSOR_VERSION_MAJOR) + "." +
              std::to_string(XTENSOR_VERSION_MINOR) + "." + std::to_string(XTENSOR_VERSION_PATCH)};
}

/// load FILE COUNT
bench::Answer load(const bench::Words& words) {
  xt::xarray<float> array;
  const double time = bench::seconds(bench::number(words.at(2)), [&] {
    array = xt::xarray<float>();  // lets go of the one before
    array = xt::load_npy<float>(words.at(1));
  });
  return {time, bench::total(array.data(), array.size() * sizeof(float))};
}

}  // namespace

int main() { return bench::serve({{"version", version}, {"load", load}}); }
