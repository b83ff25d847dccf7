// One element, or several contiguous elements, copied bit by bit as one item.
//
//   #define ITEM_BYTES 1 | 2 | 4 | 8 | 16

#pragma once

#if ITEM_BYTES == 1
typedef unsigned char item;
#elif ITEM_BYTES == 2
typedef unsigned short item;
#elif ITEM_BYTES == 4
typedef unsigned int item;
#elif ITEM_BYTES == 8
typedef unsigned long long item;
#elif ITEM_BYTES == 16
typedef uint4 item;
#else
#error "define ITEM_BYTES as 1, 2, 4, 8 or 16"
#endif
