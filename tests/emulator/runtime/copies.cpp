// The copies that a thread has begun with cp.async and not yet waited for, in groups.
#include "state.h"

namespace cuda_emulator {

void forget_copies(Thread& thread) {
  thread.copies.clear();
  thread.copy_group = 0;
}

void begin_copy(const AsynchronousCopy& copy) {
  running->copies.push_back({copy, running->copy_group});
}

void commit_copies() {
  ++running->copy_group;
}

static AsynchronousCopy take_first(Thread& thread) {
  const AsynchronousCopy copy = thread.copies.front().copy;
  thread.copies.pop_front();
  return copy;
}

bool complete_copy(int groups_left, AsynchronousCopy& copy) {
  Thread& self = *running;
  // Groups are numbered from 0 and `copy_group` is the open one; a copy in it is not waited for.
  if (self.copies.empty() || self.copies.front().group + static_cast<uint64_t>(groups_left) >= self.copy_group) {
    return false;
  }
  copy = take_first(self);
  return true;
}

bool complete_any_copy(AsynchronousCopy& copy) {
  Thread& self = *running;
  if (self.copies.empty()) {
    return false;
  }
  copy = take_first(self);
  return true;
}

}  // namespace cuda_emulator
