# Wrong uses of map() and stacked() give one error each, which says what to do. The use of `data` of a list of samples gives
# an error that names stacked().
#
#   cmake -DCOMPILER=g++ "-DFLAGS=-std=c++17;-I..." -P tests/data/wrong_map.cmake
#
# FLAGS has what LibTorch needs.
cmake_minimum_required(VERSION 3.21)
get_filename_component(root "${CMAKE_CURRENT_LIST_DIR}/../.." ABSOLUTE)
set(folder "${CMAKE_CURRENT_BINARY_DIR}/wrong_map")
file(MAKE_DIRECTORY "${folder}")

set(header "${folder}/datasets.hpp")
file(WRITE "${header}" "#include <torch_npy/data/dataset.hpp>
#include <torch_npy/data/transforms.hpp>
")
# Precompiled where the compiler can do that: the headers take most of the time.
set(compile "${COMPILER}" ${FLAGS} "-I${root}/include")
execute_process(COMMAND ${compile} -x c++-header "${header}" -o "${header}.gch" OUTPUT_QUIET ERROR_QUIET)

# Compiles a function with this body; sets `errors` to the lines of its errors.
function(compile name body)
  file(WRITE "${folder}/${name}.cpp"
    "using namespace torch_npy;\nvoid use(const Dataset<>& data) {\n  ${body}\n}\n")
  execute_process(COMMAND ${compile} -include "${header}" -fsyntax-only "${folder}/${name}.cpp"
    RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  string(REPLACE ";" ":" lines "${output}")
  string(REGEX MATCHALL "[^\n]*error: [^\n]*" errors "${lines}")
  set(errors "${errors}" PARENT_SCOPE)
  set(result "${result}" PARENT_SCOPE)
  set(output "${output}" PARENT_SCOPE)
endfunction()

function(check_refused name words body)
  compile("${name}" "${body}")
  list(LENGTH errors count)
  if(NOT count EQUAL 1 OR NOT errors MATCHES "static assertion failed|static_assert failed"
      OR NOT errors MATCHES "${words}")
    file(REMOVE "${header}.gch")
    message(FATAL_ERROR "${name}: expected one error with the words \"${words}\", found:\n${output}")
  endif()
endfunction()

# The other programs are wrong for one reason only.
compile(right [[(void)data.map([](Example<>& one) { one.data.mul_(2); }).stacked().get_batch({0});]])
if(NOT result EQUAL 0)
  message(FATAL_ERROR "a right program does not compile:\n${output}")
endif()

set(unfit "this transform or function does not take what the dataset gives")
check_refused(sample_after_stacked "${unfit}"
  [[(void)data.stacked().map([](Example<> one) { return one; }).get_batch({0});]])
check_refused(pad_stack_after_stacked "${unfit}"
  [[(void)data.stacked().map(transforms::PadStack()).get_batch({0});]])
check_refused(normalize_of_libtorch_after_stacked "${unfit}"
  [[(void)data.stacked().map(torch::data::transforms::Normalize<>(0.5, 0.5)).get_batch({0});]])
check_refused(stack_after_stacked "${unfit}" [[(void)data.stacked().map(transforms::Stack<>()).get_batch({0});]])
check_refused(mutable_function "${unfit}"
  [[(void)data.map([n = 0](Example<> one) mutable { ++n; return one; }).get_batch({0});]])
check_refused(other_sample_type "${unfit}" [[(void)data.map([](TensorExample one) { return one; }).get_batch({0});]])
check_refused(generic_function_of_samples "${unfit}" [[(void)data.map([](auto one) { return one; }).get_batch({0});]])
check_refused(returns_nothing "this function returns nothing"
  [[(void)data.map([](Example<> one) { one.data.mul_(2); }).get_batch({0});]])
check_refused(batch_returns_nothing "this function returns nothing"
  [[(void)data.stacked().map([](Batch<> batch) { batch.data.mul_(2); }).get_batch({0});]])
check_refused(stacked_twice "this dataset is stacked already" [[(void)data.stacked().stacked().get_batch({0});]])
check_refused(get_after_stacked "a stacked dataset has get_batch" [[(void)data.stacked().get(0);]])
check_refused(cached_after_stacked "call it before .stacked" [[(void)data.stacked().cached(1);]])

foreach(body IN ITEMS "(void)batch.data.size(0)" "at::Tensor data = batch.data" "auto data = batch.data")
  compile(data_of_a_list "const auto batch = data.get_batch({0}); ${body};")
  if(result EQUAL 0 OR NOT output MATCHES "CallStackedOnTheDataset")
    file(REMOVE "${header}.gch")
    message(FATAL_ERROR "${body}: expected an error that names stacked(), found:\n${output}")
  endif()
endforeach()
file(REMOVE "${header}.gch")
