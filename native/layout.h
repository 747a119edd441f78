// Repeats the numbers of src/packet/layout.ts, where they are explained. addon.cc exports them by
// name as `layout`, and a test holds the two together. Owns no memory and no behaviour.

#pragma once

#include <cstdint>

// X(name, value), in the order of layout.ts.
#define PODWIRE_LAYOUT(X)                                                   \
  X(PORT_TAP, 1)                                                            \
  X(PORT_UDP, 2)                                                            \
  X(PORT_LINK, 3)                                                           \
  X(PORT_RAW, 4)                                                            \
  X(PORT_BFD, 5)                                                            \
  X(PORT_NETLINK, 6)                                                        \
  X(MAX_PORTS, 1024)                                                        \
  X(MAX_PEERS, 8192)                                                        \
  X(IO_PEERS, 2 * MAX_PEERS)                                                \
  X(BFD_PEERS, MAX_PEERS)                                                   \
  X(RX_STRIDE, 8)                                                           \
  X(RX_OFFSET, 0)                                                           \
  X(RX_LENGTH, 1)                                                           \
  X(RX_PORT, 2)                                                             \
  X(RX_SEGMENT, 3)                                                          \
  X(RX_PEER, 4)                                                             \
  X(RX_PEER_PORT, 5)                                                        \
  X(RX_FLAGS, 6)                                                            \
  X(RX_FLAG_ERROR, 1)                                                       \
  X(RX_FLAG_TRUNCATED, 2)                                                   \
  X(MSG_STRIDE, 16)                                                         \
  X(MSG_PORT, 0)                                                            \
  X(MSG_IOV, 1)                                                             \
  X(MSG_IOV_COUNT, 2)                                                       \
  X(MSG_PEER, 3)                                                            \
  X(MSG_GSO, 4)                                                             \
  X(MSG_FLAGS, 5)                                                           \
  X(MSG_FLAG_VERIFY, 1)                                                     \
  X(MSG_L4_LENGTH, 6)                                                       \
  X(MSG_PSEUDO, 7)                                                          \
  X(MSG_HEADERS, 8)                                                         \
  X(MSG_FRAMES, 9)                                                          \
  X(MSG_ERRNO, 10)                                                          \
  X(IOV_STRIDE, 4)                                                          \
  X(IOV_OFFSET, 0)                                                          \
  X(IOV_LENGTH, 1)                                                          \
  X(IOV_NEXT, 2)                                                            \
  X(IOV_CSUM, 3)                                                            \
  X(CSUM_REQUEST, 1 << 16)                                                  \
  X(CSUM_TO_END, 1 << 17)                                                   \
  X(CSUM_NEXT, 1 << 18)                                                     \
  X(CSUM_UDP, 1 << 19)                                                      \
  X(MAX_IOV, 256)                                                           \
  X(MAX_GSO_SEGMENTS, 64)                                                   \
  X(MAX_GSO_BYTES, 65507)                                                   \
  X(STATUS_LENGTH, 16)                                                      \
  X(STATUS_NOW_US, 0)                                                       \
  X(STATUS_FAILED, 1)                                                       \
  X(STATUS_UNMERGED, 2)                                                     \
  X(STATUS_WAKES, 3)                                                        \
  X(STATUS_SLEEPS, 4)                                                       \
  X(STATUS_SPIN_HITS, 5)                                                    \
  X(STATUS_RX_CALLS, 6)                                                     \
  X(STATUS_TX_CALLS, 7)                                                     \
  X(STATUS_SENT_US, 8)                                                      \
  X(HEADROOM, 128)                                                          \
  X(VNET_BYTES, 10)                                                         \
  X(TAP_FRAME_MAX, 65536 + 64)                                              \
  X(TAP_BUDGET, 256 * 1024)                                                 \
  X(TAP_FRAMES, 64)                                                         \
  X(UDP_SLOTS, 16)                                                          \
  X(UDP_SLOT_BYTES, 65536 + 256)                                            \
  X(SCRATCH_BYTES, 128)                                                     \
  X(SCRATCH_SLOTS, 4096)                                                    \
  X(RX_CAPACITY, 512)                                                       \
  X(MSG_CAPACITY, 2048)                                                     \
  X(IOV_CAPACITY, 16384)                                                    \
  X(HELD_BYTES, 1024 * 1024)                                                \
  X(ARENA_rxTap, 0)                                                         \
  X(ARENA_rxTapBytes, align64(TAP_BUDGET + 2 * (TAP_FRAME_MAX + HEADROOM))) \
  X(ARENA_rxUdp, ARENA_rxTap + ARENA_rxTapBytes)                            \
  X(ARENA_scratch, align64(ARENA_rxUdp + UDP_SLOTS * UDP_SLOT_BYTES))       \
  X(ARENA_rx, align64(ARENA_scratch + SCRATCH_SLOTS * SCRATCH_BYTES))       \
  X(ARENA_msg, align64(ARENA_rx + RX_CAPACITY * RX_STRIDE * 4))             \
  X(ARENA_iov, align64(ARENA_msg + MSG_CAPACITY * MSG_STRIDE * 4))          \
  X(ARENA_status, align64(ARENA_iov + IOV_CAPACITY * IOV_STRIDE * 4))       \
  X(ARENA_held, align64(ARENA_status + STATUS_LENGTH * 8))                  \
  X(ARENA_bytes, align64(ARENA_held + HELD_BYTES))

namespace podwire {

constexpr int32_t align64(int32_t n) { return (n + 63) & ~63; }

#define PODWIRE_CONSTANT(name, value) constexpr int32_t name = value;
PODWIRE_LAYOUT(PODWIRE_CONSTANT)
#undef PODWIRE_CONSTANT

// Where Ethernet begins in a received TAP or LINK frame, so that IP is 4-byte aligned behind it.
static_assert((HEADROOM + VNET_BYTES + 14) % 4 == 0, "inner IP of TAP frames must be aligned");
// Where a frame of a LINK port begins.
constexpr int32_t LINK_START = HEADROOM + VNET_BYTES;
// Where a packet of a RAW port begins: behind room for what a TAP frame has in front of it.
constexpr int32_t RAW_START = HEADROOM + VNET_BYTES + 14;
// Where a datagram begins in its slot: VXLAN (8) and Ethernet (14) then leave IP aligned.
constexpr int32_t UDP_SLOT_START = HEADROOM + 2;
static_assert((UDP_SLOT_START + 8 + 14) % 4 == 0, "inner IP of datagrams must be aligned");
static_assert(UDP_SLOT_BYTES % 64 == 0, "slots must keep the alignment");
static_assert(UDP_SLOT_BYTES - UDP_SLOT_START >= 65536, "a slot must hold the longest datagram");

}  // namespace podwire
