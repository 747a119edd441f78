/** v1 ConfigMap, Secret and ServiceAccount. */
import type { FieldError, ResourceDefinition } from "../resource.js";
import { AGE_COLUMN, column, defineResource, NAME_COLUMN } from "./define.js";
import { forbidden, invalid, required, tooLong } from "./fieldErrors.js";
import { age } from "./format.js";
import { items, type Loose, sameJson, setDefault } from "./loose.js";
import { validateImmutable } from "./metadata.js";
import { isConfigKey } from "./names.js";

const DATA_LIMIT = 1024 * 1024;

/** Fields that a Secret of a type must have. */
const SECRET_KEYS: Record<string, string[]> = {
  "kubernetes.io/tls": ["tls.crt", "tls.key"],
  "kubernetes.io/dockerconfigjson": [".dockerconfigjson"],
  "kubernetes.io/dockercfg": [".dockercfg"],
  "kubernetes.io/ssh-auth": ["ssh-privatekey"],
};

export const configMaps: ResourceDefinition = defineResource({
  group: "",
  version: "v1",
  kind: "ConfigMap",
  plural: "configmaps",
  shortNames: ["cm"],
  namespaced: true,
  validate(configMap, old) {
    const data: Record<string, string> = configMap.data ?? {};
    const binary: Record<string, string> = configMap.binaryData ?? {};
    const faults = [...validateKeys(data, "data"), ...validateKeys(binary, "binaryData")];
    for (const key of Object.keys(data)) {
      if (Object.hasOwn(binary, key)) {
        faults.push(invalid(`data[${key}]`, key, "duplicate of key present in binaryData"));
      }
    }
    const size = sizeOf(data) + sizeOf(binary, "base64");
    if (size > DATA_LIMIT) faults.push(tooLong("", DATA_LIMIT));
    faults.push(...validateFrozen(configMap, old, ["data", "binaryData"]));
    return faults;
  },
  columns: [NAME_COLUMN, column("Data", "Data contains the configuration data.", "string"), AGE_COLUMN],
  row: (configMap, now) => [
    configMap.metadata.name,
    Object.keys(configMap.data ?? {}).length + Object.keys(configMap.binaryData ?? {}).length,
    age(configMap, now),
  ],
});

export const secrets: ResourceDefinition = defineResource({
  group: "",
  version: "v1",
  kind: "Secret",
  plural: "secrets",
  namespaced: true,
  defaults(secret) {
    setDefault(secret, "type", "Opaque");
    if (!secret.stringData) return;
    secret.data ??= {};
    for (const [key, text] of Object.entries<string>(secret.stringData)) {
      secret.data[key] = Buffer.from(text).toString("base64");
    }
    delete secret.stringData;
  },
  validate(secret, old) {
    const data: Record<string, string> = secret.data ?? {};
    const faults = validateKeys(data, "data");
    if (sizeOf(data, "base64") > DATA_LIMIT) faults.push(tooLong("data", DATA_LIMIT));
    for (const key of SECRET_KEYS[secret.type] ?? []) {
      if (!Object.hasOwn(data, key)) faults.push(required(`data[${key}]`));
    }
    if (old !== undefined) faults.push(...validateImmutable("type", secret.type, old.type));
    faults.push(...validateFrozen(secret, old, ["data"]));
    return faults;
  },
  selectable: (secret) => ({ type: secret.type ?? "" }),
  columns: [
    NAME_COLUMN,
    column("Type", "Used to facilitate programmatic handling of secret data."),
    column("Data", "Data contains the secret data.", "string"),
    AGE_COLUMN,
  ],
  row: (secret, now) => [
    secret.metadata.name,
    secret.type ?? "",
    Object.keys(secret.data ?? {}).length,
    age(secret, now),
  ],
});

export const serviceAccounts: ResourceDefinition = defineResource({
  group: "",
  version: "v1",
  kind: "ServiceAccount",
  plural: "serviceaccounts",
  shortNames: ["sa"],
  namespaced: true,
  columns: [
    NAME_COLUMN,
    column("Secrets", "Secrets is a list of the secrets that pods using this ServiceAccount may use."),
    AGE_COLUMN,
  ],
  row: (account, now) => [account.metadata.name, items(account.secrets).length, age(account, now)],
});

function validateKeys(data: Record<string, string>, field: string): FieldError[] {
  return Object.keys(data).flatMap((key) =>
    isConfigKey(key).map((message) => invalid(`${field}[${key}]`, key, message)),
  );
}

function sizeOf(data: Record<string, string>, encoding?: BufferEncoding): number {
  return Object.values(data).reduce((sum, text) => sum + Buffer.byteLength(text, encoding), 0);
}

/** Once `immutable` is true, neither it nor the data changes. */
function validateFrozen(object: Loose, old: Loose | undefined, fields: string[]): FieldError[] {
  if (old?.immutable !== true) return [];
  const message = "field is immutable when `immutable` is set";
  const faults = object.immutable === true ? [] : [forbidden("immutable", message)];
  for (const field of fields) {
    if (!sameJson(object[field] ?? {}, old[field] ?? {})) faults.push(forbidden(field, message));
  }
  return faults;
}
