// What launchers say in the environment.

#include <torch_npy/world/launch.hpp>

#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "support/catch.hpp"

using namespace torch_npy;

namespace {

using Variables = std::map<std::string, std::string>;

Launch launch(const Variables& variables) {
  return Launch::from_environment([&](const char* name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    return found == variables.end() ? std::nullopt : std::optional(found->second);
  });
}

Variables with(Variables variables, const Variables& more) {
  for (const auto& [name, value] : more) variables[name] = value;
  return variables;
}

Variables without(Variables variables, const std::string& name) {
  variables.erase(name);
  return variables;
}

/// The words of the Error that launch() throws.
void check_refused(const Variables& variables, std::initializer_list<const char*> words) {
  try {
    launch(variables);
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::InvalidArgument);
    INFO(error.what());
    for (const char* word : words) {
      INFO(word);
      CHECK(std::string(error.what()).find(word) != std::string::npos);
    }
    return;
  }
  FAIL("accepted");
}

const Variables kTorchrun = {{"RANK", "5"},
                             {"LOCAL_RANK", "1"},
                             {"WORLD_SIZE", "8"},
                             {"LOCAL_WORLD_SIZE", "2"},
                             {"MASTER_ADDR", "10.0.0.1"},
                             {"MASTER_PORT", "29400"},
                             {"TORCHELASTIC_RUN_ID", "mnist"},
                             {"TORCHELASTIC_USE_AGENT_STORE", "True"},
                             {"TORCHELASTIC_RESTART_COUNT", "2"}};
