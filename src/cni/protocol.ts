/**
 * CNI as a plugin speaks it (the CNI specification 1.1, sections 2 and 5): what the environment and the
 * standard input of a call mean, and what is printed. Pure.
 */
import type { CniAdd, CniAttached, CniTarget } from "../model/cni.js";

/** Versions of the specification that are spoken, ascending. Results of before 0.3.0 looked otherwise. */
export const VERSIONS: readonly string[] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/** From here on an address does not say its family. */
const FIRST_WITHOUT_FAMILY = "1.0.0";

/** Error codes of the specification, section 5; from 100 on they are the plugin's own. */
export const CODES = {
  incompatibleVersion: 1,
  invalidEnvironment: 4,
  invalidContent: 6,
  invalidConfig: 7,
  tryAgainLater: 11,
  notAvailable: 50,
  /** The agent refuses. */
  refused: 100,
} as const;

/** What is printed where a call fails. */
export class CniError extends Error {
  override readonly name = "CniError";

  constructor(
    readonly code: number,
    message: string,
    readonly details = "",
  ) {
    super(message);
  }
}

/** A call that the agent is needed for. */
export type Call = { version: string; stateDir: string } & (
  | { command: "ADD"; request: CniAdd }
  | { command: "DEL" | "CHECK"; request: CniTarget }
  | { command: "GC"; request: { valid: CniTarget[] } }
  | { command: "STATUS"; request: Record<string, never> }
  | { command: "VERSION"; request: Record<string, never> }
);

interface Config {
  cniVersion?: unknown;
  name?: unknown;
  stateDir?: unknown;
  "cni.dev/valid-attachments"?: unknown;
}

/**
 * Reads a call. Throws a CniError.
 *
 * @param environment CNI_COMMAND and what goes with it
 * @param input the network configuration, as JSON
 * @param defaultStateDir the agent's directory where the configuration names none ("stateDir")
 */
export function parseCall(
  environment: Readonly<Record<string, string | undefined>>,
  input: string,
  defaultStateDir: string,
): Call {
  const config = parseConfig(input);
  const { cniVersion: version = "0.1.0" } = config;
  if (typeof version !== "string") throw new CniError(CODES.invalidConfig, "cniVersion must be a string");
  const { CNI_COMMAND: command } = environment;
  if (command === "VERSION") return { command, version, stateDir: defaultStateDir, request: {} };
  if (!VERSIONS.includes(version))
    throw new CniError(
      CODES.incompatibleVersion,
      `cniVersion ${version} is not supported`,
      `supported are ${VERSIONS.join(", ")}`,
    );
  const { stateDir = defaultStateDir } = config;
  if (typeof stateDir !== "string" || !stateDir.startsWith("/"))
    throw new CniError(CODES.invalidConfig, "stateDir must be an absolute path");
  const need = (name: string): string => {
    const value = environment[name];
    if (!value) throw new CniError(CODES.invalidEnvironment, `${name} is missing`);
    return value;
  };
  const target = (): CniTarget => {
    const [containerId, name] = [need("CNI_CONTAINERID"), need("CNI_IFNAME")];
    if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(containerId))
      throw new CniError(CODES.invalidEnvironment, `CNI_CONTAINERID "${containerId}" is none`);
    // dev_valid_name() of the kernel.
    if (!/^[^\s/:]{1,15}$/.test(name) || name === "." || name === "..")
      throw new CniError(CODES.invalidEnvironment, `CNI_IFNAME "${name}" is no name of an interface`);
    return { containerId, interface: name };
  };
  switch (command) {
    case "ADD": {
      const pod = podOf(environment.CNI_ARGS ?? "");
      return { command, version, stateDir, request: { ...target(), netns: need("CNI_NETNS"), pod } };
    }
    case "DEL":
    case "CHECK":
      return { command, version, stateDir, request: target() };
    case "GC":
      return { command, version, stateDir, request: { valid: validOf(config) } };
    case "STATUS":
      return { command, version, stateDir, request: {} };
    default:
      throw new CniError(CODES.invalidEnvironment, `CNI_COMMAND "${command ?? ""}" is unknown`);
  }
}

function parseConfig(input: string): Config {
  try {
    const config: unknown = JSON.parse(input.trim() === "" ? "{}" : input);
    if (typeof config === "object" && config !== null && !Array.isArray(config)) return config;
  } catch (error) {
    throw new CniError(
      CODES.invalidContent,
      "the network configuration is no JSON",
      (error as Error).message,
    );
  }
  throw new CniError(CODES.invalidContent, "the network configuration is no object");
}

/** Of "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;…", as kubelets' runtimes have it. */
function podOf(text: string): CniAdd["pod"] {
  const values = new Map(text.split(";").map((each) => each.split("=", 2) as [string, string | undefined]));
  const of = (key: string) => values.get(key) ?? "";
  const [namespace, name] = [of("K8S_POD_NAMESPACE"), of("K8S_POD_NAME")];
  return namespace === "" || name === "" ? null : { namespace, name, uid: of("K8S_POD_UID") };
}

function validOf(config: Config): CniTarget[] {
  const list = config["cni.dev/valid-attachments"];
  if (!Array.isArray(list))
    throw new CniError(CODES.invalidConfig, "cni.dev/valid-attachments must be a list");
  return list.map((each: { containerID?: unknown; ifname?: unknown }) => {
    if (typeof each?.containerID !== "string" || typeof each.ifname !== "string")
      throw new CniError(CODES.invalidConfig, "an entry of cni.dev/valid-attachments is none");
    return { containerId: each.containerID, interface: each.ifname };
  });
}

/** What ADD prints: the interface, its address, and the way out of it. */
export function resultOf(
  version: string,
  { interface: name, netns, address, gateway, mac, mtu }: CniAttached,
): object {
  const family = version < FIRST_WITHOUT_FAMILY ? { version: "4" } : {};
  return {
    cniVersion: version,
    interfaces: [{ name, mac, sandbox: netns, ...(version < "1.1.0" ? {} : { mtu }) }],
    ips: [{ ...family, address: `${address}/32`, gateway, interface: 0 }],
    routes: [{ dst: "0.0.0.0/0", gw: gateway }],
    dns: {},
  };
}

/** What VERSION prints. */
export function versionResult(version: string): object {
  return { cniVersion: version, supportedVersions: VERSIONS };
}

/** What is printed where a call fails. `version`: the call's, or what of it could be read. */
export function errorResult(version: string, { code, message, details }: CniError): object {
  return { cniVersion: version, code, msg: message, ...(details === "" ? {} : { details }) };
}
