// Implements checksum.h: routines, choice among them, and the two functions for JavaScript.

#include "checksum.h"

#include <cstring>

#include "value.h"

#if defined(__x86_64__)
#if defined(__GNUC__) && !defined(__clang__)
// GCC's own header leaves a register undefined on purpose and then warns of it.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#else
#include <immintrin.h>
#endif
#endif

namespace podwire {
namespace {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "raw sums are little-endian");

inline uint64_t load64(const uint8_t* bytes) {
  uint64_t word;
  memcpy(&word, bytes, sizeof word);
  return word;
}

// The sum of the last 0 to 7 bytes, as if zeros followed. Constant lengths: a memcpy of a variable
// few bytes is a call, and took four times as long.
inline uint64_t sumTail(const uint8_t* bytes, size_t length) {
  uint64_t sum = 0;
  if ((length & 4) != 0) {
    uint32_t word;
    memcpy(&word, bytes, sizeof word);
    sum = word;
    bytes += 4;
  }
  if ((length & 2) != 0) {
    uint16_t word;
    memcpy(&word, bytes, sizeof word);
    sum += word;
    bytes += 2;
  }
  return (length & 1) != 0 ? sum + *bytes : sum;
}

inline uint64_t halves(uint64_t word) { return (word >> 32) + (word & 0xffffffff); }

uint64_t sumPortable(const uint8_t* bytes, size_t length) {
  uint64_t a = 0;
  uint64_t b = 0;
  for (; length >= 16; bytes += 16, length -= 16) {
    a += halves(load64(bytes));
    b += halves(load64(bytes + 8));
  }
  if (length >= 8) {
    a += halves(load64(bytes));
    bytes += 8;
    length -= 8;
  }
  return a + b + sumTail(bytes, length);
}

#if defined(__x86_64__)

// Both vector routines end with _mm256_zeroupper(). GCC 12 left it out of sumAvx2, and the SSE code
// that ran afterwards, Node's own included, took three times as long.

// Below this many bytes setting up vectors costs as much as it saves.
constexpr size_t VECTOR_BYTES = 128;

__attribute__((target("avx2"))) uint64_t sumAvx2(const uint8_t* bytes, size_t length) {
  if (length < VECTOR_BYTES) return sumPortable(bytes, length);
  const __m256i mask = _mm256_set1_epi64x(0xffffffff);
  __m256i low0 = _mm256_setzero_si256();
  __m256i low1 = low0;
  __m256i high0 = low0;
  __m256i high1 = low0;
  for (; length >= 128; bytes += 128, length -= 128) {
    const __m256i* words = reinterpret_cast<const __m256i*>(bytes);
    const __m256i a = _mm256_loadu_si256(words);
    const __m256i b = _mm256_loadu_si256(words + 1);
    const __m256i c = _mm256_loadu_si256(words + 2);
    const __m256i d = _mm256_loadu_si256(words + 3);
    low0 = _mm256_add_epi64(low0, _mm256_and_si256(a, mask));
    high0 = _mm256_add_epi64(high0, _mm256_srli_epi64(a, 32));
    low1 = _mm256_add_epi64(low1, _mm256_and_si256(b, mask));
    high1 = _mm256_add_epi64(high1, _mm256_srli_epi64(b, 32));
    low0 = _mm256_add_epi64(low0, _mm256_and_si256(c, mask));
    high0 = _mm256_add_epi64(high0, _mm256_srli_epi64(c, 32));
    low1 = _mm256_add_epi64(low1, _mm256_and_si256(d, mask));
    high1 = _mm256_add_epi64(high1, _mm256_srli_epi64(d, 32));
  }
  const __m256i total = _mm256_add_epi64(_mm256_add_epi64(low0, low1), _mm256_add_epi64(high0, high1));
  uint64_t lanes[4];
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes), total);
  _mm256_zeroupper();
  return lanes[0] + lanes[1] + lanes[2] + lanes[3] + sumPortable(bytes, length);
}

