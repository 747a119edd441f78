/**
 * Bodies in Kubernetes' protobuf form, which typed Go clients prefer (`kubectl create namespace` sends
 * it): "k8s\0", then a runtime.Unknown with kind and message. Decoded to the JSON form; answers are always
 * JSON, which those clients accept. Pure.
 */
import { badRequest } from "../errors.js";
import { PROTOBUF_MESSAGES, PROTOBUF_ROOTS } from "./protobufFields.js";

export const PROTOBUF = "application/vnd.kubernetes.protobuf";

const MAGIC = Buffer.from("k8s\0");
const VARINT = 0;
const FIXED64 = 1;
const LENGTH = 2;
const FIXED32 = 5;

/**
 * Scalars that are pointers in Go: their zero value means something. That of others is what Go writes for
 * "not given", and JSON leaves out.
 */
const POINTERS = new Set(
  (
    "replicas revisionHistoryLimit progressDeadlineSeconds terminationGracePeriodSeconds gracePeriodSeconds " +
    "activeDeadlineSeconds tolerationSeconds timeoutSeconds deletionGracePeriodSeconds orphanDependents controller " +
    "blockOwnerDeletion automountServiceAccountToken enableServiceLinks immutable optional runAsUser runAsGroup " +
    "runAsNonRoot fsGroup privileged readOnlyRootFilesystem allowPrivilegeEscalation defaultMode mode " +
    "allocateLoadBalancerNodePorts shareProcessNamespace leaseDurationSeconds leaseTransitions expirationSeconds priority"
  ).split(" "),
);

interface Field {
  name: string;
  type: string;
  shape: "" | "list" | "map";
}

let messages: Map<string, Map<number, Field>> | undefined;

function fieldsOf(message: string): Map<number, Field> | undefined {
  messages ??= new Map(
    PROTOBUF_MESSAGES.trim()
      .split("\n")
      .map((line) => {
        const at = line.indexOf(":");
        const fields = line
          .slice(at + 2)
          .split(", ")
          .filter((text) => text !== "")
          .map((text) => {
            const [number, name, type, shape = ""] = text.split(" ");
            return [Number(number), { name, type, shape } as Field] as const;
          });
        return [line.slice(0, at), new Map(fields)] as const;
      }),
  );
  return messages.get(message);
}

/** Throws BadRequest where the bytes are no such body, or of a kind that is not known. */
export function decodeProtobuf(body: Buffer): unknown {
  if (!body.subarray(0, 4).equals(MAGIC))
    throw badRequest(
      "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]",
    );
  let apiVersion = "";
  let kind = "";
  let raw: Buffer = Buffer.alloc(0);
  for (const [number, value] of read(body.subarray(4)))
    if (number === 2 && Buffer.isBuffer(value)) raw = value;
    else if (number === 1 && Buffer.isBuffer(value))
      for (const [inner, text] of read(value))
        if (inner === 1) apiVersion = String(text);
        else if (inner === 2) kind = String(text);
  const root =
    PROTOBUF_ROOTS[`${apiVersion}/${kind}`] ??
    (kind === "DeleteOptions" ? "meta.v1.DeleteOptions" : undefined);
  if (root === undefined)
    throw badRequest(
      `no kind "${kind}" is registered for version "${apiVersion}" in protobuf form; send JSON`,
    );
  return { apiVersion, kind, ...(decode(root, raw) as object) };
}

