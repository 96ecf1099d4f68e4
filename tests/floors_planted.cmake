# Plants each kind of fault in a copy of include/torch_npy, and fails unless floors.cmake finds it:
#
#   cmake -DFOLDER=FOLDER -P floors_planted.cmake
#
# FOLDER is for the copy.
cmake_minimum_required(VERSION 3.21)

set(include "${CMAKE_CURRENT_LIST_DIR}/../include/torch_npy")
set(copy "${FOLDER}/torch_npy")

function(check_floors what words)
  execute_process(COMMAND "${CMAKE_COMMAND}" "-DINCLUDE=${copy}" -P "${CMAKE_CURRENT_LIST_DIR}/floors.cmake"
    RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  string(FIND "${output}" "${words}" found)
  if(words STREQUAL "")
    if(NOT result EQUAL 0)
      message(FATAL_ERROR "${what}: refused.\n${output}")
    endif()
  elseif(result EQUAL 0 OR found EQUAL -1)
    message(FATAL_ERROR "${what}: not found, expected was \"${words}\".\n${output}")
  endif()
endfunction()

function(start)
  file(REMOVE_RECURSE "${FOLDER}")
  file(COPY "${include}" DESTINATION "${FOLDER}")
endfunction()

# Adds lines to a header, which is made if there is none. No `words`: it is no fault.
function(plant what header line words)
  start()
  file(APPEND "${copy}/${header}" "${line}\n")
  check_floors("${what}" "${words}")
endfunction()

start()
check_floors("no fault" "")

# Arrows that go up.
foreach(pair IN ITEMS error:format/dtype format/header:io/file io/file:zip/codec zip/reader:tensor/load
    tensor/npz:data/dataset version:data/batch format:io/file io:tensor/load)
  string(REPLACE ":" ";" pair "${pair}")
  list(GET pair 0 from)
  list(GET pair 1 to)
  plant("an arrow that goes up" "${from}.hpp" "#include <torch_npy/${to}.hpp>" "${from}.hpp: <torch_npy/${to}.hpp> goes up")
endforeach()
plant("an arrow with blanks" io/file.hpp "  #  include <torch_npy/zip/codec.hpp>  // up" "goes up, from the floor io to zip")
plant("an arrow that goes down" data/dataset.hpp "#include <torch_npy/format/dtype.hpp>" "")
plant("an umbrella and a floor below" data.hpp "#include <torch_npy/tensor/load.hpp>" "")

# Umbrella headers, which are for users.
foreach(header IN ITEMS io/file data/dataset error tensor data)
  plant("an umbrella header in use" "${header}.hpp" "#include <torch_npy/format.hpp>" "<torch_npy/format.hpp> is for users")
endforeach()
plant("an umbrella header of the own floor" io/file.hpp "#include <torch_npy/io.hpp>" "is for users")

# Headers outside their floor, and headers that do not exist.
plant("a header on no floor" load.hpp "" "load.hpp: a header outside its floor")
plant("a floor of its own" net/socket.hpp "" "net/socket.hpp: a header outside its floor")
plant("a folder in a floor" tensor/detail/load.hpp "" "tensor/detail/load.hpp: a header outside its floor")
plant("a file that is no header" io/notes.txt "" "io/notes.txt: a header outside its floor")
plant("an include of no header" io/file.hpp "#include <torch_npy/io/none.hpp>" "there is no header <torch_npy/io/none.hpp>")
plant("an include in quotes" io/file.hpp "#include \"folder.hpp\"" "an include line without <...>")

# LibTorch below the floor tensor, its data loader below the floor data.
foreach(name IN ITEMS ATen/core/Tensor.h c10/core/Device.h torch/version.h)
  foreach(header IN ITEMS error format/dtype io/file zip/codec io)
    plant("LibTorch" "${header}.hpp" "#include <${name}>" "${header}.hpp: <${name}> belongs to the floors tensor and data")
  endforeach()
  plant("LibTorch where it belongs" tensor/plan.hpp "#include <${name}>" "")
endforeach()
foreach(name IN ITEMS torch/data.h torch/data/samplers/base.h)
  plant("LibTorch's data loader" tensor/load.hpp "#include <${name}>" "<${name}> belongs to the floor data")
  plant("LibTorch's data loader where it belongs" data/batch.hpp "#include <${name}>" "")
endforeach()

# The operating system, and other libraries.
foreach(name IN ITEMS unistd.h sys/stat.h windows.h linux/fs.h)
  foreach(header IN ITEMS io/file format/header zip/reader tensor/memory data/prefetch)
    plant("the operating system" "${header}.hpp" "#include <${name}>" "${header}.hpp: <${name}> belongs to io/system_*.hpp")
  endforeach()
  plant("the operating system where it belongs" io/system_posix.hpp "#include <${name}>" "")
endforeach()
plant("another library" zip/reader.hpp "#include <libdeflate.h>" "<libdeflate.h> belongs to")
plant("the standard library" format/dtype.hpp "#include <string_view>" "")

# Umbrella headers that are incomplete or missing.
foreach(floor IN ITEMS format io tensor data)
  plant("a header that its umbrella lacks" "${floor}/fresh.hpp" "" "${floor}.hpp: it does not include <torch_npy/${floor}/fresh.hpp>")
  start()
  file(REMOVE "${copy}/${floor}.hpp")
  check_floors("an umbrella header that is missing" "${floor}.hpp: there is no such umbrella header")
endforeach()

# The component for object stores, which stands on all floors.
plant("arrow.hpp" arrow.hpp "#include <arrow/filesystem/api.h>\n#include <torch_npy/data/dataset.hpp>" "")
# The component for several processes, which stands on all floors, too.
plant("world.hpp" world.hpp "#include <torch_npy/data/loader.hpp>\n#include <torch/csrc/distributed/c10d/TCPStore.hpp>" "")
plant("a part of world.hpp" world/launch.hpp "#include <unistd.h>" "")
foreach(header IN ITEMS world world/launch)
  plant("an arrow that goes up to world.hpp" data/loader.hpp "#include <torch_npy/${header}.hpp>" "goes up, from the floor data to top")
endforeach()
file(REMOVE_RECURSE "${FOLDER}")
