/**
 * What counts as a name, a label, a port, an address; every check returns the messages of
 * k8s.io/apimachinery/pkg/util/validation, none for a good value.
 */
import { isIP, isIPv4, isIPv6 } from "node:net";

const LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN = `${LABEL}(\\.${LABEL})*`;
const LABEL_1035 = "[a-z]([-a-z0-9]*[a-z0-9])?";
const QUALIFIED_NAME = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const LABEL_VALUE = `(${QUALIFIED_NAME})?`;
const CONFIG_KEY = "[-._a-zA-Z0-9]+";

const LABEL_PATTERN = new RegExp(`^${LABEL}$`);
const SUBDOMAIN_PATTERN = new RegExp(`^${SUBDOMAIN}$`);
const LABEL_1035_PATTERN = new RegExp(`^${LABEL_1035}$`);
const QUALIFIED_NAME_PATTERN = new RegExp(`^${QUALIFIED_NAME}$`);
const LABEL_VALUE_PATTERN = new RegExp(`^${LABEL_VALUE}$`);
const CONFIG_KEY_PATTERN = new RegExp(`^${CONFIG_KEY}$`);

export type NameCheck = (value: string) => string[];

function pattern(message: string, regex: string, ...examples: string[]): string {
  const shown = examples.map((example) => `'${example}', `).join(" or ");
  return `${message} (${shown === "" ? "" : `e.g. ${shown}`}regex used for validation is '${regex}')`;
}

const tooLongName = (limit: number) => `must be no more than ${limit} characters`;

/** RFC 1123 label: namespaces, containers, ports of Services. */
export function isDnsLabel(value: string): string[] {
  const messages: string[] = [];
  if (value.length > 63) messages.push(tooLongName(63));
  if (!LABEL_PATTERN.test(value)) {
    messages.push(
      pattern(
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
        LABEL,
        "my-name",
        "123-abc",
      ),
    );
  }
  return messages;
}

/** RFC 1123 subdomain: most names. */
export function isDnsSubdomain(value: string): string[] {
  const messages: string[] = [];
  if (value.length > 253) messages.push(tooLongName(253));
  if (!SUBDOMAIN_PATTERN.test(value)) {
    messages.push(
      pattern(
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
        SUBDOMAIN,
        "example.com",
      ),
    );
  }
  return messages;
}

/** RFC 1035 label: Services. */
export function isDns1035Label(value: string): string[] {
  const messages: string[] = [];
  if (value.length > 63) messages.push(tooLongName(63));
  if (!LABEL_1035_PATTERN.test(value)) {
    messages.push(
      pattern(
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
        LABEL_1035,
        "my-name",
        "abc-123",
      ),
    );
  }
  return messages;
}

const QUALIFIED_MESSAGE = pattern(
  "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
  QUALIFIED_NAME,
  "MyName",
  "my.name",
  "123-abc",
);

/** Label keys, annotation keys, finalizers: an optional DNS prefix, a slash, a name. */
export function isQualifiedName(value: string): string[] {
  const parts = value.split("/");
  if (parts.length > 2) {
    return [
      `a qualified name ${QUALIFIED_MESSAGE} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')`,
    ];
  }
  const messages: string[] = [];
  if (parts.length === 2) {
    const prefix = parts[0]!;
    if (prefix === "") messages.push("prefix part must be non-empty");
    else messages.push(...isDnsSubdomain(prefix).map((message) => `prefix part ${message}`));
  }
  const name = parts[parts.length - 1]!;
  if (name === "") messages.push("name part must be non-empty");
  else if (name.length > 63) messages.push(`name part ${tooLongName(63)}`);
  if (!QUALIFIED_NAME_PATTERN.test(name)) messages.push(`name part ${QUALIFIED_MESSAGE}`);
  return messages;
}

/** Label values: at most 63 characters, or none. */
export function isLabelValue(value: string): string[] {
  const messages: string[] = [];
  if (value.length > 63) messages.push(tooLongName(63));
  if (!LABEL_VALUE_PATTERN.test(value)) {
    messages.push(
      pattern(
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
        LABEL_VALUE,
        "MyValue",
        "my_value",
        "12345",
      ),
    );
  }
  return messages;
}

/** Keys of ConfigMaps and Secrets. */
export function isConfigKey(value: string): string[] {
  const messages: string[] = [];
  if (value.length > 253) messages.push(tooLongName(253));
  if (!CONFIG_KEY_PATTERN.test(value)) {
    messages.push(
      pattern(
        "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
        CONFIG_KEY,
        "key.name",
        "KEY_NAME",
        "key-name",
      ),
    );
  } else if (value === "." || value === "..") messages.push(`must not be '${value}'`);
  else if (value.startsWith("..")) messages.push("must not start with '..'");
  return messages;
}

/** Names of environment variables: any printable ASCII character except "=". */
export function isEnvName(value: string): string[] {
  return /^[ -<>-~]+$/.test(value)
    ? []
    : ["a valid environment variable name must consist only of printable ASCII characters other than '='"];
}

/** Ports of Services and containers. */
export function isPortNumber(value: number): string[] {
  return value >= 1 && value <= 65535 ? [] : ["must be between 1 and 65535, inclusive"];
}

/** Names of container ports, and named target ports. */
export function isPortName(value: string): string[] {
  const messages: string[] = [];
  if (value.length > 15) messages.push(tooLongName(15));
  if (!/^[-a-z0-9]+$/.test(value)) {
    messages.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
  }
  if (!/[a-z]/.test(value)) messages.push("must contain at least one letter (a-z)");
  if (value.includes("--")) messages.push("must not contain consecutive hyphens");
  if (value.startsWith("-") || value.endsWith("-")) messages.push("must not begin or end with a hyphen");
  return messages;
}

/** IPv4 or IPv6 address; leading zeros are no address. */
export function isAddress(value: string): string[] {
  return isIP(value) !== 0 && !value.includes("%")
    ? []
    : ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"];
}

/** An address of one family. */
export function isAddressOf(family: "IPv4" | "IPv6", value: string): string[] {
  const good = family === "IPv4" ? isIPv4(value) : isIPv6(value) && !value.includes("%");
  return good ? [] : [`must be a valid ${family} address`];
}

/** ADDRESS/LENGTH of either family, host bits or not. */
export function isCidr(value: string): string[] {
  const match = /^([^/]+)\/(0|[1-9]\d{0,2})$/.exec(value);
  const good =
    match !== null && isAddress(match[1]!).length === 0 && Number(match[2]) <= (isIPv4(match[1]!) ? 32 : 128);
  return good ? [] : ["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"];
}

/** Addresses that can never be an endpoint or an external address of a Service. */
export function isOrdinaryAddress(value: string): string[] {
  const bad = isAddress(value);
  if (bad.length > 0) return bad;
  const low = value.toLowerCase();
  if (value === "0.0.0.0" || low === "::") return ["may not be unspecified (0.0.0.0 or ::)"];
  if (value.startsWith("127.") || low === "::1") {
    return ["may not be in the loopback range (127.0.0.0/8, ::1/128)"];
  }
  if (value.startsWith("169.254.") || /^fe[89ab][0-9a-f]:/.test(low)) {
    return ["may not be in the link-local range (169.254.0.0/16, fe80::/10)"];
  }
  if (value.startsWith("224.0.0.") || low.startsWith("ff02:")) {
    return ["may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"];
  }
  return [];
}
