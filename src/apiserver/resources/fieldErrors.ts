/** Faults as Kubernetes words them (k8s.io/apimachinery/pkg/util/validation/field). */
import type { FieldError } from "../resource.js";

/** A value the way Go prints it inside an error: strings quoted, maps and lists as Go literals. */
export function goValue(value: unknown): string {
  if (value === undefined || value === null) return "null";
  if (typeof value === "string") return JSON.stringify(value);
  if (Array.isArray(value)) return `[]string{${value.map(goValue).join(", ")}}`;
  if (typeof value === "object") {
    const record = value as Record<string, unknown>;
    const pairs = Object.keys(record)
      .sort()
      .map((key) => `${JSON.stringify(key)}:${goValue(record[key])}`);
    return `map[string]string{${pairs.join(", ")}}`;
  }
  return String(value);
}

/** A text that stands in a message as it is, without quotes: Go's print of a struct. */
export class Verbatim {
  constructor(readonly text: string) {}
}

function shown(value: unknown): string {
  return value instanceof Verbatim ? value.text : goValue(value);
}

export function invalid(field: string, value: unknown, message: string): FieldError {
  return { type: "FieldValueInvalid", field, detail: `Invalid value: ${shown(value)}: ${message}` };
}

export function required(field: string, message = ""): FieldError {
  const detail = message === "" ? "Required value" : `Required value: ${message}`;
  return { type: "FieldValueRequired", field, detail };
}

export function duplicate(field: string, value: unknown): FieldError {
  return { type: "FieldValueDuplicate", field, detail: `Duplicate value: ${shown(value)}` };
}

export function notFound(field: string, value: unknown): FieldError {
  return { type: "FieldValueNotFound", field, detail: `Not found: ${shown(value)}` };
}

export function forbidden(field: string, message: string): FieldError {
  return { type: "FieldValueForbidden", field, detail: `Forbidden: ${message}` };
}

export function notSupported(field: string, value: unknown, supported: readonly string[]): FieldError {
  const list = supported.map((item) => JSON.stringify(item)).join(", ");
  return {
    type: "FieldValueNotSupported",
    field,
    detail: `Unsupported value: ${shown(value)}: supported values: ${list}`,
  };
}

export function tooLong(field: string, bytes: number): FieldError {
  return {
    type: "FieldValueTooLong",
    field,
    detail: `Too long: may not be more than ${bytes} bytes`,
  };
}
