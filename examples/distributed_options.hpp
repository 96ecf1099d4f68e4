#pragma once

#include <torch_npy/world.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

/// The arguments of distributed_training:
///
///   --nproc N            starts N ranks; for a program that no launcher started
///   --data FOLDER        with images.npy and labels.npy; default: examples/data
///   --checkpoint FOLDER  saved every 20 batches; a run that finds one goes on from there
///   --samples FOLDER     for each rank, the samples of its batches
///   --crash RANK         this rank crashes in epoch 2, unless the run goes on from a checkpoint
struct Options {
  int ranks = 1;  // to start: those of a launcher are there already
  std::filesystem::path data = "examples/data", checkpoint, log;
  long crashing_rank = -1;
  torch_npy::WorldOptions world = torch_npy::WorldOptions()
                                      .start_timeout(std::chrono::seconds(60))
                                      .timeout(std::chrono::seconds(20));

  Options(int argc, char** argv) {
    for (int i = 1; i < argc; i += 2) {
      const std::string name = argv[i], value = i + 1 < argc ? argv[i + 1] : "";
      if (value.empty()) throw std::invalid_argument(name + " has no value");
      if (name == "--nproc") {
        ranks = std::stoi(value);
      } else if (name == "--data") {
        data = value;
      } else if (name == "--checkpoint") {
        checkpoint = value;
      } else if (name == "--samples") {
        log = value;
      } else if (name == "--crash") {
        crashing_rank = std::stol(value);
      } else {
        throw std::invalid_argument("there is no option " + name);
      }
    }
    const bool is_launched =
        torch_npy::Launch::from_environment().launcher != torch_npy::Launcher::None;
    if (is_launched && ranks != 1) {
      throw std::invalid_argument("--nproc is not for a program that a launcher started");
    }
  }

  bool crashes(std::size_t rank) const { return crashing_rank == static_cast<long>(rank); }

  /// Appends "epoch sample sample..." to a file of this rank.
  void log_samples(std::size_t rank, std::uint64_t epoch,
                   const std::vector<std::size_t>& samples) const {
    if (log.empty()) return;
    std::ofstream file(log / (std::to_string(rank) + ".txt"), std::ios::app);
    file << epoch;
    for (const std::size_t sample : samples) file << ' ' << sample;
    file << '\n';
  }
};