function decode(message: string, bytes: Buffer): unknown {
  if (message === "meta.v1.Time" || message === "meta.v1.MicroTime") return time(bytes, message);
  if (message.endsWith("IntOrString")) {
    const [type, number, text] = [1, 2, 3].map((wanted) => last(bytes, wanted));
    return Number(type ?? 0) === 1 ? String(text ?? "") : Number(number ?? 0);
  }
  if (message.endsWith("Quantity")) return String(last(bytes, 1) ?? "");
  const fields = fieldsOf(message);
  if (fields === undefined) throw badRequest(`${message} cannot be sent in protobuf form; send JSON`);
  const object: Record<string, unknown> = {};
  for (const [number, value] of read(bytes)) {
    const field = fields.get(number);
    if (field === undefined) {
      if (isZero(value)) continue;
      throw badRequest(`${message}: protobuf field ${number} is not known; send JSON`);
    }
    if (field.shape === "map") {
      object[field.name] ??= {};
      const map = object[field.name] as Record<string, unknown>;
      const entry = value as Buffer;
      map[String(last(entry, 1) ?? "")] = scalar(field.type, last(entry, 2) ?? Buffer.alloc(0));
      continue;
    }
    const decoded = scalar(field.type, value);
    if (field.shape === "list") {
      object[field.name] ??= [];
      (object[field.name] as unknown[]).push(decoded);
    } else if (!isAbsent(field, decoded)) object[field.name] = decoded;
  }
  return object;
}

type Wire = bigint | Buffer;

function scalar(type: string, value: Wire): unknown {
  switch (type) {
    case "string":
      return (value as Buffer).toString();
    case "bytes":
      return (value as Buffer).toString("base64");
    case "bool":
      return value === 1n;
    case "int32":
    case "int64":
      return Number(BigInt.asIntN(64, value as bigint));
    case "uint32":
    case "uint64":
      return Number(value as bigint);
    default:
      return decode(type, value as Buffer);
  }
}

/** Whether Go wrote this only because a field without a pointer always has some value. */
function isAbsent({ name }: Field, value: unknown): boolean {
  if (value === null || value === "") return true;
  if (value === 0 || value === false) return !POINTERS.has(name);
  // {} may be meant: emptyDir, securityContext; but not an empty status or metadata.
  return (
    typeof value === "object" &&
    ["status", "metadata", "strategy", "updateStrategy", "loadBalancer"].includes(name) &&
    Object.keys(value).length === 0
  );
}

function isZero(value: Wire): boolean {
  return typeof value === "bigint" ? value === 0n : value.length === 0;
}

/** RFC 3339; null for Go's zero time, which is an empty message. */
function time(bytes: Buffer, message: string): string | null {
  if (bytes.length === 0) return null;
  const seconds = Number(BigInt.asIntN(64, (last(bytes, 1) as bigint | undefined) ?? 0n));
  const nanos = Number((last(bytes, 2) as bigint | undefined) ?? 0n);
  const text = new Date(seconds * 1000).toISOString().replace(".000Z", "");
  const micros = String(Math.floor(nanos / 1000)).padStart(6, "0");
  return message === "meta.v1.MicroTime" ? `${text}.${micros}Z` : `${text}Z`;
}

function last(bytes: Buffer, wanted: number): Wire | undefined {
  let found: Wire | undefined;
  for (const [number, value] of read(bytes)) if (number === wanted) found = value;
  return found;
}

/** Fields of a message in their order: number and value. */
function* read(bytes: Buffer): Generator<[number, Wire]> {
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      if (at >= bytes.length) break;
      const byte = bytes[at++]!;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    throw badRequest("unexpected end of the protobuf message");
  };
  const take = (length: number): Buffer => {
    if (length > bytes.length - at) throw badRequest("unexpected end of the protobuf message");
    at += length;
    return bytes.subarray(at - length, at);
  };
  while (at < bytes.length) {
    const tag = Number(varint());
    const wire = tag & 7;
    if (wire === VARINT) yield [tag >>> 3, varint()];
    else if (wire === LENGTH) yield [tag >>> 3, take(Number(varint()))];
    else if (wire === FIXED64) yield [tag >>> 3, take(8).readBigUInt64LE()];
    else if (wire === FIXED32) yield [tag >>> 3, BigInt(take(4).readUInt32LE())];
    else throw badRequest(`wrong protobuf wire type ${wire}`);
  }
}
