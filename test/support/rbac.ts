/**
 * Kubernetes' RBAC over a KubeApi: what an account may do by the manifests that bind roles to it, and what
 * of that it has used. As plugin/pkg/auth/authorizer/rbac decides: a rule allows where verb, group and
 * resource (with its subresource) are in it, and the name where it has names; a binding in a namespace
 * allows in that namespace alone; nothing denies.
 */
import { parseAllDocuments } from "yaml";
import type { KubeApi, KubeObject, ResourceRef } from "../../src/kube/KubeApi.js";
import { KubeError } from "../../src/kube/KubeError.js";

interface Rule {
  apiGroups: string[];
  resources: string[];
  verbs: string[];
  resourceNames?: string[];
}

interface Reference {
  kind: string;
  name: string;
  namespace?: string;
}

interface Manifest {
  kind: string;
  metadata: { name: string; namespace?: string };
  rules?: Rule[];
  roleRef?: Reference;
  subjects?: Reference[];
}

/** One verb on one resource, where a binding grants it. */
export interface Grant {
  verb: string;
  group: string;
  /** "pods/status" */
  resource: string;
  /** Undefined: in all of them, and on what has none. */
  namespace: string | undefined;
  /** Undefined: whatever its name. */
  names: string[] | undefined;
}

/**
 * What the manifests, texts of YAML, grant to a ServiceAccount. Throws an Error where a binding names a role
 * that is in none of them, or the account is not there.
 */
export function grantsOf(texts: readonly string[], account: { name: string; namespace: string }): Grant[] {
  const all = texts.flatMap((text) => parseAllDocuments(text).map((each) => each.toJS() as Manifest));
  const same = (a: { name: string; namespace?: string }) =>
    a.name === account.name && a.namespace === account.namespace;
  if (!all.some(({ kind, metadata }) => kind === "ServiceAccount" && same(metadata)))
    throw new Error(`no ServiceAccount ${account.name}`);
  return all
    .filter(({ subjects }) => subjects?.some((each) => each.kind === "ServiceAccount" && same(each)))
    .flatMap(({ metadata: { name, namespace }, roleRef }) => {
      const role = all.find(
        (each) =>
          each.kind === roleRef!.kind &&
          each.metadata.name === roleRef!.name &&
          (each.kind === "ClusterRole" || each.metadata.namespace === namespace),
      );
      if (role?.rules === undefined) throw new Error(`${name} binds a role that is not there`);
      return role.rules.flatMap(({ apiGroups, resources, verbs, resourceNames }) =>
        apiGroups.flatMap((group) =>
          resources.flatMap((resource) =>
            verbs.map((verb) => ({ verb, group, resource, namespace, names: resourceNames })),
          ),
        ),
      );
    });
}

/** Those of the grants that allow a request. */
export function matchingGrants(
  grants: readonly Grant[],
  {
    verb,
    group,
    resource,
    namespace,
    name,
  }: Omit<Grant, "names"> & {
    /** Of the object; undefined where the request names none. */
    name: string | undefined;
  },
): Grant[] {
  return grants.filter(
    (grant) =>
      grant.verb === verb &&
      grant.group === group &&
      grant.resource === resource &&
      (grant.namespace === undefined || grant.namespace === namespace) &&
      (grant.names === undefined || (name !== undefined && grant.names.includes(name))),
  );
}

/** A KubeApi that does for an account what it may, and rejects with Forbidden what it may not. */
export class RbacKube implements KubeApi {
  private readonly used = new Set<Grant>();
  /** What was refused, a line each. */
  readonly refused: string[] = [];

  constructor(
    private readonly inner: KubeApi,
    private readonly grants: readonly Grant[],
  ) {}

  /** What was granted and never needed, a line each. */
  get unused(): string[] {
    return this.grants
      .filter((grant) => !this.used.has(grant))
      .map(({ verb, group, resource, namespace }) => `${verb} ${group}/${resource} in ${namespace ?? "*"}`);
  }

  async get<T extends KubeObject>(resource: ResourceRef, name: string, namespace?: string): Promise<T> {
    this.check("get", resource, namespace, name);
    return this.inner.get<T>(resource, name, namespace);
  }

  async list<T extends KubeObject>(
    resource: ResourceRef,
    options?: Parameters<KubeApi["list"]>[1],
  ): Promise<{ items: T[]; resourceVersion: string }> {
    this.check("list", resource, options?.namespace);
    return this.inner.list<T>(resource, options);
  }

  async create<T extends KubeObject>(resource: ResourceRef, object: T): Promise<T> {
    // A request to create has no name yet.
    this.check("create", resource, object.metadata.namespace);
    return this.inner.create<T>(resource, object);
  }

  async update<T extends KubeObject>(resource: ResourceRef, object: T, subresource?: string): Promise<T> {
    const { namespace, name } = object.metadata;
    this.check("update", resource, namespace, name, subresource);
    return this.inner.update<T>(resource, object, subresource);
  }

  async patch<T extends KubeObject>(...args: Parameters<KubeApi["patch"]>): Promise<T> {
    const [resource, name, namespace, , , subresource] = args;
    this.check("patch", resource, namespace, name, subresource);
    return this.inner.patch<T>(...args);
  }

  async delete(...args: Parameters<KubeApi["delete"]>): Promise<void> {
    const [resource, name, namespace] = args;
    this.check("delete", resource, namespace, name);
    return this.inner.delete(...args);
  }

  async watch<T extends KubeObject>(
    resource: ResourceRef,
    options: Parameters<KubeApi["watch"]>[1],
    onEvent: Parameters<typeof this.inner.watch<T>>[2],
    signal: AbortSignal,
  ): Promise<void> {
    this.check("watch", resource, options.namespace);
    return this.inner.watch<T>(resource, options, onEvent, signal);
  }

  private check(
    verb: string,
    { group, plural }: ResourceRef,
    namespace: string | undefined,
    name?: string,
    subresource?: string,
  ): void {
    const resource = subresource === undefined ? plural : `${plural}/${subresource}`;
    const matching = matchingGrants(this.grants, { verb, group, resource, namespace, name });
    for (const grant of matching) this.used.add(grant);
    if (matching.length > 0) return;
    const text = `cannot ${verb} ${group}/${resource} in ${namespace ?? "all namespaces"}`;
    this.refused.push(text);
    throw new KubeError(403, "Forbidden", text, {});
  }
}
