// Reading arguments and making results: the thin layer over Node-API that every other file uses.
// Each reader returns false with a JavaScript exception pending where the value is of another type.

#pragma once

#include <node_api.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "errors.h"

namespace podwire {

constexpr size_t PATH_BYTES = 4096;

// What one environment (main thread or worker) keeps: the class of the errors it throws.
struct Environment {
  napi_ref errorClass = nullptr;
};

bool readInt32(napi_env env, napi_value value, const char* name, int32_t* out);
bool readUint32(napi_env env, napi_value value, const char* name, uint32_t* out);
bool readBool(napi_env env, napi_value value, const char* name, bool* out);
// Fails where the string does not fit into `capacity` bytes with its terminating zero, or holds a zero.
bool readString(napi_env env, napi_value value, const char* name, char* out, size_t capacity);

bool readUint32s(napi_env env, napi_value array, const char* name, std::vector<uint32_t>* out);

// The same by property of an options object.
bool readInt32Of(napi_env env, napi_value object, const char* name, int32_t* out);
bool readBoolOf(napi_env env, napi_value object, const char* name, bool* out);
bool readStringOf(napi_env env, napi_value object, const char* name, char* out, size_t capacity);
bool readUint32sOf(napi_env env, napi_value object, const char* name, std::vector<uint32_t>* out);

napi_value makeInt32(napi_env env, int32_t value);
napi_value makeUndefined(napi_env env);
bool setInt32(napi_env env, napi_value object, const char* name, int32_t value);
bool setBool(napi_env env, napi_value object, const char* name, bool value);

// Throws SysError(syscall, errno, code, text), or a plain Error with these fields while no class is set.
// Returns null, the value to return with an exception pending.
napi_value throwFailure(napi_env env, const Failure& failure);
napi_value throwRange(napi_env env, const char* message);
napi_value throwType(napi_env env, const char* message);

// Arguments of a call; missing ones are undefined.
template <size_t N>
struct Arguments {
  napi_value values[N];
  void* data = nullptr;

  Arguments(napi_env env, napi_callback_info info) {
    size_t count = N;
    napi_get_cb_info(env, info, &count, values, nullptr, &data);
  }
  napi_value operator[](size_t index) const { return values[index]; }
};

}  // namespace podwire
