// Registers the module. It is context-aware: every environment (main thread, worker_threads) loads it
// anew, and what is shared between them is immutable.

#include <node_api.h>

#include <new>

#include "checksum.h"
#include "descriptors.h"
#include "io.h"
#include "layout.h"
#include "netns.h"
#include "value.h"

namespace podwire {
namespace {

// setErrorClass(constructor): what failures are thrown as. src/binding/index.ts calls it once.
napi_value SetErrorClass(napi_env env, napi_callback_info info) {
  Arguments<1> args(env, info);
  napi_valuetype type = napi_undefined;
  napi_typeof(env, args[0], &type);
  if (type != napi_function) return throwType(env, "constructor must be a function");
  void* data = nullptr;
  napi_get_instance_data(env, &data);
  Environment* environment = static_cast<Environment*>(data);
  if (environment->errorClass != nullptr) napi_delete_reference(env, environment->errorClass);
  environment->errorClass = nullptr;
  napi_create_reference(env, args[0], 1, &environment->errorClass);
  return nullptr;
}

void endEnvironment(napi_env env, void* data, void*) {
  Environment* environment = static_cast<Environment*>(data);
  if (environment->errorClass != nullptr) napi_delete_reference(env, environment->errorClass);
  delete environment;
}

napi_value makeLayout(napi_env env) {
  napi_value layout = nullptr;
  napi_create_object(env, &layout);
#define PODWIRE_EXPORT(name, value) setInt32(env, layout, #name, name);
  PODWIRE_LAYOUT(PODWIRE_EXPORT)
#undef PODWIRE_EXPORT
  return layout;
}

void exportChecksumKernels(napi_env env, napi_value exports) {
  const ChecksumKernels& all = checksumKernels();
  napi_value names;
  napi_create_array(env, &names);
  for (size_t i = 0; i < all.count; i++) {
    napi_value name;
    napi_create_string_utf8(env, all.kernels[i].name, NAPI_AUTO_LENGTH, &name);
    napi_set_element(env, names, static_cast<uint32_t>(i), name);
    if (i == 0) napi_set_named_property(env, exports, "checksumKernel", name);
  }
  napi_set_named_property(env, exports, "checksumKernels", names);
}

napi_value start(napi_env env, napi_value exports) {
  Environment* environment = new (std::nothrow) Environment;
  if (environment == nullptr ||
      napi_set_instance_data(env, environment, endEnvironment, nullptr) != napi_ok) {
    delete environment;
    return throwFailure(env, Failure{ENOMEM, "malloc"});
  }
  constexpr struct {
    const char* name;
    napi_callback callback;
  } functions[] = {
      {"createArena", CreateArena},     {"createIo", CreateIo},       {"openTap", OpenTap},
      {"setTapPersist", SetTapPersist}, {"openUdp", OpenUdp},         {"openBfd", OpenBfd},
      {"openPacket", OpenPacket},       {"openRaw", OpenRaw},         {"openEvent", OpenEvent},
      {"openLinkEvents", OpenLinkEvents}, {"setFilter", SetFilter},
      {"signalEvent", SignalEvent},     {"close", Close},
      {"withNetns", WithNetns},         {"checksum", Checksum},       {"checksumPlain", ChecksumPlain},
      {"clockOffset", ClockOffset},     {"mapFile", MapFile},             {"setErrorClass", SetErrorClass},
  };
  for (const auto& entry : functions) {
    napi_value function;
    napi_create_function(env, entry.name, NAPI_AUTO_LENGTH, entry.callback, nullptr, &function);
    napi_set_named_property(env, exports, entry.name, function);
  }
  napi_set_named_property(env, exports, "layout", makeLayout(env));
  exportChecksumKernels(env, exports);
  return exports;
}

}  // namespace
}  // namespace podwire

NAPI_MODULE_INIT() { return podwire::start(env, exports); }
