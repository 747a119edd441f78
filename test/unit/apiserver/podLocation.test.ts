/** Requests for logs and commands: Kubernetes' checks, word by word. */
import { describe, expect, test } from "vitest";
import { authorize } from "../../../src/apiserver/auth/authorize.js";
import { execLocation, logLocation } from "../../../src/apiserver/http/podLocation.js";
import type { Pod } from "../../../src/kube/types.js";

const pod = (more: object = {}, status: object = {}): Pod => ({
  metadata: { name: "p", namespace: "ns" },
  spec: { nodeName: "n1", containers: [{ name: "a" }, { name: "b" }], ...more },
  status,
});
const one = (status = {}) => pod({ containers: [{ name: "a" }] }, status);
const log = (of: Pod, query = "") => logLocation(of, new URLSearchParams(query));
const exec = (of: Pod, query = "") => execLocation(of, new URLSearchParams(query));

describe("where", () => {
  test("a log is", () =>
    expect(
      log(pod(), "container=b&follow=true&timestamps=0&tailLines=0&sinceTime=2024-01-01T00:00:00Z&other=1"),
    ).toEqual({
      node: "n1",
      path: "/containerLogs/ns/p/b?follow=true&tailLines=0&sinceTime=2024-01-01T00%3A00%3A00Z",
    }));

  test("a command runs", () =>
    expect(exec(one(), "command=a&command=b%26c&stdin=true&stdout=true&tty=true&stderr=false")).toEqual({
      node: "n1",
      path: "/exec/ns/p/a?input=1&output=1&tty=1&command=a&command=b%26c",
    }));

  test("an init container is", () =>
    expect(log(pod({ initContainers: [{ name: "i" }] }), "container=i")?.path).toBe("/containerLogs/ns/p/i"));
});

describe("refused", () => {
  test.each([
    ["", "a container name must be specified for pod p, choose one of: [a b]"],
    ["container=c", "container c is not valid for pod p"],
    ["container=a&tailLines=x", 'strconv.ParseInt: parsing "x": invalid syntax'],
    [
      "container=a&tailLines=-1",
      'PodLogOptions "p" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0',
    ],
    [
      "container=a&limitBytes=0",
      'PodLogOptions "p" is invalid: limitBytes: Invalid value: 0: must be greater than 0',
    ],
    [
      "container=a&sinceSeconds=1&sinceTime=2024-01-01T00:00:00Z",
      "at most one of `sinceTime` or `sinceSeconds`",
    ],
    ["container=a&sinceTime=noon", 'parsing time "noon"'],
  ])("a log with %s", (query, text) => expect(() => log(pod(), query)).toThrow(text));

  test("a choice that has init containers too", () =>
    expect(() => exec(pod({ initContainers: [{ name: "i" }, { name: "j" }] }))).toThrow(
      "choose one of: [a b] or one of the init containers: [i j]",
    ));

  test("without a node, a command; a log is empty", () => {
    const free = pod({ nodeName: undefined, containers: [{ name: "a" }] });
    expect(() => exec(free)).toThrow("pod p does not have a host assigned");
    expect(log(free)).toBeNull();
  });

  test.each([
    ["ContainerCreating", ": ContainerCreating"],
    ["ErrImagePull", ": image can't be pulled"],
    ["ImagePullBackOff", ": trying and failing to pull image"],
    [undefined, " - no logs yet"],
  ])("a log of a container that waits: %s", (reason, text) => {
    const waiting = { name: "a", state: { waiting: { reason } } };
    expect(() => log(one({ containerStatuses: [waiting] }))).toThrow(
      new RegExp(`^container "a" in pod "p" is waiting to start${text}$`),
    );
    const crashed = { ...waiting, lastState: { terminated: { exitCode: 1 } } };
    expect(log(one({ containerStatuses: [crashed] }))).not.toBeNull();
  });

  test.each(["log", "exec", "attach", "portforward", "proxy"])("to a node: pods/%s", (subresource) => {
    const node = { name: "system:node:n1", groups: ["system:nodes", "system:authenticated"] };
    const attributes = { group: "", resource: `pods/${subresource}`, namespace: "ns", name: "p" };
    for (const verb of ["get", "create"])
      expect(() => authorize(node, { ...attributes, verb }, () => [])).toThrow(
        `pods "p" is forbidden: User "system:node:n1" cannot ${verb} resource "pods/${subresource}"`,
      );
    expect(() => authorize(node, { ...attributes, resource: "pods", verb: "get" }, () => [])).not.toThrow();
  });
});
