#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

#ifdef _WIN32
#include <io.h>
inline bool stdout_is_terminal() { return _isatty(_fileno(stdout)) != 0; }
#else
#include <unistd.h>
inline bool stdout_is_terminal() { return isatty(STDOUT_FILENO) != 0; }
#endif

/// How far an epoch is: a line that is redrawn in a terminal, and written once, at the end, in a
/// log.
class ProgressLine {
 public:
  ProgressLine(int epoch, int epochs, std::int64_t samples)
      : epoch_(epoch), epochs_(epochs), samples_(static_cast<double>(samples)) {}
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  ~ProgressLine() {
    if (!stdout_is_terminal()) draw();
    std::printf("\n");
    std::fflush(stdout);
  }

  /// `samples` more, on which the mean loss was `loss`.
  void add(std::int64_t samples, double loss) {
    done_ += static_cast<double>(samples);
    loss_sum_ += loss * static_cast<double>(samples);
    if (stdout_is_terminal()) draw();
  }

 private:
  void draw() const {
    constexpr int width = 24;
    std::string bar;
    for (int i = 0; i < width; ++i) bar += i < done_ / samples_ * width ? "\u2588" : "\u2591";
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start_;
    std::printf("%sepoch %2d/%d %s loss %.4f  %6.0f samples/s", stdout_is_terminal() ? "\r" : "",
                epoch_, epochs_, bar.c_str(), loss_sum_ / done_, done_ / time.count());
    std::fflush(stdout);
  }

  int epoch_;
  int epochs_;
  double samples_;
  double done_ = 0;
  double loss_sum_ = 0;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};
