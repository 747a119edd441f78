/**
 * Writes openapi/kubernetes-v1.32.0.json: the schemas of the built-in kinds that the API server serves.
 *
 *   node scripts/generate-openapi.mjs CLIENT_NODE SWAGGER
 *
 * CLIENT_NODE is the unpacked npm package @kubernetes/client-node 1.1.2, whose models are generated from
 * the OpenAPI document of Kubernetes v1.32.0: every class, field, type, format, requirement and
 * description comes from there. (`npm pack @kubernetes/client-node@1.1.2 && tar xzf …`)
 *
 * SWAGGER is api/openapi-spec/swagger.json of the Debian source package kubernetes 1.20.2
 * (`apt-get source --download-only kubernetes`, bookworm). The models have lost the x-kubernetes-*
 * extensions, the line breaks in descriptions and the names Quantity, Time, …; they are taken from the
 * field of the same name here. ADDED names the extensions of fields that are younger than 1.20, ENUMS the
 * values of enumerated fields, which neither source has.
 *
 * Both are under the Apache License 2.0, Copyright The Kubernetes Authors.
 */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const [clientNode, swaggerFile] = process.argv.slice(2);
if (!clientNode || !swaggerFile) {
  console.error("usage: node scripts/generate-openapi.mjs CLIENT_NODE SWAGGER");
  process.exit(2);
}

const CORE = "io.k8s.api.core.v1";
const APPS = "io.k8s.api.apps.v1";
const DISCOVERY = "io.k8s.api.discovery.v1";
const COORDINATION = "io.k8s.api.coordination.v1";
const AUTOSCALING = "io.k8s.api.autoscaling.v1";
const POLICY = "io.k8s.api.policy.v1";
const EVENTS = "io.k8s.api.events.v1";
const AUTHORIZATION = "io.k8s.api.authorization.v1";
const AUTHENTICATION = "io.k8s.api.authentication.v1";
const META = "io.k8s.apimachinery.pkg.apis.meta.v1";
const QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const RAW = "io.k8s.apimachinery.pkg.runtime.RawExtension";

/** Kinds that are served, with their lists. */
const ROOTS = {
  [CORE]: [
    "ConfigMap",
    "Endpoints",
    "Event",
    "Namespace",
    "Node",
    "Pod",
    "Secret",
    "ServiceAccount",
    "Service",
  ],
  [APPS]: ["ControllerRevision", "DaemonSet", "Deployment", "ReplicaSet"],
  [EVENTS]: ["Event"],
  [DISCOVERY]: ["EndpointSlice"],
  [COORDINATION]: ["Lease"],
};
const OTHER_ROOTS = [
  [AUTOSCALING, "Scale"],
  [CORE, "Binding"],
  [POLICY, "Eviction"],
  [AUTHORIZATION, "LocalSubjectAccessReview"],
  [AUTHORIZATION, "SelfSubjectAccessReview"],
  [AUTHORIZATION, "SelfSubjectRulesReview"],
  [AUTHORIZATION, "SubjectAccessReview"],
  [AUTHENTICATION, "SelfSubjectReview"],
  [META, "Status"],
  [META, "DeleteOptions"],
  [META, "WatchEvent"],
  [META, "APIResourceList"],
];

/** Versions of today that had another name in the swagger file. */
const FORMERLY = {
  [DISCOVERY]: "io.k8s.api.discovery.v1beta1",
  [POLICY]: "io.k8s.api.policy.v1beta1",
};

/** Extensions of fields that came after 1.20, as their Go tags and markers have them. */
const ADDED = {
  [`${CORE}.PodSpec`]: {
    resourceClaims: mergeList("name", "merge,retainKeys"),
    schedulingGates: mergeList("name"),
  },
  [`${CORE}.PodStatus`]: {
    hostIPs: {
      ...mergeList("ip"),
      "x-kubernetes-list-map-keys": undefined,
      "x-kubernetes-list-type": "atomic",
    },
    resourceClaimStatuses: mergeList("name", "merge,retainKeys"),
  },
  [`${CORE}.ContainerStatus`]: { volumeMounts: mergeList("mountPath") },
  [`${CORE}.ResourceRequirements`]: {
    claims: { "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"] },
  },
};

