// Implements value.h and errors.h.

#include "value.h"

#include <cstdio>
#include <cstring>
#include <string>

namespace podwire {

const char* errorCode(int error) {
  switch (error) {
#define PODWIRE_CODE(name) \
  case name:               \
    return #name;
    PODWIRE_CODE(EPERM)
    PODWIRE_CODE(ENOENT)
    PODWIRE_CODE(EINTR)
    PODWIRE_CODE(EIO)
    PODWIRE_CODE(ENXIO)
    PODWIRE_CODE(EBADF)
    PODWIRE_CODE(EAGAIN)
    PODWIRE_CODE(ENOMEM)
    PODWIRE_CODE(EACCES)
    PODWIRE_CODE(EFAULT)
    PODWIRE_CODE(EBUSY)
    PODWIRE_CODE(EEXIST)
    PODWIRE_CODE(ENODEV)
    PODWIRE_CODE(ENOTDIR)
    PODWIRE_CODE(EINVAL)
    PODWIRE_CODE(ENFILE)
    PODWIRE_CODE(EMFILE)
    PODWIRE_CODE(ENOTTY)
    PODWIRE_CODE(ENOSPC)
    PODWIRE_CODE(EPIPE)
    PODWIRE_CODE(ERANGE)
    PODWIRE_CODE(ENAMETOOLONG)
    PODWIRE_CODE(ENOSYS)
    PODWIRE_CODE(ELOOP)
    PODWIRE_CODE(EBADFD)
    PODWIRE_CODE(ENOTSOCK)
    PODWIRE_CODE(EDESTADDRREQ)
    PODWIRE_CODE(EMSGSIZE)
    PODWIRE_CODE(EPROTOTYPE)
    PODWIRE_CODE(ENOPROTOOPT)
    PODWIRE_CODE(EPROTONOSUPPORT)
    PODWIRE_CODE(EOPNOTSUPP)
    PODWIRE_CODE(EAFNOSUPPORT)
    PODWIRE_CODE(EADDRINUSE)
    PODWIRE_CODE(EADDRNOTAVAIL)
    PODWIRE_CODE(ENETDOWN)
    PODWIRE_CODE(ENETUNREACH)
    PODWIRE_CODE(ENOBUFS)
    PODWIRE_CODE(ECONNREFUSED)
    PODWIRE_CODE(EHOSTDOWN)
    PODWIRE_CODE(EHOSTUNREACH)
#undef PODWIRE_CODE
    default:
      return "EUNKNOWN";
  }
}

namespace {

bool wrongType(napi_env env, const char* name, const char* expected) {
  char message[160];
  snprintf(message, sizeof message, "%s must be %s", name, expected);
  napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", message);
  return false;
}

bool property(napi_env env, napi_value object, const char* name, napi_value* out) {
  return napi_get_named_property(env, object, name, out) == napi_ok || wrongType(env, "options", "an object");
}

constexpr uint32_t MAX_NUMBERS = 16384;  // BPF_MAXINSNS quadruples

napi_value makeString(napi_env env, const char* text) {
  napi_value value = nullptr;
  napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &value);
  return value;
}

}  // namespace

bool readInt32(napi_env env, napi_value value, const char* name, int32_t* out) {
  return napi_get_value_int32(env, value, out) == napi_ok || wrongType(env, name, "a number");
}

bool readUint32(napi_env env, napi_value value, const char* name, uint32_t* out) {
  return napi_get_value_uint32(env, value, out) == napi_ok || wrongType(env, name, "a number");
}

bool readBool(napi_env env, napi_value value, const char* name, bool* out) {
  return napi_get_value_bool(env, value, out) == napi_ok || wrongType(env, name, "a boolean");
}

