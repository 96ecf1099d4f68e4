#ifndef TORCH_NPY_DATA_EPOCH_PLAN_HPP_
#define TORCH_NPY_DATA_EPOCH_PLAN_HPP_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/data/options.hpp>
#include <torch_npy/data/order.hpp>
#include <torch_npy/data/request.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Throws Error (InvalidArgument) if there is no such rank.
inline void check_rank(std::size_t num_replicas, std::size_t rank) {
  if (rank < num_replicas) return;
  throw Error(ErrorCode::InvalidArgument,
              "rank " + std::to_string(rank) +
                  " is out of range: expected less than num_replicas, which is " +
                  std::to_string(num_replicas));
}

/// The batches of one rank in one epoch. For one thread at a time.
///
/// The ranks share the positions of the order from `start` on: rank r gets start + r,
/// start + r + num_replicas, and so on. If the order has cuts, the ranks share batches instead:
/// rank r gets every num_replicas-th batch from the one at `start` on.
class EpochPlan {
 public:
  /// `start` is the number of positions that all ranks together have consumed in this epoch; the
  /// number of ranks may have been another one then. `drop_last` drops an incomplete last batch. If
  /// the order has cuts, `batch_size` and `drop_last` are ignored.
  ///
  /// Throws Error (InvalidArgument) if there is no such rank or if `batch_size` is 0, and Error
  /// (Mismatch) if `start` is after the end of the epoch or not at a cut.
  EpochPlan(std::unique_ptr<EpochOrder> order, std::size_t batch_size, std::size_t num_replicas,
            std::size_t rank, Tail tail, bool drop_last, std::uint64_t start = 0)
      : order_(std::move(order)),
        cuts_(order_->cuts()),
        batch_size_(batch_size),
        replicas_(num_replicas),
        rank_(rank),
        tail_(tail),
        drop_last_(drop_last),
        units_(cuts_ ? cuts_->size() - 1 : order_->size()) {
    check_rank(num_replicas, rank);
    if (!cuts_ && batch_size == 0) {
      throw Error(ErrorCode::InvalidArgument, "batch_size is 0: expected at least 1");
    }
    if (start > order_->size()) {
      throw Error(ErrorCode::Mismatch, "position " + std::to_string(start) +
                                           " is after the end of the epoch, which has " +
                                           counted(order_->size(), "position"));
    }
    start_ = start;
    if (!cuts_) return;
    const auto cut = std::lower_bound(cuts_->begin(), cuts_->end(), start);
    if (*cut != start) {
      throw Error(ErrorCode::Mismatch, "position " + std::to_string(start) +
                                           " is inside a batch of the order, which cuts the epoch "
                                           "into batches: continue at the start of a batch");
    }
    start_ = static_cast<std::uint64_t>(cut - cuts_->begin());
  }

  /// True if the order decides which samples form a batch.
  bool has_cuts() const noexcept { return cuts_ != nullptr; }

  /// The number of batches of this rank.
  std::uint64_t batches() const { return batches_in(share()); }

  /// The number of batches of rank 0, which has the most.
  std::uint64_t most_batches() const { return batches_in(share_of_rank(tail_, 0)); }

  /// The samples of the batch `number`, which must be less than batches().
  std::vector<Pick> batch(std::uint64_t number) {
    std::vector<Pick> picks;
    if (!cuts_) {
      const std::uint64_t first = number * batch_size_;
      const std::uint64_t count = (std::min)(share() - first, batch_size_);
      picks.reserve(static_cast<std::size_t>(count));
      for (std::uint64_t i = 0; i < count; ++i) picks.push_back(pick(first + i));
      return picks;
    }
    const std::uint64_t unit = unit_of(number);
    const auto cut = cuts_->begin() + static_cast<std::ptrdiff_t>(unit % units_);
    picks.reserve(static_cast<std::size_t>(cut[1] - cut[0]));
    for (std::uint64_t position = cut[0]; position < cut[1]; ++position) {
      picks.push_back(pick_at(position, unit / units_ * order_->size() + position));
    }
    return picks;
  }

  /// The number of positions that all ranks together have consumed when each has had its batch
  /// `number`, which must be less than batches(). Positions before `start` count. At most the size
  /// of the order.
  std::uint64_t consumed_after(std::uint64_t number) const {
    const std::uint64_t remaining = units_ - start_;
    const std::uint64_t most = share_of_rank(tail_ == Tail::Drop ? Tail::Drop : Tail::Pad, rank_);
    const std::uint64_t per_batch = cuts_ ? 1 : batch_size_;
    const std::uint64_t each = number < most / per_batch ? (number + 1) * per_batch : most;
    const std::uint64_t unit = each > remaining / replicas_ ? units_ : start_ + each * replicas_;
    return cuts_ ? (*cuts_)[static_cast<std::size_t>(unit)] : unit;
  }

  /// The number of samples of this rank in all its batches, if drop_last is not set. Linear time in
  /// the number of batches if the order has cuts.
  std::uint64_t samples() const { return cuts_ ? samples_before(share()) : share(); }

  /// The sample `number` of this rank, for an order without cuts.
  Pick pick(std::uint64_t number) {
    const std::uint64_t position = unit_of(number);
    return pick_at(position % units_, position);
  }

  /// For an order with cuts: the number of the batch that begins when this rank has had `samples`
  /// samples; batches() at the end, none if that is inside a batch or after the end.
  std::optional<std::uint64_t> batch_after(std::uint64_t samples) const {
    std::uint64_t before = 0;
    for (std::uint64_t number = 0;; ++number) {
      if (before == samples) return number;
      if (before > samples || number == share()) return std::nullopt;
      before += samples_in(number);
    }
  }

 private:
  // A unit is what the ranks share: a position, or a batch if the order has cuts. Units after the
  // end are those that Tail::Pad repeats.
  std::uint64_t unit_of(std::uint64_t number) const { return start_ + number * replicas_ + rank_; }

  std::uint64_t share() const { return share_of_rank(tail_, rank_); }

  /// The number of units of a rank.
  std::uint64_t share_of_rank(Tail tail, std::uint64_t rank) const {
    const std::uint64_t all_have = (units_ - start_) / replicas_;
    const std::uint64_t rest = (units_ - start_) % replicas_;
    return all_have + (tail == Tail::Pad ? rest != 0 : tail == Tail::Exact ? rank < rest : false);
  }

  std::uint64_t batches_in(std::uint64_t share) const {
    if (cuts_) return share;
    return share / batch_size_ + (!drop_last_ && share % batch_size_ != 0);
  }

  std::uint64_t samples_in(std::uint64_t number) const {
    const auto cut = cuts_->begin() + static_cast<std::ptrdiff_t>(unit_of(number) % units_);
    return cut[1] - cut[0];
  }

  std::uint64_t samples_before(std::uint64_t end) const {
    std::uint64_t samples = 0;
    for (std::uint64_t number = 0; number < end; ++number) samples += samples_in(number);
    return samples;
  }

  Pick pick_at(std::uint64_t position, std::uint64_t unwrapped) {
    const std::size_t index = order_->at(position);
    return {index, unwrapped, index};
  }

  std::unique_ptr<EpochOrder> order_;
  const std::vector<std::uint64_t>* cuts_;
  std::uint64_t batch_size_;
  std::uint64_t replicas_;
  std::uint64_t rank_;
  Tail tail_;
  bool drop_last_;
  std::uint64_t units_;
  std::uint64_t start_ = 0;  // in units
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_EPOCH_PLAN_HPP_