function mergeList(key, strategy = "merge") {
  return {
    "x-kubernetes-list-map-keys": [key],
    "x-kubernetes-list-type": "map",
    "x-kubernetes-patch-merge-key": key,
    "x-kubernetes-patch-strategy": strategy,
  };
}

/**
 * Values of enumerated fields (+enum in the Go types). The published documents leave them out; a live
 * server has them, and `kubectl explain` lists them.
 */
const PROTOCOL = ["SCTP", "TCP", "UDP"];
const EFFECT = ["NoExecute", "NoSchedule", "PreferNoSchedule"];
const PULL_POLICY = ["Always", "IfNotPresent", "Never"];
const TERMINATION_POLICY = ["FallbackToLogsOnError", "File"];
const TRAFFIC_POLICY = ["Cluster", "Local"];
const ENUMS = {
  [`${CORE}.ServiceSpec`]: {
    type: ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
    sessionAffinity: ["ClientIP", "None"],
    externalTrafficPolicy: TRAFFIC_POLICY,
    internalTrafficPolicy: TRAFFIC_POLICY,
    ipFamilyPolicy: ["PreferDualStack", "RequireDualStack", "SingleStack"],
  },
  [`${CORE}.ServicePort`]: { protocol: PROTOCOL },
  [`${CORE}.EndpointPort`]: { protocol: PROTOCOL },
  [`${CORE}.ContainerPort`]: { protocol: PROTOCOL },
  [`${CORE}.PortStatus`]: { protocol: PROTOCOL },
  [`${CORE}.Container`]: { imagePullPolicy: PULL_POLICY, terminationMessagePolicy: TERMINATION_POLICY },
  [`${CORE}.EphemeralContainer`]: {
    imagePullPolicy: PULL_POLICY,
    terminationMessagePolicy: TERMINATION_POLICY,
  },
  [`${CORE}.PodSpec`]: {
    restartPolicy: ["Always", "Never", "OnFailure"],
    dnsPolicy: ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"],
    preemptionPolicy: ["Never", "PreemptLowerPriority"],
  },
  [`${CORE}.PodStatus`]: {
    phase: ["Failed", "Pending", "Running", "Succeeded", "Unknown"],
    qosClass: ["BestEffort", "Burstable", "Guaranteed"],
  },
  [`${CORE}.Taint`]: { effect: EFFECT },
  [`${CORE}.Toleration`]: { effect: EFFECT, operator: ["Equal", "Exists"] },
  [`${CORE}.HTTPGetAction`]: { scheme: ["HTTP", "HTTPS"] },
  [`${CORE}.NamespaceStatus`]: { phase: ["Active", "Terminating"] },
  [`${APPS}.DaemonSetUpdateStrategy`]: { type: ["OnDelete", "RollingUpdate"] },
  [`${APPS}.DeploymentStrategy`]: { type: ["Recreate", "RollingUpdate"] },
  [`${DISCOVERY}.EndpointSlice`]: { addressType: ["FQDN", "IPv4", "IPv6"] },
};

/** Maps of amounts in fields that came after 1.20. */
const QUANTITY_FIELDS = new Set(["allocatedResources", "limits", "requests", "capacity"]);

const swagger = JSON.parse(readFileSync(swaggerFile, "utf8"));
const modelsFolder = join(clientNode, "dist/gen/models");
const classes = new Map();
for (const file of readdirSync(modelsFolder)) {
  if (file.endsWith(".d.ts")) readClass(file.slice(0, -5));
}
const version = /spec version: (v[\d.]+)/.exec(readFileSync(join(modelsFolder, "V1Pod.js"), "utf8"))[1];

