// The Internet checksum (RFC 1071) over bytes in memory. Knows no headers: who asks says which bytes.
//
// Fast routines add up little-endian 32-bit words in 64-bit accumulators ("raw" sums); RFC 1071 §2(B)
// lets the byte order be swapped once at the end. checksumPlain() is the reference that tests use.

#pragma once

#include <node_api.h>

#include <cstddef>
#include <cstdint>

namespace podwire {

// One way of summing. All give the same folded sum.
struct ChecksumKernel {
  const char* name;
  uint64_t (*sum)(const uint8_t* bytes, size_t length);
};

// The routines this processor can run, best first; the last is always "plain".
struct ChecksumKernels {
  ChecksumKernel kernels[3];
  size_t count;
};
const ChecksumKernels& checksumKernels();

// Folds a raw sum to 16 bits. 0 only where every byte summed was 0.
inline uint32_t foldRaw(uint64_t sum) {
  sum = (sum >> 32) + (sum & 0xffffffff);
  sum = (sum >> 32) + (sum & 0xffffffff);
  sum = (sum >> 16) + (sum & 0xffff);
  sum = (sum >> 16) + (sum & 0xffff);
  return static_cast<uint32_t>((sum >> 16) + (sum & 0xffff));
}

inline uint16_t swap16(uint32_t value) { return __builtin_bswap16(static_cast<uint16_t>(value)); }

// The 16-bit sum of big-endian words (not complemented), `initial` included: byte pair by byte pair.
uint32_t checksumPlain(const uint8_t* bytes, size_t length, uint32_t initial);

// checksum(buffer, offset, length, initial, kernel?) and checksumPlain(buffer, offset, length, initial).
napi_value Checksum(napi_env env, napi_callback_info info);
napi_value ChecksumPlain(napi_env env, napi_callback_info info);

}  // namespace podwire
