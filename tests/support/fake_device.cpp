// Registers the fake accelerator with LibTorch, once in a program.

#include "support/fake_device.hpp"

#include <torch/library.h>

C10_REGISTER_GUARD_IMPL(PrivateUse1, fake_device::Guard)

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", &fake_device::empty);
  library.impl("empty_strided", &fake_device::empty_strided);
  library.impl("_copy_from", &fake_device::copy_from);
}
