/**
 * Writes openapi/protobuf-v1.20.2.json: numbers and types of the fields of the kinds that kubectl sends
 * as protobuf (`kubectl create configmap`, `create deployment`, …).
 *
 *   node scripts/generate-protobuf.mjs SOURCE
 *
 * SOURCE is the unpacked Debian source package kubernetes 1.20.2 (`apt-get source --download-only
 * kubernetes`, bookworm). Field numbers never change in Kubernetes; ADDED has those younger than 1.20.
 * The generated.proto files give numbers and types, the types.go files say which scalars are pointers: of
 * those a zero is a value, of the others it stands for absence. Apache License 2.0, Copyright The
 * Kubernetes Authors.
 *
 * A message is a map from number to [JSON name, type, flags]: "r" repeated, "m" map from string, "i" its
 * fields are the outer message's in JSON, "p" a zero counts.
 */
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const source = process.argv[2];
if (!source) {
  console.error("usage: node scripts/generate-protobuf.mjs SOURCE");
  process.exit(2);
}
const META = "k8s.io.apimachinery.pkg.apis.meta.v1";
const PACKAGES = {
  "k8s.io.api.core.v1": "api/core/v1",
  "k8s.io.api.apps.v1": "api/apps/v1",
  "k8s.io.api.coordination.v1": "api/coordination/v1",
  "k8s.io.api.authorization.v1": "api/authorization/v1",
  "k8s.io.api.events.v1": "api/events/v1",
  "k8s.io.api.policy.v1beta1": "api/policy/v1beta1",
  [META]: "apimachinery/pkg/apis/meta/v1",
};
const ROOTS = [
  "ConfigMap",
  "Endpoints",
  "Event",
  "Namespace",
  "Node",
  "Pod",
  "Secret",
  "Service",
  "ServiceAccount",
].map((kind) => `k8s.io.api.core.v1.${kind}`);
ROOTS.push(...["DaemonSet", "Deployment", "ReplicaSet"].map((kind) => `k8s.io.api.apps.v1.${kind}`));
ROOTS.push("k8s.io.api.coordination.v1.Lease", `${META}.DeleteOptions`);
ROOTS.push("k8s.io.api.events.v1.Event", "k8s.io.api.policy.v1beta1.Eviction");
for (const kind of ["LocalSubjectAccess", "SelfSubjectAccess", "SelfSubjectRules", "SubjectAccess"])
  ROOTS.push(`k8s.io.api.authorization.v1.${kind}Review`);

/** Embedded structs: their fields are the outer object's in JSON. */
const INLINE = new Set(["volumeSource", "handler", "localObjectReference", "ephemeralContainerCommon"]);

const messages = {};
for (const [name, folder] of Object.entries(PACKAGES)) {
  const path = join(source, "staging/src/k8s.io", folder);
  const pointers = pointersOf(readFileSync(join(path, "types.go"), "utf8"));
  const text = readFileSync(join(path, "generated.proto"), "utf8").replace(/^\s*\/\/.*$/gm, "");
  for (const [, message, body] of text.matchAll(/^message (\w+) \{([\s\S]*?)^\}/gm)) {
    const fields = {};
    const pattern = /^\s*(?:(optional|repeated) )?(map<string, ([\w.]+)>|[\w.]+) (\w+) = (\d+);/gm;
    for (const [, rule, type, mapType, field, number] of body.matchAll(pattern)) {
      const value = (mapType ?? type).replace(/^\./, "");
      const scalar = /^(string|bytes|bool|int32|int64|double)$/.test(value);
      const full = scalar || value.includes(".") ? value : `${name}.${value}`;
      let flags = mapType ? "m" : rule === "repeated" ? "r" : "";
      if (INLINE.has(field)) flags += "i";
      if (pointers.has(`${message}.${field}`)) flags += "p";
      fields[number] = [field, full, flags];
    }
    messages[`${name}.${message}`] = fields;
  }
}

