/** v1 Endpoints and discovery.k8s.io/v1 EndpointSlice. */
import type { FieldError, ResourceDefinition } from "../resource.js";
import { AGE_COLUMN, column, defineResource, NAME_COLUMN } from "./define.js";
import { duplicate, invalid, notSupported, required } from "./fieldErrors.js";
import { age, firstThree } from "./format.js";
import { items, type Loose, setDefault } from "./loose.js";
import { validateImmutable } from "./metadata.js";
import {
  isAddressOf,
  isDnsLabel,
  isDnsSubdomain,
  isOrdinaryAddress,
  isPortNumber,
  isQualifiedName,
} from "./names.js";
import { PROTOCOLS } from "./podSpec.js";

const ADDRESS_TYPES = ["FQDN", "IPv4", "IPv6"];
const SLICE_ENDPOINTS = 1000;
const SLICE_PORTS = 100;
const ENDPOINT_ADDRESSES = 100;

export const endpoints: ResourceDefinition = defineResource({
  group: "",
  version: "v1",
  kind: "Endpoints",
  plural: "endpoints",
  singular: "endpoints",
  shortNames: ["ep"],
  namespaced: true,
  defaults(object) {
    for (const subset of items(object.subsets)) {
      for (const port of items(subset.ports)) setDefault(port, "protocol", "TCP");
    }
  },
  validate(object) {
    const faults: FieldError[] = [];
    items(object.subsets).forEach((subset, i) => {
      const at = `subsets[${i}]`;
      const ready = items(subset.addresses);
      const notReady = items(subset.notReadyAddresses);
      if (ready.length + notReady.length === 0) {
        faults.push(required(at, "must specify `addresses` or `notReadyAddresses`"));
      }
      const lists: [string, Loose[]][] = [
        ["addresses", ready],
        ["notReadyAddresses", notReady],
      ];
      for (const [list, addresses] of lists) {
        addresses.forEach((address, j) => {
          for (const message of isOrdinaryAddress(address.ip ?? "")) {
            faults.push(invalid(`${at}.${list}[${j}].ip`, address.ip ?? "", message));
          }
        });
      }
      const ports = items(subset.ports);
      ports.forEach((port, j) => {
        faults.push(...validatePort(port, `${at}.ports[${j}]`, ports.length > 1));
      });
    });
    return faults;
  },
  columns: [
    NAME_COLUMN,
    column("Endpoints", "The set of all endpoints is the union of all subsets."),
    AGE_COLUMN,
  ],
  row(object, now) {
    const shown: string[] = [];
    for (const subset of items(object.subsets)) {
      const addresses = items(subset.addresses).map((address) => address.ip as string);
      if (items(subset.ports).length === 0) shown.push(...addresses);
      for (const port of items(subset.ports)) {
        shown.push(...addresses.map((ip) => `${ip.includes(":") ? `[${ip}]` : ip}:${port.port}`));
      }
    }
    const empty = items(object.subsets).length === 0 ? "<none>" : "";
    return [object.metadata.name, firstThree(shown, empty), age(object, now)];
  },
});

function validatePort(port: Loose, field: string, nameRequired: boolean): FieldError[] {
  const faults: FieldError[] = [];
  if (!port.name) {
    if (nameRequired) faults.push(required(`${field}.name`));
  } else
    for (const message of isDnsLabel(port.name)) faults.push(invalid(`${field}.name`, port.name, message));
  for (const message of isPortNumber(port.port ?? 0)) {
    faults.push(invalid(`${field}.port`, port.port ?? 0, message));
  }
  if (!PROTOCOLS.includes(port.protocol)) {
    faults.push(notSupported(`${field}.protocol`, port.protocol, PROTOCOLS));
  }
  return faults;
}

export const endpointSlices: ResourceDefinition = defineResource({
  group: "discovery.k8s.io",
  version: "v1",
  kind: "EndpointSlice",
  plural: "endpointslices",
  namespaced: true,
  generationOf: ["endpoints", "ports"],
  defaults(slice) {
    for (const port of items(slice.ports)) {
      port.name ??= "";
      setDefault(port, "protocol", "TCP");
    }
  },
  validate(slice, old) {
    const faults: FieldError[] = [];
    if (!slice.addressType) faults.push(required("addressType"));
    else if (!ADDRESS_TYPES.includes(slice.addressType)) {
      faults.push(notSupported("addressType", slice.addressType, ADDRESS_TYPES));
    }
    if (old !== undefined)
      faults.push(...validateImmutable("addressType", slice.addressType, old.addressType));
    faults.push(...tooMany("endpoints", items(slice.endpoints).length, SLICE_ENDPOINTS));
    faults.push(...tooMany("ports", items(slice.ports).length, SLICE_PORTS));
    items(slice.endpoints).forEach((endpoint, i) => {
      const at = `endpoints[${i}].addresses`;
      const addresses = items(endpoint.addresses);
      if (addresses.length === 0) faults.push(required(at, "must contain at least 1 address"));
      faults.push(...tooMany(at, addresses.length, ENDPOINT_ADDRESSES));
      addresses.forEach((address, j) => {
        for (const message of checkAddress(slice.addressType, address)) {
          faults.push(invalid(`${at}[${j}]`, address, message));
        }
      });
    });
    const names = new Set<string>();
    items(slice.ports).forEach((port, i) => {
      const at = `ports[${i}]`;
      const name = port.name ?? "";
      if (names.has(name)) faults.push(duplicate(`${at}.name`, name));
      names.add(name);
      if (name !== "")
        for (const message of isDnsLabel(name)) faults.push(invalid(`${at}.name`, name, message));
      if (!PROTOCOLS.includes(port.protocol)) {
        faults.push(notSupported(`${at}.protocol`, port.protocol, PROTOCOLS));
      }
      if (port.port !== undefined && port.port !== null) {
        for (const message of isPortNumber(port.port)) faults.push(invalid(`${at}.port`, port.port, message));
      }
      if (port.appProtocol) {
        for (const message of isQualifiedName(port.appProtocol)) {
          faults.push(invalid(`${at}.appProtocol`, port.appProtocol, message));
        }
      }
    });
    return faults;
  },
  columns: [
    NAME_COLUMN,
    column("AddressType", "addressType specifies the type of address carried by this EndpointSlice."),
    column("Ports", "ports specifies the list of network ports exposed by each endpoint in this slice."),
    column("Endpoints", "endpoints is a list of unique endpoints in this slice."),
    AGE_COLUMN,
  ],
  row: (slice, now) => [
    slice.metadata.name,
    slice.addressType ?? "",
    firstThree(
      items(slice.ports).map((port) => String(port.port ?? port.name ?? "*")),
      "<unset>",
    ),
    firstThree(
      items(slice.endpoints).flatMap((endpoint) => items(endpoint.addresses) as string[]),
      "<unset>",
    ),
    age(slice, now),
  ],
});

function checkAddress(type: string, address: string): string[] {
  if (type === "FQDN") return isDnsSubdomain(address);
  if (type !== "IPv4" && type !== "IPv6") return [];
  return [...isAddressOf(type, address), ...isOrdinaryAddress(address)];
}

function tooMany(field: string, count: number, limit: number): FieldError[] {
  if (count <= limit) return [];
  const detail = `Too many: ${count}: must have at most ${limit} items`;
  return [{ type: "FieldValueTooMany", field, detail }];
}
