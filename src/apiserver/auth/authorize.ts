/**
 * Who may do what (DESIGN §9). Administrators everything; a node reads what it lives from and writes what is
 * its own; everybody with a certificate reads discovery. Rules that need the object are in
 * nodeRestriction.ts, what a node's pods refer to in nodeReferences.ts. Pure.
 */
import type { KubeObject } from "../../kube/KubeApi.js";
import { KubeError } from "../../kube/KubeError.js";
import { forbidden } from "../errors.js";
import type { User } from "../verbs/Hooks.js";
import { isReferred, type ReferredKind } from "./nodeReferences.js";

const ADMINS = "system:masters";
export const NODES = "system:nodes";
export const AUTHENTICATED = "system:authenticated";
export const BOOTSTRAPPERS = "system:bootstrappers";
export const ANONYMOUS: User = { name: "system:anonymous", groups: ["system:unauthenticated"] };
const NODE_PREFIX = "system:node:";

/** What a request is about. */
export interface Attributes {
  /** Kubernetes' verb: get list watch create update patch delete deletecollection. */
  verb: string;
  group: string;
  /** "pods", "pods/status" */
  resource: string;
  namespace: string | undefined;
  name: string | undefined;
}

const NODE_READS = ["get", "list", "watch"];
/** What a node reads one by one, where its pods refer to it. */
const REFERRED: Record<string, ReferredKind> = { "/secrets": "secrets", "/configmaps": "configmaps" };
/** What nodes never need to see otherwise; getting a connection to a pod is a read by its verb only. */
const HIDDEN_FROM_NODES = [
  ...Object.keys(REFERRED),
  "/serviceaccounts",
  ...["log", "exec", "attach", "portforward", "proxy"].map((each) => `/pods/${each}`),
  "/nodes/proxy",
];
const NODE_WRITES: Record<string, string[]> = {
  "/nodes": ["create", "update", "patch"],
  "/nodes/status": ["update", "patch"],
  "/pods": ["delete"],
  "/pods/status": ["update", "patch"],
  "/events": ["create", "update", "patch"],
  "events.k8s.io/events": ["create", "update", "patch"],
  "coordination.k8s.io/leases": ["create", "update", "patch", "delete"],
  "podwire.dev/ipamblocks": ["create", "update", "patch", "delete"],
};

/** Whoever is known may ask what he may (Kubernetes' system:basic-user). */
const ABOUT_ONESELF = [
  "authentication.k8s.io/selfsubjectreviews",
  "authorization.k8s.io/selfsubjectaccessreviews",
  "authorization.k8s.io/selfsubjectrulesreviews",
];

/** Paths that need no certificate. */
const PUBLIC_PATHS = ["/healthz", "/livez", "/readyz", "/version", "/join/v1/ca"];
/** … and those that any certificate opens. */
const DISCOVERY = /^\/(api|apis|openapi)(\/|$)/;

/** Name of the node whose certificate this is. */
export function nodeNameOf({ name, groups }: User): string | undefined {
  return groups.includes(NODES) && name.startsWith(NODE_PREFIX) ? name.slice(NODE_PREFIX.length) : undefined;
}

/** The pods that are bound to a node, of one namespace. */
export type PodsOn = (node: string, namespace: string) => readonly KubeObject[];

/** Whether the user may, as far as the object itself does not matter. */
export function allows(user: User, attributes: Attributes, podsOn: PodsOn): boolean {
  const { verb, group, resource, namespace, name } = attributes;
  if (user.groups.includes(ADMINS)) return true;
  const key = `${group}/${resource}`;
  if (user.groups.includes(AUTHENTICATED) && verb === "create" && ABOUT_ONESELF.includes(key)) return true;
  const node = nodeNameOf(user);
  if (node === undefined) return false;
  if (NODE_READS.includes(verb) && !HIDDEN_FROM_NODES.includes(key)) return true;
  const referred = REFERRED[key];
  if (referred !== undefined)
    return verb === "get" && !!namespace && !!name && isReferred(podsOn(node, namespace), referred, name);
  return NODE_WRITES[key]?.includes(verb) === true && ownByName(node, key, verb, name);
}