/** "Struct.jsonName" of every pointer to a scalar. */
function pointersOf(text) {
  const found = new Set();
  for (const [, struct, body] of text.matchAll(/^type (\w+) struct \{([\s\S]*?)^\}/gm)) {
    for (const [, name] of body.matchAll(/^\s+\w+\s+\*\w+\s+`json:"(\w+)/gm)) found.add(`${struct}.${name}`);
  }
  return found;
}

/**
 * What kinds have got since 1.20, as far as kubectl's typed commands and ordinary clients send it. The
 * decoder refuses other new fields instead of losing them.
 */
const CORE = "k8s.io.api.core.v1";
const AUTHENTICATION = "k8s.io.api.authentication.v1";
const ADDED = {
  [`${AUTHENTICATION}.SelfSubjectReview`]: {
    1: ["metadata", `${META}.ObjectMeta`, ""],
    2: ["status", `${AUTHENTICATION}.SelfSubjectReviewStatus`, ""],
  },
  [`${AUTHENTICATION}.SelfSubjectReviewStatus`]: { 1: ["userInfo", `${AUTHENTICATION}.UserInfo`, ""] },
  [`${AUTHENTICATION}.UserInfo`]: {
    1: ["username", "string", ""],
    2: ["uid", "string", ""],
    3: ["groups", "string", "r"],
  },
  [`${CORE}.Container`]: {
    23: ["resizePolicy", `${CORE}.ContainerResizePolicy`, "r"],
    24: ["restartPolicy", "string", "p"],
  },
  [`${CORE}.ContainerResizePolicy`]: {
    1: ["resourceName", "string", ""],
    2: ["restartPolicy", "string", ""],
  },
  [`${CORE}.PodAffinityTerm`]: { 4: ["namespaceSelector", `${META}.LabelSelector`, ""] },
  [`${CORE}.PodOS`]: { 1: ["name", "string", ""] },
  [`${CORE}.PodSchedulingGate`]: { 1: ["name", "string", ""] },
  [`${CORE}.PodSpec`]: {
    36: ["os", `${CORE}.PodOS`, ""],
    37: ["hostUsers", "bool", "p"],
    38: ["schedulingGates", `${CORE}.PodSchedulingGate`, "r"],
  },
  [`${CORE}.Probe`]: { 7: ["terminationGracePeriodSeconds", "int64", "p"] },
  [`${CORE}.ServiceSpec`]: {
    21: ["loadBalancerClass", "string", "p"],
    22: ["internalTrafficPolicy", "string", "p"],
    23: ["trafficDistribution", "string", "p"],
  },
  [`${CORE}.TopologySpreadConstraint`]: {
    5: ["minDomains", "int32", "p"],
    6: ["nodeAffinityPolicy", "string", "p"],
    7: ["nodeTaintsPolicy", "string", "p"],
    8: ["matchLabelKeys", "string", "r"],
  },
  "k8s.io.api.apps.v1.RollingUpdateDaemonSet": {
    2: ["maxSurge", "k8s.io.apimachinery.pkg.util.intstr.IntOrString", ""],
  },
};
for (const [name, fields] of Object.entries(ADDED)) messages[name] = { ...messages[name], ...fields };
ROOTS.push(`${AUTHENTICATION}.SelfSubjectReview`);

const reachable = {};
function visit(name) {
  if (!messages[name] || reachable[name]) return;
  reachable[name] = messages[name];
  for (const [, type] of Object.values(messages[name])) visit(type);
}
ROOTS.forEach(visit);

const sorted = Object.fromEntries(
  Object.keys(reachable)
    .sort()
    .map((name) => [name, reachable[name]]),
);
const output = fileURLToPath(new URL("../openapi/protobuf-v1.20.2.json", import.meta.url));
writeFileSync(output, JSON.stringify(sorted));
execFileSync("npx", ["biome", "format", "--write", output], { stdio: "ignore" });
console.log(`${output}: ${Object.keys(sorted).length} messages`);
