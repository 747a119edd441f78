/**
 * Objects that come as application/vnd.kubernetes.protobuf: what `kubectl create configmap`, `create
 * deployment` and other commands with typed clients send. Decoding only; answers are always JSON, which
 * the same clients accept. Field numbers come from openapi/protobuf-VERSION.json (see
 * scripts/generate-protobuf.mjs).
 *
 * The body is the four bytes "k8s\0", then runtime.Unknown {typeMeta 1 {apiVersion 1, kind 2}, raw 2}.
 */
import { readData } from "./dataFile.js";

export const PROTOBUF_MEDIA_TYPE = "application/vnd.kubernetes.protobuf";

/** The body is no object in protobuf, or of a kind that is not known here. */
export class ProtobufError extends Error {
  override readonly name = "ProtobufError";
  readonly code = "InvalidProtobuf";
}

type Field = [name: string, type: string, flags: string];
type Messages = Record<string, Record<string, Field>>;
type Json = Record<string, unknown>;

const MAGIC = [0x6b, 0x38, 0x73, 0x00];
const META_V1 = "k8s.io.apimachinery.pkg.apis.meta.v1";
const PACKAGES: Record<string, string> = {
  v1: "k8s.io.api.core.v1",
  "apps/v1": "k8s.io.api.apps.v1",
  "authentication.k8s.io/v1": "k8s.io.api.authentication.v1",
  "authorization.k8s.io/v1": "k8s.io.api.authorization.v1",
  "coordination.k8s.io/v1": "k8s.io.api.coordination.v1",
  "events.k8s.io/v1": "k8s.io.api.events.v1",
  // Eviction is the same in both, field for field.
  "policy/v1": "k8s.io.api.policy.v1beta1",
  "policy/v1beta1": "k8s.io.api.policy.v1beta1",
};
/** Seconds of Go's zero time, which stands for none. */
const ZERO_TIME = -62_135_596_800n;

let messages: Messages | undefined;

/** The object as its JSON form would be parsed. */
export function decodeProtobuf(body: Uint8Array): Json {
  if (MAGIC.some((byte, i) => body[i] !== byte)) throw new ProtobufError("no Kubernetes object in protobuf");
  let apiVersion = "";
  let kind = "";
  let raw = new Uint8Array();
  for (const { number, bytes } of fieldsOf(body.subarray(MAGIC.length))) {
    if (number === 1) {
      for (const part of fieldsOf(bytes)) {
        if (part.number === 1) apiVersion = text(part.bytes);
        if (part.number === 2) kind = text(part.bytes);
      }
    } else if (number === 2) raw = new Uint8Array(bytes);
  }
  messages ??= readData("protobuf-v1.20.2.json") as Messages;
  const name = kind === "DeleteOptions" ? `${META_V1}.${kind}` : `${PACKAGES[apiVersion]}.${kind}`;
  if (messages[name] === undefined) {
    throw new ProtobufError(`no kind "${kind}" is registered for version "${apiVersion}" in protobuf`);
  }
  return { apiVersion, kind, ...decodeMessage(name, raw) };
}

interface WireField {
  number: number;
  /** Of a varint. */
  value: bigint;
  /** Of a length-delimited field. */
  bytes: Uint8Array;
}

function* fieldsOf(bytes: Uint8Array): Generator<WireField> {
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = bytes[at++];
      if (byte === undefined) break;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    throw new ProtobufError("truncated number");
  };
  while (at < bytes.length) {
    const tag = Number(varint());
    const field: WireField = { number: tag >>> 3, value: 0n, bytes: new Uint8Array() };
    const wireType = tag & 7;
    if (wireType === 0) field.value = BigInt.asIntN(64, varint());
    else if (wireType === 1 || wireType === 5) {
      const length = wireType === 1 ? 8 : 4;
      if (at + length > bytes.length) throw new ProtobufError("truncated field");
      field.bytes = bytes.subarray(at, at + length);
      at += length;
    } else if (wireType === 2) {
      const length = Number(varint());
      if (at + length > bytes.length) throw new ProtobufError("truncated field");
      field.bytes = bytes.subarray(at, at + length);
      at += length;
    } else throw new ProtobufError(`wire type ${wireType}`);
    yield field;
  }
}

function decodeMessage(name: string, bytes: Uint8Array): Json {
  const object: Json = {};
  for (const field of fieldsOf(bytes)) {
    const known = messages![name]?.[field.number];
    if (known === undefined) {
      // An absent value may be sent as zero. Anything else would be lost.
      if (field.value === 0n && field.bytes.length === 0) continue;
      const message = name.slice(name.lastIndexOf(".") + 1);
      throw new ProtobufError(
        `field ${field.number} of ${message} is not known in protobuf to this server: send the object as JSON`,
      );
    }
    const [key, type, flags] = known;
    if (flags.includes("m")) {
      const [entryKey, entryValue] = decodeEntry(type, field.bytes);
      const map = (object[key] ?? {}) as Json;
      map[entryKey] = entryValue;
      object[key] = map;
      continue;
    }
    const value = decodeValue(type, field);
    if (flags.includes("r")) object[key] = [...((object[key] as unknown[] | undefined) ?? []), value];
    else if (flags.includes("i")) Object.assign(object, value);
    // A scalar that is no pointer is always sent; zero is its absence.
    else if (flags.includes("p") || (value !== "" && value !== 0 && value !== false && value !== null)) {
      object[key] = value;
    }
  }
  return object;
}

function decodeEntry(type: string, bytes: Uint8Array): [string, unknown] {
  let key = "";
  let value: unknown = type === "string" || type === "bytes" ? "" : {};
  for (const field of fieldsOf(bytes)) {
    if (field.number === 1) key = text(field.bytes);
    else if (field.number === 2) value = decodeValue(type, field);
  }
  return [key, value];
}

function decodeValue(type: string, field: WireField): unknown {
  switch (type) {
    case "string":
      return text(field.bytes);
    case "bytes":
      return Buffer.from(field.bytes).toString("base64");
    case "bool":
      return field.value !== 0n;
    case "int32":
    case "int64":
      return Number(field.value);
    case `${META_V1}.Time`:
    case `${META_V1}.MicroTime`:
      return time(field.bytes, type.endsWith("MicroTime"));
    case "k8s.io.apimachinery.pkg.api.resource.Quantity":
      return text(fieldsByNumber(field.bytes)[1]?.bytes ?? new Uint8Array());
    case "k8s.io.apimachinery.pkg.util.intstr.IntOrString": {
      const parts = fieldsByNumber(field.bytes);
      return parts[1]?.value === 1n
        ? text(parts[3]?.bytes ?? new Uint8Array())
        : Number(BigInt.asIntN(32, parts[2]?.value ?? 0n));
    }
    default:
      return decodeMessage(type, field.bytes);
  }
}

/** RFC 3339; null for the zero time. */
function time(bytes: Uint8Array, micro: boolean): string | null {
  const parts = fieldsByNumber(bytes);
  const seconds = parts[1]?.value;
  if (seconds === undefined || seconds === ZERO_TIME) return null;
  const whole = new Date(Number(seconds) * 1000).toISOString().slice(0, 19);
  const fraction = String((Number(parts[2]?.value ?? 0n) / 1000) | 0).padStart(6, "0");
  return micro ? `${whole}.${fraction}Z` : `${whole}Z`;
}

function fieldsByNumber(bytes: Uint8Array): Record<number, WireField> {
  return Object.fromEntries([...fieldsOf(bytes)].map((field) => [field.number, field]));
}

function text(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("utf8");
}
