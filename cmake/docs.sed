# What Doxygen is to see of the sources, line by line, so that its warnings name the right ones.

# Names without the namespace of the version, which nobody has to write.
s/^TORCH_NPY_BEGIN_NAMESPACE$/namespace torch_npy {/
s/^TORCH_NPY_END_NAMESPACE$/}/

# Of namespace detail, what datasets and transforms inherit from there, without its protected half.
/^namespace detail \{$/,/^\}  \/\/ namespace detail$/ {
  /^\/\/ The API reference shows this one/,/^\};$/ {
    /^ (protected|private):$/,/^\};$/ {
      /^\};$/ !s/.*//
    }
    b
  }
  /^(namespace detail \{|\}  \/\/ namespace detail)$/ !s/.*//
}

/^inline [^(]* detail::[a-z_]+\(/,/^\}$/ s/.*//

# Deduction guides say what the constructors say.
/^[A-Z][A-Za-z]*\(/ {
  :join
  /;$/ !{
    N
    b join
  }
  s/[^\n]+//g
}

# What the standard library asks of every iterator.
/^ *using (iterator_category|value_type|difference_type|pointer|reference) = .*;$/ s/.*//

# An option of LibTorch's macro as the call that sets it, and its default, for which the pages have
# no place of their own.
/^struct [A-Za-z]+ \{$/ {
  h
  s/^struct (.*) \{$/\1/
  x
}
/^ *TORCH_ARG\(.*;$/ {
  G
  s/TORCH_ARG\((.*), ([a-z_]+)\);\n(.*)/TORCH_ARG(\1, \2) = \1();\n\3/
  s/TORCH_ARG\((.*), ([a-z_]+)\) = (.*);\n(.*)/public: \4\& \2(\1 value); \/**< Default: `\3`. *\//
}

# In the README: pictures, links to its own headings and to files beside it, which are no pages, and quotes
# in code, which end it for Doxygen unless there are two backticks.
s/!\[([^][]*)\]\([^)]*\)/\1./
s/\[([^][]*)\]\((#|LICENSE|examples\/)[^)]*\)/\1/g
s/`([a-z_.(]*'[^`]*)`/``\1``/g
