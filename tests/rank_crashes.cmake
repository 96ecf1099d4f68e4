# Runs COMMAND, in which rank CRASHING of two crashes: the other rank must notice it and end, and the
# command must fail and name the rank that crashed.

execute_process(COMMAND ${COMMAND} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
math(EXPR other "1 - ${CRASHING}")
if(result EQUAL 0)
  message(FATAL_ERROR "the command succeeded:\n${output}")
endif()
foreach(words IN ITEMS
    "rank ${CRASHING} died: Abort"
    "rank ${other} of 2: [a-z]+ failed: [^\n]*([Cc]onnection|peer|reset)[^\n]*a rank has ended"
    "rank ${other} ended with exit code 1")
  if(NOT output MATCHES "${words}")
    message(FATAL_ERROR "nothing says '${words}':\n${output}")
  endif()
endforeach()
