/**
 * Strict decoding: fields that the schema does not have, and values of the wrong type. The messages for
 * built-in kinds are those of Go's JSON decoder, for custom kinds those of structural schemas.
 */
import type { FieldError } from "../resource.js";
import { referenceOf, type Schema } from "./schema.js";

export interface CheckResult {
  /** 'unknown field "spec.prots"' */
  unknown: string[];
  invalid: FieldError[];
}

interface Place {
  /** "spec.ports[0].port", for users. */
  field: string;
  /** "spec.ports.port", as Go's decoder says it. */
  goField: string;
  /** Name of the innermost struct. */
  struct: string;
}

const QUANTITY_PATTERN = /^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$/;
const TIME_PATTERN = /^\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})$/;
const BASE64_PATTERN = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

/** `resolve` finds a schema by its name; `custom`: the kind is a custom resource. */
export class Checker {
  readonly result: CheckResult = { unknown: [], invalid: [] };

  constructor(
    private readonly resolve: (name: string) => Schema | undefined,
    private readonly custom: boolean,
  ) {}

  /** Checks a whole object against the schema of that name. */
  run(name: string, object: unknown): CheckResult {
    const schema = this.resolve(name);
    if (schema !== undefined) this.#value(schema, name, object, { field: "", goField: "", struct: "" });
    return this.result;
  }

  #value(schema: Schema, name: string | undefined, value: unknown, place: Place): void {
    if (value === null || value === undefined) return;
    const reference = referenceOf(schema);
    if (reference !== undefined) {
      const target = this.resolve(reference);
      if (target !== undefined) this.#value(target, reference, value, place);
      return;
    }
    const found = typeOf(value);
    const fits = found === schema.type || (schema.type === "number" && found === "integer");
    if (schema.oneOf !== undefined) this.#alternative(schema, name, value, place);
    else if (schema.type === undefined) return;
    else if (!fits) this.#wrongType(schema, name, value, place);
    else if (schema.type === "object") this.#object(schema, name, value as Record<string, unknown>, place);
    else if (schema.type === "array") this.#array(schema, value as unknown[], place);
    else if (schema.type === "string") this.#string(schema, value as string, place);
    else if (schema.type === "integer" && schema.format === "int32") {
      if (Math.abs(value as number) > 0x7fff_ffff) this.#wrongType(schema, name, value, place);
    }
  }

  #object(schema: Schema, name: string | undefined, value: Record<string, unknown>, place: Place): void {
    const struct = name === undefined ? place.struct : shortName(name);
    for (const [key, member] of Object.entries(value)) {
      const property = schema.properties?.[key];
      if (property !== undefined) {
        this.#value(property, undefined, member, {
          field: place.field === "" ? key : `${place.field}.${key}`,
          goField: place.goField === "" ? key : `${place.goField}.${key}`,
          struct,
        });
      } else if (schema.additionalProperties !== undefined) {
        this.#value(schema.additionalProperties, undefined, member, {
          ...place,
          field: `${place.field}.${key}`,
        });
      } else if (schema.properties !== undefined && !schema["x-kubernetes-preserve-unknown-fields"]) {
        const at = place.field === "" ? key : `${place.field}.${key}`;
        this.result.unknown.push(`unknown field ${JSON.stringify(at)}`);
      }
    }
  }

  #array(schema: Schema, value: unknown[], place: Place): void {
    if (schema.items === undefined) return;
    value.forEach((item, i) => {
      this.#value(schema.items!, undefined, item, { ...place, field: `${place.field}[${i}]` });
    });
  }

  #string(schema: Schema, value: string, place: Place): void {
    if (schema.format === "date-time" && !(TIME_PATTERN.test(value) && !Number.isNaN(Date.parse(value)))) {
      const shown = JSON.stringify(value);
      this.#fault(
        place,
        `parsing time ${shown} as "2006-01-02T15:04:05Z07:00": cannot parse ${shown} as "2006"`,
      );
    }
    if (schema.format === "byte" && !BASE64_PATTERN.test(value.replace(/[\r\n]/g, ""))) {
      this.#fault(place, `illegal base64 data at input byte ${firstBad(value)}`);
    }
    // Built-in kinds check their enumerations themselves, in words of their own.
    if (this.custom && schema.enum !== undefined && !schema.enum.includes(value)) {
      const supported = schema.enum.map((item) => JSON.stringify(item)).join(", ");
      this.result.invalid.push({
        type: "FieldValueNotSupported",
        field: place.field,
        detail: `Unsupported value: ${JSON.stringify(value)}: supported values: ${supported}`,
      });
    }
  }

  /** IntOrString and Quantity. */
  #alternative(schema: Schema, name: string | undefined, value: unknown, place: Place): void {
    const quantity = name?.endsWith(".Quantity") === true;
    const found = typeOf(value);
    if (quantity) {
      if (
        (found !== "string" && found !== "integer" && found !== "number") ||
        !QUANTITY_PATTERN.test(String(value))
      ) {
        this.#fault(
          place,
          "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        );
      }
    } else if (!schema.oneOf!.some((one) => one.type === found)) {
      this.#fault(place, `json: cannot unmarshal ${goFound(value)} into Go value of type int32`);
    }
  }

  #wrongType(schema: Schema, name: string | undefined, value: unknown, place: Place): void {
    if (this.custom && !place.field.startsWith("metadata")) {
      const found = typeOf(value);
      this.result.invalid.push({
        type: "FieldValueTypeInvalid",
        field: place.field,
        detail: `Invalid value: "${found}": ${place.field} in body must be of type ${schema.type}: "${found}"`,
      });
      return;
    }
    const into =
      place.goField === ""
        ? `Go value of type ${this.#goType(schema, name)}`
        : `Go struct field ${place.struct}.${place.goField} of type ${this.#goType(schema, name)}`;
    this.#fault(place, `json: cannot unmarshal ${goFound(value)} into ${into}`);
  }

  #fault(place: Place, detail: string): void {
    this.result.invalid.push({ type: "FieldValueTypeInvalid", field: place.field, detail });
  }

  #goType(schema: Schema, name: string | undefined): string {
    const reference = referenceOf(schema);
    if (reference !== undefined) return this.#goType(this.resolve(reference) ?? {}, reference);
    if (schema.type === "array") return `[]${this.#goType(schema.items ?? {}, undefined)}`;
    if (schema.additionalProperties !== undefined) {
      return `map[string]${this.#goType(schema.additionalProperties, undefined)}`;
    }
    if (name !== undefined) return name.split(".").slice(-2).join(".");
    if (schema.type === "integer") return schema.format ?? "int64";
    if (schema.type === "boolean") return "bool";
    return schema.type === "number" ? "float64" : (schema.type ?? "interface {}");
  }
}

function shortName(name: string): string {
  return name.slice(name.lastIndexOf(".") + 1);
}

function typeOf(value: unknown): "object" | "array" | "string" | "integer" | "number" | "boolean" {
  if (Array.isArray(value)) return "array";
  if (typeof value === "number") return Number.isInteger(value) ? "integer" : "number";
  return typeof value as "object" | "string" | "boolean";
}

/** What Go's decoder calls the value it found. */
function goFound(value: unknown): string {
  const found = typeOf(value);
  if (found === "boolean") return "bool";
  if (found === "number" || (found === "integer" && Math.abs(value as number) > 0x7fff_ffff)) {
    return `number ${value}`;
  }
  return found === "integer" ? "number" : found;
}

function firstBad(text: string): number {
  const at = text.search(/[^A-Za-z0-9+/=\r\n]/);
  return at < 0 ? text.length - (text.length % 4) : at;
}
