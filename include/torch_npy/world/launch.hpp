#ifndef TORCH_NPY_WORLD_LAUNCH_HPP_
#define TORCH_NPY_WORLD_LAUNCH_HPP_

/// @file
/// Launch: what a launcher says about this process.

#include <cstdint>
#include <cstdlib>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <torch_npy/error.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE

/// What started the processes of a World.
enum class Launcher {
  None,      ///< nothing did: a world of one process
  Torchrun,  ///< torchrun, or whoever sets RANK and WORLD_SIZE
  OpenMpi,   ///< mpirun of Open MPI
  Mpich,     ///< mpiexec of MPICH, Intel MPI and others with its process manager, Hydra
  Slurm,     ///< srun of Slurm
};

/// Which of the processes that train together this one is, and where they meet. A program that no
/// launcher started has the default: one process.
struct Launch {
  Launcher launcher = Launcher::None;  ///< what started the processes
  std::uint32_t rank = 0;              ///< the number of this process: 0, ..., size - 1
  std::uint32_t local_rank = 0;        ///< its number on its machine, which selects the GPU
  std::uint32_t size = 1;              ///< the number of processes
  /// True if all processes are on this machine.
  bool is_one_machine = true;
  /// The machine of rank 0, or of the agent of torchrun: a name or an address. Empty if the
  /// processes, which are all on this machine, meet through a file.
  std::string host;
  std::uint16_t port = 0;  ///< the port on `host`
  /// True if an agent of torchrun listens on the port. If false, rank 0 does.
  bool has_agent_store = false;
  /// Identifies the run among those that use the same port or the same machine. May be empty.
  std::string job;

  /// The value of an environment variable, or none if it is not set.
  using Environment = std::function<std::optional<std::string>(const char* name)>;

  /// What the environment of this process says. Looks at the following variables, in this order:
  ///
  ///   1. torchrun: RANK, WORLD_SIZE; LOCAL_RANK, 0 if not set
  ///   2. Open MPI: OMPI_COMM_WORLD_RANK, OMPI_COMM_WORLD_SIZE, OMPI_COMM_WORLD_LOCAL_RANK
  ///   3. MPICH: PMI_RANK, PMI_SIZE, MPI_LOCALRANKID
  ///   4. Slurm, in a step that srun started: SLURM_STEP_ID, SLURM_PROCID, SLURM_STEP_NUM_TASKS,
  ///      SLURM_LOCALID
  ///
  /// If there are none, it is one process. MASTER_ADDR and MASTER_PORT say where rank 0 is, for
  /// each of these. Without them, processes on one machine meet through a file. Slurm's on several
  /// machines meet on the first machine of SLURM_STEP_NODELIST, on a port between 10000 and 29999
  /// that depends on the job and the step.
  ///
  /// Throws Error (InvalidArgument) if a variable has an impossible value, if only some of the
  /// variables of a launcher are set, or if processes on several machines have no MASTER_ADDR.
  /// Safe from any thread, if none changes the environment. Costs nothing but the look-ups.
  static Launch from_environment();
  /// The same with variables from elsewhere, for tests.
  static Launch from_environment(const Environment& environment);
};

namespace detail {

/// Finds numbers and names in an environment.
class LaunchReader {
 public:
  explicit LaunchReader(const Launch::Environment& environment) : environment_(environment) {}

  std::optional<std::string> text(const char* name) const { return environment_(name); }
  bool has(const char* name) const { return text(name).has_value(); }

  /// A whole number from `least` to `most`, or none if the variable is not set.
  std::optional<std::uint64_t> number(const char* name, std::uint64_t least,
                                      std::uint64_t most) const {
    const std::optional<std::string> found = text(name);
    if (!found) return std::nullopt;
    const std::optional<std::uint64_t> value = parsed(*found);
    if (!value || *value < least || *value > most) {
      throw Error(ErrorCode::InvalidArgument,
                  std::string("the environment variable ") + name + " is " + in_quotes(*found) +
                      ": expected a whole number from " + std::to_string(least) + " to " +
                      std::to_string(most) +
                      "; correct it, or unset it if no launcher started this program");
    }
    return value;
  }