__attribute__((target("avx512f,avx512bw"))) uint64_t sumAvx512(const uint8_t* bytes, size_t length) {
  if (length < VECTOR_BYTES) return sumPortable(bytes, length);
  const __m512i mask = _mm512_set1_epi64(0xffffffff);
  __m512i low0 = _mm512_setzero_si512();
  __m512i low1 = low0;
  __m512i high0 = low0;
  __m512i high1 = low0;
  for (; length >= 128; bytes += 128, length -= 128) {
    const __m512i a = _mm512_loadu_si512(bytes);
    const __m512i b = _mm512_loadu_si512(bytes + 64);
    low0 = _mm512_add_epi64(low0, _mm512_and_si512(a, mask));
    high0 = _mm512_add_epi64(high0, _mm512_srli_epi64(a, 32));
    low1 = _mm512_add_epi64(low1, _mm512_and_si512(b, mask));
    high1 = _mm512_add_epi64(high1, _mm512_srli_epi64(b, 32));
  }
  // The rest, up to 127 bytes, in two masked loads: bytes behind the end are not touched.
  const __mmask64 first = length >= 64 ? ~__mmask64{0} : (__mmask64{1} << length) - 1;
  const __m512i a = _mm512_maskz_loadu_epi8(first, bytes);
  low0 = _mm512_add_epi64(low0, _mm512_and_si512(a, mask));
  high0 = _mm512_add_epi64(high0, _mm512_srli_epi64(a, 32));
  if (length > 64) {
    const __m512i b = _mm512_maskz_loadu_epi8((__mmask64{1} << (length - 64)) - 1, bytes + 64);
    low1 = _mm512_add_epi64(low1, _mm512_and_si512(b, mask));
    high1 = _mm512_add_epi64(high1, _mm512_srli_epi64(b, 32));
  }
  const __m512i total = _mm512_add_epi64(_mm512_add_epi64(low0, low1), _mm512_add_epi64(high0, high1));
  uint64_t lanes[8];
  _mm512_storeu_si512(lanes, total);
  _mm256_zeroupper();
  return lanes[0] + lanes[1] + lanes[2] + lanes[3] + lanes[4] + lanes[5] + lanes[6] + lanes[7];
}

#endif

ChecksumKernels detect() {
  ChecksumKernels found = {};
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")) {
    found.kernels[found.count++] = {"avx512", sumAvx512};
  }
  if (__builtin_cpu_supports("avx2")) found.kernels[found.count++] = {"avx2", sumAvx2};
#endif
  found.kernels[found.count++] = {"plain", sumPortable};
  return found;
}

// The bytes that arguments 0 to 3 name.
bool readBytes(napi_env env, napi_value const* args, const uint8_t** bytes, size_t* length,
               uint32_t* initial) {
  void* data;
  size_t capacity;
  uint32_t offset;
  uint32_t wanted;
  if (napi_get_arraybuffer_info(env, args[0], &data, &capacity) != napi_ok) {
    throwType(env, "buffer must be an ArrayBuffer");
    return false;
  }
  if (!readUint32(env, args[1], "offset", &offset) || !readUint32(env, args[2], "length", &wanted) ||
      !readUint32(env, args[3], "initial", initial)) {
    return false;
  }
  if (offset > capacity || wanted > capacity - offset) {
    throwRange(env, "offset and length must lie in the buffer");
    return false;
  }
  *bytes = static_cast<const uint8_t*>(data) + offset;
  *length = wanted;
  return true;
}

}  // namespace

const ChecksumKernels& checksumKernels() {
  static const ChecksumKernels kernels = detect();
  return kernels;
}

uint32_t checksumPlain(const uint8_t* bytes, size_t length, uint32_t initial) {
  uint64_t sum = initial;
  size_t i = 0;
  for (; i + 1 < length; i += 2) sum += static_cast<uint32_t>(bytes[i] << 8 | bytes[i + 1]);
  if (i < length) sum += static_cast<uint32_t>(bytes[i] << 8);
  while (sum > 0xffff) sum = (sum >> 16) + (sum & 0xffff);
  return static_cast<uint32_t>(sum);
}

napi_value Checksum(napi_env env, napi_callback_info info) {
  Arguments<5> args(env, info);
  const uint8_t* bytes;
  size_t length;
  uint32_t initial;
  if (!readBytes(env, args.values, &bytes, &length, &initial)) return nullptr;
  const ChecksumKernels& all = checksumKernels();
  const ChecksumKernel* kernel = &all.kernels[0];
  napi_valuetype type = napi_undefined;
  napi_typeof(env, args[4], &type);
  if (type != napi_undefined) {
    char name[16];
    if (!readString(env, args[4], "kernel", name, sizeof name)) return nullptr;
    size_t i = 0;
    while (i < all.count && strcmp(all.kernels[i].name, name) != 0) i++;
    if (i == all.count) return throwRange(env, "kernel must be one of checksumKernels");
    kernel = &all.kernels[i];
  }
  const uint32_t folded = swap16(foldRaw(kernel->sum(bytes, length)));
  return makeInt32(env, static_cast<int32_t>(foldRaw(uint64_t{folded} + initial)));
}

napi_value ChecksumPlain(napi_env env, napi_callback_info info) {
  Arguments<4> args(env, info);
  const uint8_t* bytes;
  size_t length;
  uint32_t initial;
  if (!readBytes(env, args.values, &bytes, &length, &initial)) return nullptr;
  return makeInt32(env, static_cast<int32_t>(checksumPlain(bytes, length, initial)));
}

}  // namespace podwire
