/** Calls of a container runtime, as the CNI specification has them, and what is printed. */
import { describe, expect, test } from "vitest";
import {
  CniError,
  CODES,
  errorResult,
  parseCall,
  resultOf,
  versionResult,
} from "../../../src/cni/protocol.js";

const ENVIRONMENT = {
  CNI_COMMAND: "ADD",
  CNI_CONTAINERID: "c0ffee",
  CNI_IFNAME: "eth0",
  CNI_NETNS: "/run/netns/cni-1",
  CNI_ARGS:
    "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=c0ffee;K8S_POD_UID=u-1",
};
const CONFIG = { cniVersion: "1.0.0", name: "podwire", type: "podwire-cni" };

const parse = (environment: object, config: object | string = CONFIG) =>
  parseCall(
    { ...ENVIRONMENT, ...environment },
    typeof config === "string" ? config : JSON.stringify(config),
    "/run/podwire",
  );

function failure(environment: object, config?: object | string): CniError {
  try {
    parse(environment, config);
  } catch (error) {
    if (error instanceof CniError) return error;
    throw error;
  }
  throw new Error("it was taken");
}

describe("a call", () => {
  test("ADD: the sandbox, its namespace, and whose it is", () => {
    expect(parse({})).toEqual({
      command: "ADD",
      version: "1.0.0",
      stateDir: "/run/podwire",
      request: {
        containerId: "c0ffee",
        interface: "eth0",
        netns: "/run/netns/cni-1",
        pod: { namespace: "default", name: "web", uid: "u-1" },
      },
    });
    expect(parse({ CNI_ARGS: "" }).request).toMatchObject({ pod: null });
    expect(parse({}, { ...CONFIG, stateDir: "/run/other" }).stateDir).toBe("/run/other");
  });

  test("DEL and CHECK need no namespace, GC and STATUS nothing", () => {
    const target = { containerId: "c0ffee", interface: "eth0" };
    for (const command of ["DEL", "CHECK"])
      expect(parse({ CNI_COMMAND: command, CNI_NETNS: "" })).toMatchObject({ command, request: target });
    const valid = [{ containerID: "c0ffee", ifname: "eth0" }];
    const gc = { ...CONFIG, cniVersion: "1.1.0", "cni.dev/valid-attachments": valid };
    expect(parse({ CNI_COMMAND: "GC", CNI_CONTAINERID: "" }, gc).request).toEqual({ valid: [target] });
    expect(parse({ CNI_COMMAND: "STATUS", CNI_IFNAME: "" }).request).toEqual({});
  });

  test("VERSION is answered whatever the version", () => {
    const { command, version } = parse({ CNI_COMMAND: "VERSION" }, { cniVersion: "9.0.0" });
    expect([command, version]).toEqual(["VERSION", "9.0.0"]);
  });

  test.each([
    ["no JSON", {}, "{", CODES.invalidContent],
    ["a list", {}, "[]", CODES.invalidContent],
    ["no version", {}, "{}", CODES.incompatibleVersion],
    ["a version of before", {}, { cniVersion: "0.2.0" }, CODES.incompatibleVersion],
    ["a version that is none", {}, { cniVersion: 1 }, CODES.invalidConfig],
    ["a relative directory", {}, { ...CONFIG, stateDir: "run" }, CODES.invalidConfig],
    ["no command", { CNI_COMMAND: "" }, CONFIG, CODES.invalidEnvironment],
    ["another command", { CNI_COMMAND: "SUB" }, CONFIG, CODES.invalidEnvironment],
    ["no container", { CNI_CONTAINERID: "" }, CONFIG, CODES.invalidEnvironment],
    ["a container that is a path", { CNI_CONTAINERID: "../a" }, CONFIG, CODES.invalidEnvironment],
    ["a name that is too long", { CNI_IFNAME: "a234567890123456" }, CONFIG, CODES.invalidEnvironment],
    ["no namespace", { CNI_NETNS: "" }, CONFIG, CODES.invalidEnvironment],
    ["GC without its list", { CNI_COMMAND: "GC" }, CONFIG, CODES.invalidConfig],
    [
      "GC with another one",
      { CNI_COMMAND: "GC" },
      { ...CONFIG, "cni.dev/valid-attachments": [null] },
      CODES.invalidConfig,
    ],
  ])("%s is refused", (_, environment, config, code) => {
    expect(failure(environment, config).code).toBe(code);
  });
});

describe("what is printed", () => {
  const attached = {
    containerId: "c0ffee",
    interface: "eth0",
    netns: "/run/netns/cni-1",
    address: "10.1.79.65",
    gateway: "169.254.1.1",
    mac: "02:70:0a:01:4f:41",
    mtu: 1450,
  };

  test.each([
    ["0.4.0", { version: "4" }, {}],
    ["1.0.0", {}, {}],
    ["1.1.0", {}, { mtu: 1450 }],
  ])("a result of %s", (version, address, device) => {
    expect(resultOf(version, attached)).toEqual({
      cniVersion: version,
      interfaces: [{ name: "eth0", mac: attached.mac, sandbox: attached.netns, ...device }],
      ips: [{ ...address, address: "10.1.79.65/32", gateway: "169.254.1.1", interface: 0 }],
      routes: [{ dst: "0.0.0.0/0", gw: "169.254.1.1" }],
      dns: {},
    });
  });

  test("versions, and failures with and without details", () => {
    expect(versionResult("1.0.0")).toMatchObject({ cniVersion: "1.0.0" });
    expect(errorResult("1.0.0", new CniError(11, "later"))).toEqual({
      cniVersion: "1.0.0",
      code: 11,
      msg: "later",
    });
    expect(errorResult("1.0.0", new CniError(11, "later", "why"))).toHaveProperty("details", "why");
  });
});