  /// As number(), for a variable without which the variable `other` makes no sense.
  std::uint64_t needed(const char* name, const char* other, std::uint64_t least,
                       std::uint64_t most) const {
    if (const auto value = number(name, least, most)) return *value;
    throw Error(ErrorCode::InvalidArgument,
                std::string("the environment variable ") + other + " is set, but " + name +
                    " is not: expected both; set " + name + ", or unset " + other +
                    " if no launcher started this program");
  }

  /// The ranks and the size of a launch, by the names of its variables.
  Launch ranks(Launcher launcher, const char* rank, const char* size,
               const char* local_rank) const {
    Launch launch;
    launch.launcher = launcher;
    const char* const set = has(rank) ? rank : has(size) || !local_rank ? size : local_rank;
    launch.size = static_cast<std::uint32_t>(needed(size, set, 1, kMost));
    launch.rank = static_cast<std::uint32_t>(needed(rank, set, 0, kMost));
    if (launch.rank >= launch.size) {
      throw Error(ErrorCode::InvalidArgument,
                  std::string("the environment variable ") + rank + " is " +
                      std::to_string(launch.rank) + ": expected less than " + size + ", which is " +
                      std::to_string(launch.size) + "; ranks are counted from 0");
    }
    if (local_rank) {
      launch.local_rank = static_cast<std::uint32_t>(needed(local_rank, rank, 0, launch.size - 1));
    }
    return launch;
  }

  static constexpr std::uint64_t kMost = std::numeric_limits<std::int32_t>::max();

 private:
  static std::optional<std::uint64_t> parsed(std::string_view digits) {
    if (digits.empty() || digits.size() > 18) return std::nullopt;
    std::uint64_t value = 0;
    for (const char c : digits) {
      if (c < '0' || c > '9') return std::nullopt;
      value = 10 * value + static_cast<std::uint64_t>(c - '0');
    }
    return value;
  }

