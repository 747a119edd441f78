// Memory that outlives the process: a file mapped by whoever opens it (mmap(2), MAP_SHARED). Each
// thread maps it for itself, since Node cannot share foreign memory between isolates.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>

#include "descriptor.h"
#include "descriptors.h"
#include "value.h"

namespace podwire {
namespace {

void unmap(napi_env, void* data, void* hint) { munmap(data, reinterpret_cast<size_t>(hint)); }

}  // namespace

napi_value MapFile(napi_env env, napi_callback_info info) {
  Arguments<2> args(env, info);
  char path[PATH_BYTES];
  uint32_t bytes;
  if (!readString(env, args[0], "path", path, sizeof path)) return nullptr;
  if (!readUint32(env, args[1], "bytes", &bytes)) return nullptr;
  if (bytes == 0) return throwRange(env, "bytes must be more than 0");

  Descriptor file(open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file.valid()) return throwFailure(env, Failure::last("open"));
  struct stat status;
  if (fstat(file.get(), &status) != 0) return throwFailure(env, Failure::last("fstat"));
  if (status.st_size != 0 && status.st_size != static_cast<off_t>(bytes))
    return throwFailure(env, Failure{EINVAL, "mmap"});
  // All of it now: a page that the file system has no room for would be a SIGBUS later.
  const int error = posix_fallocate(file.get(), 0, bytes);
  if (error != 0) return throwFailure(env, Failure{error, "fallocate"});
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  if (memory == MAP_FAILED) return throwFailure(env, Failure::last("mmap"));

  napi_value buffer = nullptr;
  const napi_status made = napi_create_external_arraybuffer(env, memory, bytes, unmap,
                                                            reinterpret_cast<void*>(size_t{bytes}), &buffer);
  if (made == napi_ok) return buffer;
  // Builds of V8 with a memory cage (Electron) allow no foreign memory.
  munmap(memory, bytes);
  return throwFailure(env, Failure{ENOTSUP, "mmap"});
}

}  // namespace podwire
