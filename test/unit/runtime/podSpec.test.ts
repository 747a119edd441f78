import { expect, test } from "vitest";
import { DEFAULT_IMAGES, findImage, ImageTableError, parseImageTable } from "../../../src/runtime/images.js";
import { DEFAULT_CAPABILITIES } from "../../../src/runtime/oci.js";
import {
  ConfigProblem,
  type Container,
  containerSpec,
  expand,
  refusalOf,
} from "../../../src/runtime/podSpec.js";
import { boundPod } from "../../support/pods.js";

const variables = new Map([
  ["A", "one"],
  ["B", "$(A)"],
]);

test.each([
  ["$(A)-$(B)", "one-$(A)"],
  ["$$(A)", "$(A)"],
  ["$(NONE) $A $", "$(NONE) $A $"],
  ["$(A", "$(A"],
])("%s expands to %s", (text, expected) => expect(expand(text, variables)).toBe(expected));

const spec = (
  container: Partial<Container>,
  image = "busybox",
  data: Record<string, string> | null = null,
) => {
  const pod = boundPod("web", [{ image, ...container }]);
  return containerSpec(pod.spec!.containers[0]!, findImage(DEFAULT_IMAGES, image)!, 0, {
    pod,
    node: "n1",
    nodeAddress: "192.0.2.1",
    podIP: "192.0.2.10",
    lookup: async () => data,
    volume: (name, files) => `/volumes/${name}/${Object.keys(files ?? {}).join("+")}`,
  });
};

test("command and args take the place of the image's", async () => {
  expect((await spec({}, "nginx")).command).toEqual(["nginx", "-c", "/etc/nginx/nginx.conf"]);
  expect((await spec({ args: ["-v"] }, "nginx")).command).toEqual(["nginx", "-v"]);
  expect((await spec({ command: ["x"] }, "nginx")).command).toEqual(["x"]);
  expect(
    (await spec({ command: ["$(V)"], args: ["$(V)"], env: [{ name: "V", value: "w" }] })).command,
  ).toEqual(["w", "w"]);
});

test("environment from fields, ConfigMaps and Secrets", async () => {
  const value = Buffer.from("secret").toString("base64");
  const { env } = await spec(
    {
      envFrom: [{ secretRef: { name: "s" }, prefix: "P_" }],
      env: [
        { name: "IP", valueFrom: { fieldRef: { fieldPath: "status.podIP" } } },
        { name: "KEY", valueFrom: { configMapKeyRef: { name: "m", key: "k" } } },
        { name: "URL", value: "http://$(IP)/$(KEY)" },
        { name: "NOT", valueFrom: { configMapKeyRef: { name: "m", key: "none", optional: true } } },
      ],
    },
    "busybox",
    { k: value },
  );
  expect(env).toEqual(
    expect.arrayContaining([
      "HOSTNAME=web",
      "IP=192.0.2.10",
      "KEY=secret",
      "P_k=secret",
      "URL=http://192.0.2.10/secret",
    ]),
  );
  expect(env.some((each) => each.startsWith("NOT="))).toBe(false);
  await expect(spec({ envFrom: [{ secretRef: { name: "s" } }] })).rejects.toThrow(
    new ConfigProblem('secret "s" not found'),
  );
});

test("limits, user", async () => {
  const { memoryLimit, cpuLimit, user } = await spec({
    resources: { limits: { memory: "64Mi", cpu: "250m" } },
    securityContext: { runAsUser: 1000 },
  });
  expect({ memoryLimit, cpuLimit, user }).toEqual({
    memoryLimit: 64 * 2 ** 20,
    cpuLimit: 250,
    user: { uid: 1000, gid: 0, groups: [] },
  });
  await expect(spec({ securityContext: { runAsNonRoot: true } })).rejects.toThrow(/runAsNonRoot/);
});

test("capabilities are dropped, and come back by name", async () => {
  const having = async (capabilities: object) =>
    (await spec({ securityContext: { capabilities } })).capabilities;
  expect(await having({})).toEqual(DEFAULT_CAPABILITIES);
  expect(await having({ drop: ["ALL"] })).toEqual([]);
  expect(await having({ drop: ["ALL"], add: ["NET_BIND_SERVICE"] })).toEqual(["CAP_NET_BIND_SERVICE"]);
  expect(await having({ drop: ["CAP_CHOWN", "NET_RAW"] })).toEqual(
    DEFAULT_CAPABILITIES.filter((each) => each !== "CAP_CHOWN" && each !== "CAP_NET_RAW"),
  );
});

test.each<[object, object, RegExp]>([
  [{ securityContext: { privileged: true } }, {}, /^container c0: privileged is refused$/],
  [{ securityContext: { capabilities: { add: ["NET_ADMIN"] } } }, {}, /refused \(NET_ADMIN\)$/],
  [{ securityContext: { seccompProfile: { type: "Unconfined" } } }, {}, /profile Unconfined is refused$/],
  [{ securityContext: { procMount: "Unmasked" } }, {}, /procMount Unmasked is refused$/],
  [{ volumeMounts: [{ name: "v", mountPath: "/v", subPath: "a" }] }, {}, /"v": subPath is not supported$/],
  [{}, { hostNetwork: true }, /^hostNetwork is refused/],
  [{}, { hostPID: true }, /^hostPID is refused/],
  [{}, { hostIPC: true }, /^hostIPC is refused/],
  [{}, { securityContext: { sysctls: [{ name: "a", value: "1" }] } }, /^sysctls are refused/],
  [{}, { volumes: [{ name: "v", hostPath: { path: "/" } }] }, /hostPath is refused/],
  [{}, { volumes: [{ name: "v", nfs: { server: "s", path: "/" } }] }, /nfs is not supported/],
  [{}, { initContainers: [{ name: "i", restartPolicy: "Always" }] }, /^container i: sidecar containers/],
  [
    {},
    { initContainers: [{ name: "i", securityContext: { privileged: true } }] },
    /^container i: privileged/,
  ],
])("%j %j is refused", (container, more, why) => {
  expect(refusalOf(boundPod("bad", [container], more))).toMatch(why);
});

test("what a container runtime does by default is not refused", () => {
  const securityContext = {
    privileged: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ["ALL"], add: ["NET_BIND_SERVICE"] },
    seccompProfile: { type: "RuntimeDefault" },
  };
  expect(refusalOf(boundPod("good", [{ securityContext }]))).toBeNull();
});

test.each([
  ["nginx", "nginx"],
  ["nginx:1.25", "nginx"],
  ["docker.io/library/nginx:latest", "nginx"],
  ["nginx@sha256:00", "nginx"],
  ["shotaohtsuka/my-httpd-image", "shotaohtsuka/my-httpd-image"],
])("%s is %s", (image, entry) => expect(findImage(DEFAULT_IMAGES, image)).toBe(DEFAULT_IMAGES[entry]));

test.each(["localhost:5000/nginx", "nginx2", "constructor"])("%s is unknown", (image) =>
  expect(findImage(DEFAULT_IMAGES, image)).toBeNull(),
);

test("a table's problems name the field", () => {
  const text = "images:\n  x:\n    user: root\n    files: { etc/x: y }\n";
  expect(() => parseImageTable("t.yaml", text)).toThrow(ImageTableError);
  expect(() => parseImageTable("t.yaml", text)).toThrow(/t\.yaml: images\.x\.user: must be UID/);
  const table = parseImageTable("t.yaml", "images: { 'x:1': { command: [a] }, x: { command: [b] } }");
  expect(findImage(table, "x:1")?.command).toEqual(["a"]);
  expect(findImage(table, "x:2")?.command).toEqual(["b"]);
});
