/** Discovery documents, the plain ones and the aggregated (apidiscovery.k8s.io). Pure. */
import type { ResourceDefinition } from "../resource.js";

const VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const SUBRESOURCE_VERBS = ["get", "patch", "update"];

interface Subresource {
  name: string;
  kind: string;
  group?: string;
  version?: string;
  verbs: string[];
}

/** What can be reached below an object of this kind. */
function subresourcesOf({ subresources, kind, group, plural }: ResourceDefinition): Subresource[] {
  const found: Subresource[] = [];
  if (subresources.status) found.push({ name: "status", kind, verbs: SUBRESOURCE_VERBS });
  if (subresources.scale !== undefined)
    found.push({
      name: "scale",
      kind: "Scale",
      group: "autoscaling",
      version: "v1",
      verbs: SUBRESOURCE_VERBS,
    });
  if (group === "" && plural === "pods")
    found.push(
      { name: "binding", kind: "Binding", verbs: ["create"] },
      { name: "eviction", kind: "Eviction", group: "policy", version: "v1", verbs: ["create"] },
      { name: "exec", kind: "PodExecOptions", verbs: ["create", "get"] },
      { name: "log", kind: "Pod", verbs: ["get"] },
    );
  if (group === "" && plural === "nodes")
    found.push({ name: "proxy", kind: "NodeProxyOptions", verbs: ["get"] });
  if (group === "" && plural === "namespaces") found.push({ name: "finalize", kind, verbs: ["update"] });
  return found;
}

export const groupVersionOf = ({ group, version }: { group: string; version: string }): string =>
  group === "" ? version : `${group}/${version}`;

/** /api */
export function apiVersions(serverAddress: string): object {
  return {
    kind: "APIVersions",
    versions: ["v1"],
    serverAddressByClientCIDRs: [{ clientCIDR: "0.0.0.0/0", serverAddress }],
  };
}

/** /apis */
export function apiGroups(definitions: readonly ResourceDefinition[]): object {
  return {
    kind: "APIGroupList",
    apiVersion: "v1",
    groups: groupsOf(definitions).map((group) => apiGroup(definitions, group)),
  };
}

/** /apis/GROUP; undefined where there is none. */
export function apiGroup(definitions: readonly ResourceDefinition[], group: string): object | undefined {
  const versions = versionsOf(definitions, group).map((version) => ({
    groupVersion: `${group}/${version}`,
    version,
  }));
  if (group === "" || versions.length === 0) return undefined;
  return { kind: "APIGroup", apiVersion: "v1", name: group, versions, preferredVersion: versions[0] };
}

/** /api/v1 and /apis/GROUP/VERSION; undefined where there is none. */
export function apiResources(
  definitions: readonly ResourceDefinition[],
  group: string,
  version: string,
): object | undefined {
  const served = definitions.filter((each) => each.group === group && each.version === version);
  if (served.length === 0) return undefined;
  const resources = served.flatMap((definition) => [
    {
      name: definition.plural,
      singularName: definition.singular,
      namespaced: definition.namespaced,
      kind: definition.kind,
      verbs: definition.verbs ?? VERBS,
      ...lists(definition),
    },
    ...subresourcesOf(definition).map(({ name, ...more }) => ({
      name: `${definition.plural}/${name}`,
      singularName: "",
      namespaced: definition.namespaced,
      ...more,
    })),
  ]);
  return {
    kind: "APIResourceList",
    apiVersion: "v1",
    groupVersion: groupVersionOf({ group, version }),
    resources,
  };
}

/** /api (`core`) and /apis as APIGroupDiscoveryList of apidiscovery.k8s.io/`version`. */
export function aggregated(
  definitions: readonly ResourceDefinition[],
  core: boolean,
  version: string,
): object {
  const groups = core ? [""] : groupsOf(definitions);
  return {
    kind: "APIGroupDiscoveryList",
    apiVersion: `apidiscovery.k8s.io/${version}`,
    metadata: {},
    items: groups.map((group) => ({
      metadata: group === "" ? { creationTimestamp: null } : { name: group, creationTimestamp: null },
      versions: versionsOf(definitions, group).map((each) => ({
        version: each,
        freshness: "Current",
        resources: definitions
          .filter((definition) => definition.group === group && definition.version === each)
          .map(aggregatedResource),
      })),
    })),
  };
}

function aggregatedResource(definition: ResourceDefinition): object {
  const { group, version, kind, plural, singular, namespaced } = definition;
  const subresources = subresourcesOf(definition).map((each) => ({
    subresource: each.name,
    responseKind: { group: each.group ?? group, version: each.version ?? version, kind: each.kind },
    verbs: each.verbs,
  }));
  return {
    resource: plural,
    responseKind: { group, version, kind },
    scope: namespaced ? "Namespaced" : "Cluster",
    singularResource: singular,
    verbs: definition.verbs ?? VERBS,
    ...lists(definition),
    ...(subresources.length === 0 ? {} : { subresources }),
  };
}

function lists({ shortNames, categories }: ResourceDefinition): object {
  return {
    ...(shortNames.length === 0 ? {} : { shortNames }),
    ...(categories.length === 0 ? {} : { categories }),
  };
}

function groupsOf(definitions: readonly ResourceDefinition[]): string[] {
  return [...new Set(definitions.map(({ group }) => group))].filter((group) => group !== "");
}

function versionsOf(definitions: readonly ResourceDefinition[], group: string): string[] {
  return [...new Set(definitions.filter((each) => each.group === group).map(({ version }) => version))];
}
