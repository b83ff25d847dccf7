// Barriers of a block, and what the lanes of a warp do together.
//
// Lanes wait until all that are named in the mask have come; the last one to come does the work for all. Copying byte
// by byte keeps it out of sanitizers' sight: memcpy would be intercepted, and lanes of a shuffle are not ordered.
#include <string.h>

#include "sanitizers.h"
#include "state.h"

namespace cuda_emulator {

int lane() {
  return running->lane;
}

unsigned lanes_not_finished() {
  const Warp& warp = warps[running->warp];
  return warp.existing & ~warp.finished;
}

// ---- barrier of the block

int block_barrier(bool predicate, Site site) {
  static char tags[2];
  Thread& self = *running;
  const unsigned turn = block.barriers & 1;
  if (block.in_barrier == 0) {
    block.predicates[turn] = 0;
  }
  block.predicates[turn] += predicate ? 1 : 0;
  ++block.in_barrier;
  self.state = ThreadState::in_block_barrier;
  self.operation = Operation::block_barrier;
  self.site = site;
  self.mask = 0;
  release(&tags[turn]);
  wait_for_others();
  acquire(&tags[turn]);
  return block.predicates[turn];
}

// ---- collectives of a warp

struct Group {
  // Threads by lane; nullptr for lanes outside the mask.
  Thread* lanes[lanes_per_warp];
  unsigned mask;
};

typedef void (*Work)(const Group& group);

static bool all_have_come(const Warp& warp, const Group& group, Operation operation) {
  if ((warp.waiting & group.mask) != group.mask) {
    return false;
  }
  for (const Thread* thread : group.lanes) {
    if (thread != nullptr && (thread->mask != group.mask || thread->operation != operation)) {
      return false;
    }
  }
  return true;
}

static void meet(unsigned mask, Operation operation, void* payload, Work work, Site site) {
  Thread& self = *running;
  Warp& warp = warps[self.warp];
  const unsigned own = 1u << self.lane;
  self.operation = operation;
  self.site = site;
  self.mask = mask;
  self.payload = payload;
  if ((mask & own) == 0) {
    fail("thread %d (lane %d) is not in the mask of %s", self.number, self.lane, describe(self));
  }
  self.mask &= warp.existing;
  warp.waiting |= own;
  Group group;
  group.mask = self.mask;
  for (int lane = 0; lane < lanes_per_warp; ++lane) {
    const bool inside = (group.mask >> lane & 1u) != 0;
    group.lanes[lane] = inside ? &threads[self.warp * lanes_per_warp + lane] : nullptr;
  }
  if (!all_have_come(warp, group, operation)) {
    self.state = ThreadState::in_collective;
    wait_for_others();
    return;
  }
  if (work != nullptr) {
    work(group);
  }
  warp.waiting &= ~group.mask;
  for (Thread* thread : group.lanes) {
    if (thread != nullptr && thread != &self) {
      make_ready(*thread);
    }
  }
  // The last to come goes on at once, except where every order has to be possible.
  if (order == Order::random) {
    yield_thread();
  }
}

void warp_barrier(unsigned mask, Site site) {
  Warp& warp = warps[running->warp];
  release(&warp);
  meet(mask, Operation::warp_barrier, nullptr, nullptr, site);
  acquire(&warp);
}

static void copy_bytes(void* to, const void* from, size_t size) {
  volatile unsigned char* target = static_cast<volatile unsigned char*>(to);
  const unsigned char* source = static_cast<const unsigned char*>(from);
  for (size_t byte = 0; byte < size; ++byte) {
    target[byte] = source[byte];
  }
}

static void fill_bytes(void* to, size_t size) {
  volatile unsigned char* target = static_cast<volatile unsigned char*>(to);
  for (size_t byte = 0; byte < size; ++byte) {
    target[byte] = 0xFF;
  }
}

struct Exchange {
  const void* in;
  void* out;
  size_t size;
  int source;
};

static void do_exchange(const Group& group) {
  for (Thread* thread : group.lanes) {
    if (thread == nullptr) {
      continue;
    }
    const Exchange& wish = *static_cast<const Exchange*>(thread->payload);
    const Thread* source = group.lanes[wish.source & (lanes_per_warp - 1)];
    if (source == nullptr) {
      fill_bytes(wish.out, wish.size);
      continue;
    }
    const Exchange& offer = *static_cast<const Exchange*>(source->payload);
    copy_bytes(wish.out, offer.in, wish.size < offer.size ? wish.size : offer.size);
  }
}

void exchange(unsigned mask, const void* in, void* out, size_t size, int source, Site site) {
  Exchange payload = {in, out, size, source};
  meet(mask, Operation::shuffle, &payload, do_exchange, site);
}

struct Vote {
  bool predicate;
  unsigned result;
};

static void do_vote(const Group& group) {
  unsigned result = 0;
  for (int lane = 0; lane < lanes_per_warp; ++lane) {
    if (group.lanes[lane] != nullptr && static_cast<Vote*>(group.lanes[lane]->payload)->predicate) {
      result |= 1u << lane;
    }
  }
  for (Thread* thread : group.lanes) {
    if (thread != nullptr) {
      static_cast<Vote*>(thread->payload)->result = result;
    }
  }
}

unsigned ballot(unsigned mask, bool predicate, Site site) {
  Vote payload = {predicate, 0};
  meet(mask, Operation::vote, &payload, do_vote, site);
  return payload.result;
}

struct Gather {
  const void* in;
  void* out;
  size_t size;
};

static void do_gather(const Group& group) {
  for (Thread* thread : group.lanes) {
    if (thread == nullptr) {
      continue;
    }
    const Gather& wish = *static_cast<const Gather*>(thread->payload);
    for (int lane = 0; lane < lanes_per_warp; ++lane) {
      unsigned char* place = static_cast<unsigned char*>(wish.out) + static_cast<size_t>(lane) * wish.size;
      if (group.lanes[lane] == nullptr) {
        fill_bytes(place, wish.size);
      } else {
        copy_bytes(place, static_cast<const Gather*>(group.lanes[lane]->payload)->in, wish.size);
      }
    }
  }
}

unsigned gather(unsigned mask, const void* in, void* out, size_t size, Site site) {
  Gather payload = {in, out, size};
  meet(mask, Operation::gather, &payload, do_gather, site);
  return mask & warps[running->warp].existing;
}

// ---- mma.sync

struct Matrices {
  Operand operand;
  int depth;
  float* d;
  const unsigned* a;
  const unsigned* b;
};

static float float_of_bits(unsigned bits) {
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

static float widen_half(unsigned bits) {
  const unsigned short low = static_cast<unsigned short>(bits);
  _Float16 value;
  memcpy(&value, &low, sizeof(value));
  return static_cast<float>(value);
}

// Element `part` of a register: the whole of it for TF32, one of two halves otherwise.
static float element(Operand operand, unsigned bits, int part) {
  if (operand == Operand::tensor_float32) {
    return float_of_bits(bits & ~0x1FFFu);
  }
  const unsigned half = bits >> (16 * part) & 0xFFFFu;
  return operand == Operand::float16 ? widen_half(half) : float_of_bits(half << 16);
}

// Registers of a hold rows (group, group + 8) and then the same rows of the next columns; those of b hold rows of
// columns `group`. A register covers `parts` neighbours along the depth, and four lanes stand side by side.
static void do_multiply(const Group& group) {
  const Matrices& first = *static_cast<const Matrices*>(group.lanes[0]->payload);
  const int depth = first.depth;
  const int parts = first.operand == Operand::tensor_float32 ? 1 : 2;
  const int columns = 4 * parts;
  float a[16][16];
  float b[16][8];
  for (int lane = 0; lane < lanes_per_warp; ++lane) {
    const Matrices& own = *static_cast<const Matrices*>(group.lanes[lane]->payload);
    if (own.operand != first.operand || own.depth != first.depth) {
      record_failure("lanes of a warp take part in different kinds of mma");
      return;
    }
    const int row = lane / 4;
    const int column = lane % 4 * parts;
    for (int block_of_columns = 0; block_of_columns * columns < depth; ++block_of_columns) {
      const int from = block_of_columns * columns + column;
      for (int part = 0; part < parts; ++part) {
        a[row][from + part] = element(own.operand, own.a[2 * block_of_columns], part);
        a[row + 8][from + part] = element(own.operand, own.a[2 * block_of_columns + 1], part);
        b[from + part][row] = element(own.operand, own.b[block_of_columns], part);
      }
    }
  }
  for (int lane = 0; lane < lanes_per_warp; ++lane) {
    const Matrices& own = *static_cast<const Matrices*>(group.lanes[lane]->payload);
    for (int position = 0; position < 4; ++position) {
      const int row = lane / 4 + position / 2 * 8;
      const int column = lane % 4 * 2 + position % 2;
      float sum = 0;
      for (int k = 0; k < depth; ++k) {
        sum += a[row][k] * b[k][column];
      }
      own.d[position] += sum;
    }
  }
}

void matrix_multiply(Operand operand, int depth, float* d, const unsigned* a, const unsigned* b, Site site) {
  Matrices payload = {operand, depth, d, a, b};
  if (warps[running->warp].existing != ~0u) {
    fail("mma at %s:%d in a warp of fewer than 32 threads", site.file, site.line);
  }
  meet(~0u, Operation::matrix, &payload, do_multiply, site);
}

}  // namespace cuda_emulator
