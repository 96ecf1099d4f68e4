# Filters what Doxygen reads. The number of lines stays the same, so that its warnings name the right lines.

# Names without the inline namespace of the version, which users do not write.
s/^TORCH_NPY_BEGIN_NAMESPACE$/namespace torch_npy {/
s/^TORCH_NPY_END_NAMESPACE$/}/

# Hides namespace detail, except for base classes whose public members users call.
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

# Hides deduction guides: they repeat the constructors.
/^[A-Z][A-Za-z]*\(/ {
  :join
  /;$/ !{
    N
    b join
  }
  s/[^\n]+//g
}

# Hides the member types that every iterator has.
/^ *using (iterator_category|value_type|difference_type|pointer|reference) = .*;$/ s/.*//

# Shows an option that LibTorch's macro declares as the function that sets it, with its default.
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

# In Markdown: images become their text, and so do links to headings and to files that are not pages. Code that contains a
# quote gets two backticks, because a quote ends code with one.
s/!\[([^][]*)\]\([^)]*\)/\1./
s/\[([^][]*)\]\((#|LICENSE|(\.\.\/)?(examples|tests)\/)[^)]*\)/\1/g
s/`([a-z_.(]*'[^`]*)`/``\1``/g