/** Throws Forbidden in Kubernetes' words. */
export function authorize(user: User, attributes: Attributes, podsOn: PodsOn): void {
  if (allows(user, attributes, podsOn)) return;
  const { verb, group, resource, namespace, name } = attributes;
  const where = namespace === undefined ? "at the cluster scope" : `in the namespace "${namespace}"`;
  const node = REFERRED[`${group}/${resource}`] && verb === "get" ? nodeNameOf(user) : undefined;
  const why = node === undefined ? "" : `: no relationship found between node '${node}' and this object`;
  throw forbidden(
    { group, plural: resource.split("/")[0]! },
    name ?? "",
    `User "${user.name}" cannot ${verb} resource "${resource}" in API group "${group}" ${where}${why}`,
  );
}

/** Nodes and Leases carry the node's own name; a create is looked at when the object is known. */
function ownByName(node: string, key: string, verb: string, name: string | undefined): boolean {
  if (!key.startsWith("/nodes") && key !== "coordination.k8s.io/leases") return true;
  return verb === "create" || name === node;
}

/** Whether the user may, for paths that are about no object. */
export function allowsPath(user: User, verb: string, path: string): boolean {
  if (user.groups.includes(ADMINS)) return true;
  if (verb !== "get" && verb !== "head") return false;
  const open = PUBLIC_PATHS.some((each) => path === each || path.startsWith(`${each}/`));
  return open || (user.groups.includes(AUTHENTICATED) && DISCOVERY.test(path));
}

/** For paths that are about no object. Throws Forbidden. */
export function authorizePath(user: User, verb: string, path: string): void {
  if (allowsPath(user, verb, path)) return;
  throw new KubeError(403, "Forbidden", `forbidden: User "${user.name}" cannot ${verb} path "${path}"`, {});
}

/** Rights as SelfSubjectRulesReview lists them. */
export interface ResourceRule {
  verbs: string[];
  apiGroups: string[];
  resources: string[];
  resourceNames?: string[];
}

export interface PathRule {
  verbs: string[];
  nonResourceURLs: string[];
}

/**
 * The rights that `allows` and `allowsPath` grant, as lists. `kinds`: those that are served, since a list
 * cannot say "all but". A node's own Node and Lease stand with their name; what a create may be called is
 * looked at when the object is known.
 */
export function rulesOf(
  user: User,
  kinds: readonly { group: string; plural: string; verbs?: readonly string[] }[],
): { resourceRules: ResourceRule[]; nonResourceRules: PathRule[] } {
  const resourceRules: ResourceRule[] = [];
  const nonResourceRules: PathRule[] = [];
  const rule = (key: string, verbs: string[], names: string[] = []): void => {
    const slash = key.indexOf("/");
    resourceRules.push({
      verbs,
      apiGroups: [key.slice(0, slash)],
      resources: [key.slice(slash + 1)],
      ...(names.length === 0 ? {} : { resourceNames: names }),
    });
  };
  if (user.groups.includes(ADMINS)) {
    rule("*/*", ["*"]);
    nonResourceRules.push({ verbs: ["*"], nonResourceURLs: ["*"] });
  }
  const known = user.groups.includes(AUTHENTICATED);
  if (known) for (const key of ABOUT_ONESELF) rule(key, ["create"]);
  const paths = known ? [...PUBLIC_PATHS, "/api", "/api/*", "/apis", "/apis/*", "/openapi/*"] : PUBLIC_PATHS;
  nonResourceRules.push(...paths.map((path) => ({ verbs: ["get"], nonResourceURLs: [path] })));
  const node = nodeNameOf(user);
  if (node === undefined) return { resourceRules, nonResourceRules };
  for (const { group, plural, verbs } of kinds) {
    const key = `${group}/${plural}`;
    if (verbs === undefined && !HIDDEN_FROM_NODES.includes(key)) rule(key, NODE_READS);
  }
  for (const [key, verbs] of Object.entries(NODE_WRITES)) {
    const named = verbs.filter((verb) => !ownByName(node, key, verb, undefined));
    const free = verbs.filter((verb) => !named.includes(verb));
    if (free.length > 0) rule(key, free);
    if (named.length > 0) rule(key, named, [node]);
  }
  return { resourceRules, nonResourceRules };
}
