// Arena memory: anonymous, on huge pages where the kernel has them, owned by one ArrayBuffer. What
// lies where in it is layout.h's business.

#include <sys/mman.h>

#include <cstring>

#include "descriptors.h"
#include "value.h"

namespace podwire {
namespace {

constexpr size_t HUGE_PAGE = size_t{2} << 20;

// mmap(2), aligned to 2 MiB: what is mapped too much in front and behind goes back.
void* mapAligned(size_t bytes) {
  void* mapped = mmap(nullptr, bytes + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  char* begin = static_cast<char*>(mapped);
  const size_t lead = (HUGE_PAGE - reinterpret_cast<uintptr_t>(begin) % HUGE_PAGE) % HUGE_PAGE;
  if (lead > 0) munmap(begin, lead);
  munmap(begin + lead + bytes, HUGE_PAGE - lead);
  return begin + lead;
}

void unmap(napi_env, void* data, void* hint) { munmap(data, reinterpret_cast<size_t>(hint)); }

}  // namespace

napi_value CreateArena(napi_env env, napi_callback_info info) {
  Arguments<1> args(env, info);
  int32_t bytes;
  if (!readInt32(env, args[0], "bytes", &bytes)) return nullptr;
  if (bytes <= 0) return throwRange(env, "bytes must be more than 0");

  const size_t length = (static_cast<size_t>(bytes) + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
  void* memory = mapAligned(length);
  if (memory == nullptr) return throwFailure(env, Failure::last("mmap"));
  madvise(memory, length, MADV_HUGEPAGE);  // refused on kernels without: then they are small
  memset(memory, 0, length);               // page faults now, not under load

  napi_value buffer = nullptr;
  const napi_status status = napi_create_external_arraybuffer(env, memory, static_cast<size_t>(bytes), unmap,
                                                              reinterpret_cast<void*>(length), &buffer);
  if (status != napi_no_external_buffers_allowed) return buffer;
  // Builds of V8 with a memory cage (Electron) allow no foreign memory; small pages must do there.
  munmap(memory, length);
  void* data;
  napi_create_arraybuffer(env, static_cast<size_t>(bytes), &data, &buffer);
  return buffer;
}

}  // namespace podwire