  const Launch::Environment& environment_;
};

/// The first machine of a list in Slurm's form, such as "gpu[07-09,12],big1"; empty if it has none.
inline std::string first_host(std::string_view list) {
  std::string host;
  while (!list.empty() && list.front() != ',') {
    if (list.front() != '[') {
      host += list.front();
      list.remove_prefix(1);
      continue;
    }
    const std::size_t close = list.find(']');
    if (close == std::string_view::npos) return {};
    const std::string_view numbers = list.substr(1, close - 1);
    host += numbers.substr(0, numbers.find_first_of("-,"));
    list.remove_prefix(close + 1);
  }
  return host;
}

/// Sets where rank 0 is, from MASTER_ADDR and MASTER_PORT. Returns false if there is no
/// MASTER_ADDR.
inline bool take_master(const LaunchReader& reader, Launch& launch) {
  const std::optional<std::string> host = reader.text("MASTER_ADDR");
  if (!host) {
    if (!reader.has("MASTER_PORT")) return false;
    (void)reader.needed("MASTER_ADDR", "MASTER_PORT", 0, 0);  // throws
  }
  if (host->empty()) {
    throw Error(ErrorCode::InvalidArgument,
                "the environment variable MASTER_ADDR is empty: expected the name or the address "
                "of the machine of rank 0");
  }
  launch.host = *host;
  launch.port = static_cast<std::uint16_t>(reader.needed("MASTER_PORT", "MASTER_ADDR", 1, 65535));
  return true;
}

/// What to do if processes are on several machines, and nothing says where rank 0 is.
[[noreturn]] inline void throw_no_master(const Launch& launch, const char* way_out) {
  throw Error(ErrorCode::InvalidArgument,
              "the environment variable MASTER_ADDR is not set, and the " +
                  std::to_string(launch.size) +
                  " ranks are not known to be on one machine: expected the address of the machine "
                  "of rank 0 in MASTER_ADDR and a free port of it in MASTER_PORT; " +
                  way_out);
}

inline Launch torchrun_launch(const LaunchReader& reader) {
  Launch launch = reader.ranks(Launcher::Torchrun, "RANK", "WORLD_SIZE", nullptr);
  launch.local_rank =
      static_cast<std::uint32_t>(reader.number("LOCAL_RANK", 0, launch.size - 1).value_or(0));
  const auto here = reader.number("LOCAL_WORLD_SIZE", 1, launch.size);
  launch.is_one_machine = here.value_or(1) == launch.size;
  launch.job = reader.text("TORCHELASTIC_RUN_ID").value_or("");
  if (launch.size == 1) return launch;
  if (take_master(reader, launch)) {
    launch.has_agent_store = reader.text("TORCHELASTIC_USE_AGENT_STORE") == "True";
  } else if (!launch.is_one_machine) {
    throw_no_master(launch, "torchrun sets both");
  }
  return launch;
}

inline Launch open_mpi_launch(const LaunchReader& reader) {
  Launch launch = reader.ranks(Launcher::OpenMpi, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
                               "OMPI_COMM_WORLD_LOCAL_RANK");
  const auto here = reader.number("OMPI_COMM_WORLD_LOCAL_SIZE", 1, launch.size);
  launch.is_one_machine = here.value_or(1) == launch.size;
  launch.job = reader.text("PMIX_NAMESPACE").value_or("");
  if (launch.size > 1 && !take_master(reader, launch) && !launch.is_one_machine) {
    throw_no_master(launch, "mpirun -x MASTER_ADDR=... -x MASTER_PORT=... sets them");
  }
  return launch;
}

inline Launch mpich_launch(const LaunchReader& reader) {
  Launch launch = reader.ranks(Launcher::Mpich, "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID");
  const auto here = reader.number("MPI_LOCALNRANKS", 1, launch.size);
  launch.is_one_machine = here.value_or(1) == launch.size;
  if (launch.size > 1 && !take_master(reader, launch) && !launch.is_one_machine) {
    throw_no_master(launch, "mpiexec -genv MASTER_ADDR ... -genv MASTER_PORT ... sets them");
  }
  return launch;
}

/// False in a batch script, and in the shell of an allocation: those have Slurm's variables, too.
inline bool is_slurm_step(const LaunchReader& reader) {
  constexpr std::uint64_t kFirstSpecialStep = 0xfffffff0;  // of batch scripts and shells
  if (!reader.has("SLURM_PROCID")) return false;
  const auto step = reader.number("SLURM_STEP_ID", 0, std::numeric_limits<std::uint32_t>::max());
  return step && *step < kFirstSpecialStep;
}

inline Launch slurm_launch(const LaunchReader& reader) {
  Launch launch =
      reader.ranks(Launcher::Slurm, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID");
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint32_t>::max();
  const std::uint64_t job = reader.needed("SLURM_JOB_ID", "SLURM_STEP_ID", 0, kMost);
  const std::uint64_t step = reader.needed("SLURM_STEP_ID", "SLURM_PROCID", 0, kMost);
  launch.job = std::to_string(job) + "." + std::to_string(step);
  launch.is_one_machine = reader.number("SLURM_STEP_NUM_NODES", 1, LaunchReader::kMost) == 1;
  if (launch.size == 1 || take_master(reader, launch) || launch.is_one_machine) return launch;
  const std::string list = reader.text("SLURM_STEP_NODELIST").value_or("");
  launch.host = first_host(list);
  if (launch.host.empty()) {
    throw Error(ErrorCode::InvalidArgument,
                "the environment variable SLURM_STEP_NODELIST is " + in_quotes(list) +
                    ": expected a list of machines, such as \"node[1-4]\"; or set MASTER_ADDR and "
                    "MASTER_PORT");
  }
  launch.port = static_cast<std::uint16_t>(10000 + (31 * job + step) % 20000);
  return launch;
}

}  // namespace detail

inline Launch Launch::from_environment(const Environment& environment) {
  const detail::LaunchReader reader(environment);
  if (reader.has("RANK") || reader.has("WORLD_SIZE")) return detail::torchrun_launch(reader);
  if (reader.has("OMPI_COMM_WORLD_RANK") || reader.has("OMPI_COMM_WORLD_SIZE")) {
    return detail::open_mpi_launch(reader);
  }
  // Slurm's own PMI sets PMI_RANK, too, but not the other one.
  const bool is_slurm = detail::is_slurm_step(reader);
  if (reader.has("MPI_LOCALRANKID") || (reader.has("PMI_RANK") && !is_slurm)) {
    return detail::mpich_launch(reader);
  }
  return is_slurm ? detail::slurm_launch(reader) : Launch();
}

inline Launch Launch::from_environment() {
  return from_environment([](const char* name) -> std::optional<std::string> {
    const char* const value = std::getenv(name);
    return value ? std::optional<std::string>(value) : std::nullopt;
  });
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_WORLD_LAUNCH_HPP_