/** A class of the models: description and fields {name, type, format, required, description}. */
function readClass(name) {
  const types = readFileSync(join(modelsFolder, `${name}.d.ts`), "utf8");
  const body = readFileSync(join(modelsFolder, `${name}.js`), "utf8");
  const list = /attributeTypeMap = (\[[\s\S]*?\n\]);/.exec(body);
  if (!list) return;
  const at = types.indexOf("export declare class");
  const fields = JSON.parse(list[1]).map((field) => {
    const key = new RegExp(`\\n    '${field.name.replace("$", "\\$")}'(\\??): `).exec(types);
    return {
      name: field.baseName,
      type: field.type,
      format: field.format,
      required: key[1] === "",
      description: commentBefore(types, key.index),
    };
  });
  classes.set(name, { description: commentBefore(types, at), fields });
}

function commentBefore(text, index) {
  const end = text.lastIndexOf("*/", index);
  const start = text.lastIndexOf("/**", end);
  if (start < 0 || text.slice(end + 2, index).trim() !== "") return "";
  return text
    .slice(start + 3, end)
    .replace(/^\s*\*\s?/gm, "")
    .replace(/\\(['"])/g, "$1")
    .trim();
}

const schemas = {};

/** The class of a schema: V1Pod, or CoreV1Event where two groups have one. */
function classOf(schemaName) {
  const parts = /([a-z]+)\.(v\w+)\.(\w+)$/.exec(schemaName);
  if (parts === null) return undefined;
  const [, group, apiVersion, name] = parts;
  const plain = capital(apiVersion) + name;
  const prefixed = capital(group) + plain;
  return classes.has(prefixed) ? prefixed : plain;
}

function capital(text) {
  return text[0].toUpperCase() + text.slice(1);
}

/** The schema of a class that one of `home` (a package) mentions. */
function schemaOf(className, home) {
  const name = /^(?:[A-Z][a-z]+)?V\d(?:(?:alpha|beta)\d)?([A-Z]\w*)$/.exec(className)[1];
  for (const place of [home, META, CORE, AUTOSCALING]) {
    const candidate = `${place}.${name}`;
    if (swagger.definitions[formerName(candidate)] && classOf(candidate) === className) return candidate;
  }
  return `${home}.${name}`;
}

function formerName(schemaName) {
  const dot = schemaName.lastIndexOf(".");
  const place = schemaName.slice(0, dot);
  return `${FORMERLY[place] ?? place}${schemaName.slice(dot)}`;
}

function reference(schemaName) {
  visit(schemaName);
  return { $ref: `#/components/schemas/${schemaName}` };
}

function visit(schemaName) {
  if (schemas[schemaName]) return;
  const former = swagger.definitions[formerName(schemaName)];
  const model = classes.get(classOf(schemaName));
  if (schemaName === INT_OR_STRING || schemaName === QUANTITY) {
    const { description } = former;
    const oneOf = [{ type: schemaName === QUANTITY ? "string" : "integer" }];
    oneOf.push({ type: schemaName === QUANTITY ? "number" : "string" });
    const format = schemaName === QUANTITY ? {} : { format: "int-or-string" };
    schemas[schemaName] = { description, ...format, oneOf };
    return;
  }
  if (!model) {
    const { description, type, format } = former;
    schemas[schemaName] = { description, type, ...(format ? { format } : {}) };
    return;
  }
  const schema = { description: description(model.description, former?.description), type: "object" };
  schemas[schemaName] = schema;
  const home = schemaName.slice(0, schemaName.lastIndexOf("."));
  const required = model.fields.filter((field) => field.required).map((field) => field.name);
  if (required.length > 0) schema.required = required;
  schema.properties = {};
  for (const field of model.fields) {
    const before = former?.properties?.[field.name];
    schema.properties[field.name] = {
      ...property(field, before, home),
      ...extensions(before),
      ...ADDED[schemaName]?.[field.name],
      ...(ENUMS[schemaName]?.[field.name] ? { enum: ENUMS[schemaName][field.name] } : {}),
    };
  }
  if (former?.["x-kubernetes-map-type"]) schema["x-kubernetes-map-type"] = former["x-kubernetes-map-type"];
}

function property(field, before, home) {
  const type = typeSchema(field.type, field.format, field.name, before, home);
  const text = description(field.description, before?.description);
  const about = text ? { description: text } : {};
  return type.$ref ? { ...about, allOf: [type] } : { ...about, ...type };
}

function typeSchema(type, format, name, before, home) {
  const formats = format ? { format } : {};
  const array = /^Array<(.*)>$/.exec(type);
  if (array)
    return { type: "array", items: wrapped(typeSchema(array[1], format, name, before?.items, home)) };
  const map = /^\{ \[key: string\]: (.*); \}$/.exec(type);
  if (map) {
    const inner = typeSchema(map[1], format, name, before?.additionalProperties, home);
    const amounts = map[1] === "string" && before === undefined && QUANTITY_FIELDS.has(name);
    return { type: "object", additionalProperties: wrapped(amounts ? reference(QUANTITY) : inner) };
  }
  const formerRef = before?.$ref?.replace("#/definitions/", "");
  if (formerRef && [QUANTITY, `${META}.FieldsV1`, RAW].includes(formerRef)) return reference(formerRef);
  switch (type) {
    case "string":
      return { type: "string", ...formats };
    case "boolean":
      return { type: "boolean" };
    case "number":
      return { type: format.startsWith("int") ? "integer" : "number", ...formats };
    case "Date":
      return reference(`${META}.Time`);
    case "V1MicroTime":
      return reference(`${META}.MicroTime`);
    case "IntOrString":
      return reference(INT_OR_STRING);
    case "any":
    case "object":
      return reference(RAW);
    default:
      return reference(schemaOf(type, home));
  }
}

function wrapped(schema) {
  return schema.$ref ? { allOf: [schema] } : schema;
}

/** The text with its line breaks where only they are missing; the models have none for fields of some types. */
function description(text, former) {
  if (text === "") return former ?? "";
  const flat = (value) => value.replace(/\s+/g, " ").trim();
  return former !== undefined && flat(former) === flat(text) ? former : text;
}

function extensions(before) {
  return Object.fromEntries(Object.entries(before ?? {}).filter(([key]) => key.startsWith("x-kubernetes-")));
}

for (const [home, kinds] of Object.entries(ROOTS)) {
  for (const kind of kinds) {
    visit(`${home}.${kind}`);
    visit(`${home}.${kind}List`);
    mark(`${home}.${kind}`);
    mark(`${home}.${kind}List`);
  }
}
for (const [home, kind] of OTHER_ROOTS) {
  visit(`${home}.${kind}`);
  mark(`${home}.${kind}`);
}

function mark(schemaName) {
  const [, group, apiVersion, kind] = /([a-z]+)\.(v\w+)\.(\w+)$/.exec(schemaName);
  const groups = { core: "", meta: "", apps: "apps", autoscaling: "autoscaling", policy: "policy" };
  const name = groups[group] ?? `${group}.k8s.io`;
  schemas[schemaName]["x-kubernetes-group-version-kind"] = [{ group: name, kind, version: apiVersion }];
}

const sorted = Object.fromEntries(
  Object.keys(schemas)
    .sort()
    .map((name) => [name, schemas[name]]),
);
const output = fileURLToPath(new URL(`../openapi/kubernetes-${version}.json`, import.meta.url));
writeFileSync(output, JSON.stringify({ version, schemas: sorted }));
execFileSync("npx", ["biome", "format", "--write", output]);
console.log(`${output}: ${Object.keys(sorted).length} schemas`);