bool readString(napi_env env, napi_value value, const char* name, char* out, size_t capacity) {
  size_t length = 0;
  if (napi_get_value_string_utf8(env, value, nullptr, 0, &length) != napi_ok) {
    return wrongType(env, name, "a string");
  }
  if (length >= capacity) {
    char expected[64];
    snprintf(expected, sizeof expected, "a string of at most %zu bytes", capacity - 1);
    return wrongType(env, name, expected);
  }
  napi_get_value_string_utf8(env, value, out, capacity, &length);
  return strlen(out) == length || wrongType(env, name, "a string without zero bytes");
}

bool readInt32Of(napi_env env, napi_value object, const char* name, int32_t* out) {
  napi_value value;
  return property(env, object, name, &value) && readInt32(env, value, name, out);
}

bool readBoolOf(napi_env env, napi_value object, const char* name, bool* out) {
  napi_value value;
  return property(env, object, name, &value) && readBool(env, value, name, out);
}

bool readStringOf(napi_env env, napi_value object, const char* name, char* out, size_t capacity) {
  napi_value value;
  return property(env, object, name, &value) && readString(env, value, name, out, capacity);
}

bool readUint32sOf(napi_env env, napi_value object, const char* name, std::vector<uint32_t>* out) {
  napi_value array;
  return property(env, object, name, &array) && readUint32s(env, array, name, out);
}

bool readUint32s(napi_env env, napi_value array, const char* name, std::vector<uint32_t>* out) {
  uint32_t length = 0;
  if (napi_get_array_length(env, array, &length) != napi_ok || length > MAX_NUMBERS) {
    return wrongType(env, name, "an array of at most 16384 numbers");
  }
  out->resize(length);
  for (uint32_t i = 0; i < length; i++) {
    napi_value element;
    if (napi_get_element(env, array, i, &element) != napi_ok)
      return wrongType(env, name, "an array of numbers");
    if (!readUint32(env, element, name, &(*out)[i])) return false;
  }
  return true;
}

napi_value makeInt32(napi_env env, int32_t number) {
  napi_value value = nullptr;
  napi_create_int32(env, number, &value);
  return value;
}

napi_value makeUndefined(napi_env env) {
  napi_value value = nullptr;
  napi_get_undefined(env, &value);
  return value;
}

bool setInt32(napi_env env, napi_value object, const char* name, int32_t number) {
  return napi_set_named_property(env, object, name, makeInt32(env, number)) == napi_ok;
}

bool setBool(napi_env env, napi_value object, const char* name, bool boolean) {
  napi_value value;
  return napi_get_boolean(env, boolean, &value) == napi_ok &&
         napi_set_named_property(env, object, name, value) == napi_ok;
}

napi_value throwFailure(napi_env env, const Failure& failure) {
  const char* code = errorCode(failure.error);
  char text[128];
  // The GNU strerror_r may return a string of its own instead of filling `text`.
  const char* words = strerror_r(failure.error, text, sizeof text);

  void* data = nullptr;
  napi_get_instance_data(env, &data);
  Environment* environment = static_cast<Environment*>(data);
  napi_value error = nullptr;
  if (environment != nullptr && environment->errorClass != nullptr) {
    napi_value errorClass;
    napi_value arguments[] = {makeString(env, failure.syscall), makeInt32(env, failure.error),
                              makeString(env, code), makeString(env, words)};
    if (napi_get_reference_value(env, environment->errorClass, &errorClass) == napi_ok) {
      napi_new_instance(env, errorClass, 4, arguments, &error);
    }
  }
  if (error == nullptr) {
    std::string message = std::string(failure.syscall) + ": " + code + ", " + words;
    napi_create_error(env, makeString(env, code), makeString(env, message.c_str()), &error);
    napi_set_named_property(env, error, "syscall", makeString(env, failure.syscall));
    setInt32(env, error, "errno", failure.error);
  }
  napi_throw(env, error);
  return nullptr;
}

napi_value throwRange(napi_env env, const char* message) {
  napi_throw_range_error(env, "ERR_OUT_OF_RANGE", message);
  return nullptr;
}

napi_value throwType(napi_env env, const char* message) {
  napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", message);
  return nullptr;
}

}  // namespace podwire
