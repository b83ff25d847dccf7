// Stands in front of every kernel text: the parts of CUDA C++ that NVRTC knows without an #include.
#pragma once

#include "keywords.h"
#include "vector_types.h"
#include "interface.h"
#include "synchronisation.h"
#include "shared_memory.h"
#include "atomics.h"
#include "intrinsics.h"
#include "ptx.h"
#include "launch.h"
