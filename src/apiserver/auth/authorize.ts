/**
 * Who may do what (DESIGN §9). Administrators everything; a node reads what it lives from and writes what is
 * its own; everybody with a certificate reads discovery. Rules that need the object are in
 * nodeRestriction.ts. Pure.
 */
import { KubeError } from "../../kube/KubeError.js";
import { forbidden } from "../errors.js";
import type { User } from "../verbs/Hooks.js";

export const ADMINS = "system:masters";
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
/** What nodes never need to see; getting a connection to a pod is a read by its verb only. */
const HIDDEN_FROM_NODES = [
  "/secrets",
  "/serviceaccounts",
  ...["log", "exec", "attach", "portforward", "proxy"].map((each) => `/pods/${each}`),
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

/** Paths that need no certificate. */
const PUBLIC_PATHS = ["/healthz", "/livez", "/readyz", "/version", "/join/v1/ca"];
/** … and those that any certificate opens. */
const DISCOVERY = /^\/(api|apis|openapi)(\/|$)/;

/** Name of the node whose certificate this is. */
export function nodeNameOf({ name, groups }: User): string | undefined {
  return groups.includes(NODES) && name.startsWith(NODE_PREFIX) ? name.slice(NODE_PREFIX.length) : undefined;
}

/** Throws Forbidden in Kubernetes' words. */
export function authorize(user: User, attributes: Attributes): void {
  if (user.groups.includes(ADMINS)) return;
  const { verb, group, resource, namespace, name } = attributes;
  const key = `${group}/${resource}`;
  const node = nodeNameOf(user);
  if (node !== undefined) {
    if (NODE_READS.includes(verb) && !HIDDEN_FROM_NODES.includes(key)) return;
    if (NODE_WRITES[key]?.includes(verb) && ownByName(node, key, verb, name)) return;
  }
  const where = namespace === undefined ? "at the cluster scope" : `in the namespace "${namespace}"`;
  throw forbidden(
    { group, plural: resource.split("/")[0]! },
    name ?? "",
    `User "${user.name}" cannot ${verb} resource "${resource}" in API group "${group}" ${where}`,
  );
}

/** Nodes and Leases carry the node's own name; a create is looked at when the object is known. */
function ownByName(node: string, key: string, verb: string, name: string | undefined): boolean {
  if (!key.startsWith("/nodes") && key !== "coordination.k8s.io/leases") return true;
  return verb === "create" || name === node;
}

/** For paths that are about no object. Throws Forbidden. */
export function authorizePath(user: User, verb: string, path: string): void {
  if (user.groups.includes(ADMINS)) return;
  const open = PUBLIC_PATHS.some((each) => path === each || path.startsWith(`${each}/`));
  if (open || (user.groups.includes(AUTHENTICATED) && DISCOVERY.test(path))) return;
  throw new KubeError(403, "Forbidden", `forbidden: User "${user.name}" cannot ${verb} path "${path}"`, {});
}
