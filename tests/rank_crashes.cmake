# Runs COMMAND, in which rank CRASHING of two does crash: the other has to notice and end, and the
# command to fail and say who did what.

execute_process(COMMAND ${COMMAND} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
math(EXPR other "1 - ${CRASHING}")
if(result EQUAL 0)
  message(FATAL_ERROR "the command succeeded:\n${output}")
endif()
foreach(words IN ITEMS
    "rank ${CRASHING} died: Abort"
    "rank ${other}: [^\n]*([Cc]onnection|peer|reset)"
    "rank ${other} ended with exit code 1")
  if(NOT output MATCHES "${words}")
    message(FATAL_ERROR "nothing says '${words}':\n${output}")
  endif()
endforeach()
