// The first failure of a launch, and what a waiting thread is called in it.
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "state.h"

namespace cuda_emulator {

static char message[2000];

bool failed() {
  return message[0] != '\0';
}

const char* failure_message() {
  return message;
}

void clear_failure() {
  message[0] = '\0';
}

static void record(const char* format, va_list arguments) {
  if (!failed()) {
    vsnprintf(message, sizeof(message), format, arguments);
  }
}

void record_failure(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  record(format, arguments);
  va_end(arguments);
}

void fail(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  record(format, arguments);
  va_end(arguments);
  // The launch ends here: nobody switches back to a thread that failed.
  switch_to(host);
  __builtin_unreachable();
}

const char* describe(const Thread& thread) {
  static char buffers[8][200];
  static unsigned next = 0;
  static const char* const names[] = {"__syncthreads", "__syncwarp", "a shuffle", "a vote",
                                      "a match, reduction or ldmatrix", "mma"};
  char* buffer = buffers[next++ % 8];
  const char* file = strrchr(thread.site.file, '/');
  file = file != nullptr ? file + 1 : thread.site.file;
  const char* name = names[static_cast<int>(thread.operation)];
  if (thread.operation == Operation::block_barrier) {
    snprintf(buffer, sizeof(buffers[0]), "%s at %s:%d", name, file, thread.site.line);
  } else {
    snprintf(buffer, sizeof(buffers[0]), "%s at %s:%d with mask 0x%08x", name, file, thread.site.line, thread.mask);
  }
  return buffer;
}

}  // namespace cuda_emulator