const Variables kOpenMpi = {{"OMPI_COMM_WORLD_RANK", "1"},
                            {"OMPI_COMM_WORLD_SIZE", "2"},
                            {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                            {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                            {"PMIX_NAMESPACE", "698155009"}};
const Variables kMpich = {
    {"PMI_RANK", "1"}, {"PMI_SIZE", "3"}, {"MPI_LOCALRANKID", "1"}, {"MPI_LOCALNRANKS", "3"}};
const Variables kSlurm = {{"SLURM_JOB_ID", "1234"},      {"SLURM_STEP_ID", "0"},
                          {"SLURM_PROCID", "3"},         {"SLURM_LOCALID", "1"},
                          {"SLURM_STEP_NUM_TASKS", "4"}, {"SLURM_STEP_NUM_NODES", "2"},
                          {"SLURM_NTASKS", "4"},         {"SLURM_STEP_NODELIST", "gpu[07-08]"}};

}  // namespace

TEST_CASE("without a launcher there is one process", "[world]") {
  for (const Variables& variables :
       {Variables{}, Variables{{"LOCAL_RANK", "1"}, {"MASTER_ADDR", "a"}, {"MASTER_PORT", "1"}}}) {
    const Launch found = launch(variables);
    CHECK(found.launcher == Launcher::None);
    CHECK(found.rank == 0);
    CHECK(found.local_rank == 0);
    CHECK(found.size == 1);
  }
}

TEST_CASE("the variables of torchrun", "[world]") {
  const Launch found = launch(kTorchrun);
  CHECK(found.launcher == Launcher::Torchrun);
  CHECK(found.rank == 5);
  CHECK(found.local_rank == 1);
  CHECK(found.size == 8);
  CHECK(!found.is_one_machine);
  CHECK(found.host == "10.0.0.1");
  CHECK(found.port == 29400);
  CHECK(found.has_agent_store);
  CHECK(found.job == "mnist");
  CHECK(!launch(with(kTorchrun, {{"TORCHELASTIC_USE_AGENT_STORE", "False"}})).has_agent_store);
  CHECK(!launch(without(kTorchrun, "TORCHELASTIC_USE_AGENT_STORE")).has_agent_store);
  CHECK(launch(without(kTorchrun, "LOCAL_RANK")).local_rank == 0);
  // Ranks that somebody started by hand on one machine.
  const Launch by_hand = launch({{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"LOCAL_WORLD_SIZE", "2"}});
  CHECK(by_hand.is_one_machine);
  CHECK(by_hand.host.empty());
}

TEST_CASE("the variables of mpirun", "[world]") {
  const Launch open_mpi = launch(kOpenMpi);
  CHECK(open_mpi.launcher == Launcher::OpenMpi);
  CHECK(open_mpi.rank == 1);
  CHECK(open_mpi.local_rank == 1);
  CHECK(open_mpi.size == 2);
  CHECK(open_mpi.is_one_machine);
  CHECK(open_mpi.host.empty());
  CHECK(open_mpi.job == "698155009");
  const Launch mpich = launch(kMpich);
  CHECK(mpich.launcher == Launcher::Mpich);
  CHECK(mpich.rank == 1);
  CHECK(mpich.local_rank == 1);
  CHECK(mpich.size == 3);
  CHECK(mpich.is_one_machine);
  for (const Variables& variables : {with(kOpenMpi, {{"OMPI_COMM_WORLD_LOCAL_SIZE", "1"}}),
                                     without(kOpenMpi, "OMPI_COMM_WORLD_LOCAL_SIZE"),
                                     with(kMpich, {{"MPI_LOCALNRANKS", "2"}})}) {
    check_refused(variables, {"MASTER_ADDR is not set", "MASTER_PORT", "sets them"});
    const Launch found =
        launch(with(variables, {{"MASTER_ADDR", "node1"}, {"MASTER_PORT", "1234"}}));
    CHECK(!found.is_one_machine);
    CHECK(found.host == "node1");
    CHECK(found.port == 1234);
  }
}

TEST_CASE("the variables of a step of Slurm", "[world]") {
  const Launch found = launch(kSlurm);
  CHECK(found.launcher == Launcher::Slurm);
  CHECK(found.rank == 3);
  CHECK(found.local_rank == 1);
  CHECK(found.size == 4);
  CHECK(!found.is_one_machine);
  CHECK(found.host == "gpu07");
  CHECK(found.port == 10000 + 31 * 1234 % 20000);
  CHECK(found.job == "1234.0");
  CHECK(launch(with(kSlurm, {{"SLURM_STEP_ID", "1"}})).port == found.port + 1);
  CHECK(launch(with(kSlurm, {{"SLURM_STEP_NUM_NODES", "1"}})).host.empty());
  const Launch named = launch(with(kSlurm, {{"MASTER_ADDR", "b"}, {"MASTER_PORT", "7"}}));
  CHECK(named.host == "b");
  CHECK(named.port == 7);
  // Slurm's own PMI sets these, too.
  CHECK(launch(with(kSlurm, {{"PMI_RANK", "3"}, {"PMI_SIZE", "4"}})).launcher == Launcher::Slurm);
}

TEST_CASE("a batch script and a shell of Slurm are one process", "[world]") {
  CHECK(launch(without(kSlurm, "SLURM_STEP_ID")).launcher == Launcher::None);
  CHECK(launch(without(kSlurm, "SLURM_PROCID")).launcher == Launcher::None);
  for (const char* special : {"4294967290", "4294967291", "4294967292"}) {
    CHECK(launch(with(kSlurm, {{"SLURM_STEP_ID", special}})).launcher == Launcher::None);
  }
}

TEST_CASE("the first machine of Slurm's list", "[world]") {
  const std::map<std::string, std::string> hosts = {
      {"a", "a"},        {"a,b", "a"},          {"n[1-3]", "n1"},           {"n[01,07-9],m", "n01"},
      {"m,n[1-2]", "m"}, {"n[12]", "n12"},      {"r[1-2]n[3-4]x", "r1n3x"}, {"", ""},
      {"n[1", ""},       {"n-1.x[5]", "n-1.x5"}};
  for (const auto& [list, host] : hosts) {
    INFO(list);
    CHECK(torch_npy::detail::first_host(list) == host);
  }
  check_refused(without(kSlurm, "SLURM_STEP_NODELIST"), {"SLURM_STEP_NODELIST", "node[1-4]"});
  check_refused(with(kSlurm, {{"SLURM_STEP_NODELIST", "n[1"}}), {"\"n[1\"", "MASTER_ADDR"});
}

TEST_CASE("of several launchers, the one that was started last counts", "[world]") {
  const Variables all = with(with(kSlurm, kMpich), with(kOpenMpi, kTorchrun));
  CHECK(launch(all).launcher == Launcher::Torchrun);
  CHECK(launch(with(with(kSlurm, kMpich), kOpenMpi)).launcher == Launcher::OpenMpi);
  CHECK(launch(with(kSlurm, kMpich)).launcher == Launcher::Mpich);
}

TEST_CASE("impossible values are refused, with the name of the variable", "[world]") {
  for (const char* value : {"", "abc", "-1", "+1", " 1", "1 ", "1.0", "0x1", "8", "9",
                            "99999999999999999999", "4294967296"}) {
    INFO(value);
    check_refused(with(kTorchrun, {{"RANK", value}}), {"RANK is ", "expected"});
  }
  check_refused(with(kTorchrun, {{"RANK", "abc"}}),
                {"RANK is \"abc\"", "whole number", "unset it"});
  check_refused(with(kTorchrun, {{"RANK", "8"}}),
                {"RANK is 8", "less than WORLD_SIZE, which is 8"});
  check_refused(with(kTorchrun, {{"WORLD_SIZE", "0"}}), {"WORLD_SIZE is \"0\"", "from 1 to"});
  check_refused(with(kTorchrun, {{"LOCAL_RANK", "8"}}), {"LOCAL_RANK is \"8\"", "from 0 to 7"});
  check_refused(with(kTorchrun, {{"LOCAL_WORLD_SIZE", "9"}}), {"LOCAL_WORLD_SIZE"});
  check_refused(with(kTorchrun, {{"MASTER_PORT", "65536"}}), {"MASTER_PORT is \"65536\"", "65535"});
  check_refused(with(kTorchrun, {{"MASTER_ADDR", ""}}), {"MASTER_ADDR is empty"});
  check_refused(with(kSlurm, {{"SLURM_STEP_ID", "x"}}), {"SLURM_STEP_ID is \"x\""});
  check_refused(with(kSlurm, {{"SLURM_PROCID", "4"}}), {"SLURM_PROCID is 4"});
  check_refused(with(kOpenMpi, {{"OMPI_COMM_WORLD_RANK", "2"}}), {"OMPI_COMM_WORLD_RANK is 2"});
  check_refused(with(kMpich, {{"PMI_SIZE", "two"}}), {"PMI_SIZE is \"two\""});
  check_refused(with(kTorchrun, {{"RANK", "a\x1b[31m"}}), {"a\\x1b[31m"});
}

TEST_CASE("half of the variables of a launcher are refused", "[world]") {
  const auto refused = [](const Variables& all, const char* missing) {
    INFO(missing);
    check_refused(without(all, missing), {missing, "is not", "unset"});
  };
  for (const char* name : {"RANK", "WORLD_SIZE", "MASTER_PORT"}) refused(kTorchrun, name);
  check_refused(without(kTorchrun, "MASTER_ADDR"), {"MASTER_ADDR is not", "MASTER_PORT is set"});
  for (const char* name :
       {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"}) {
    refused(kOpenMpi, name);
  }
  for (const char* name : {"PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"}) refused(kMpich, name);
  check_refused({{"MPI_LOCALRANKID", "0"}}, {"MPI_LOCALRANKID is set, but PMI_SIZE is not"});
  for (const char* name : {"SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_JOB_ID"}) {
    refused(kSlurm, name);
  }
  Variables no_master = without(without(kTorchrun, "MASTER_ADDR"), "MASTER_PORT");
  check_refused(no_master, {"MASTER_ADDR is not set", "torchrun sets both"});
}
