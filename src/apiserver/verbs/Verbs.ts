/**
 * What can be done with objects, for HTTP and for callers in this process alike: Kubernetes' semantics
 * over the store. Knows kinds only by their definitions, and nothing of HTTP.
 *
 * A write goes: decode (strictness) → look at the old → defaults → prepare → allocator's prepare →
 * admission → validate → allocate → store. All behind "decode" happens in one transaction.
 */
import { randomInt, randomUUID } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import type { KubeObject, PatchKind } from "../../kube/KubeApi.js";
import { KubeError } from "../../kube/KubeError.js";
import { allowsUnconditionalUpdate } from "../../kube/resources.js";
import {
  alreadyExists,
  badRequest,
  conflict,
  expired,
  forbidden,
  invalid,
  MODIFIED,
  methodNotAllowed,
  notFound,
  tooLargeRevision,
  unsupportedMediaType,
} from "../errors.js";
import type { RequestContext, ResourceDefinition, SchemaCatalog } from "../resource.js";
import type { Entry, Store, Transaction } from "../storage/Store.js";
import type { Admission, AdmissionRequest, Allocator, User, View } from "./Hooks.js";
import { applyPatch } from "./patch.js";
import { scaleOf, withScale } from "./scale.js";
import { selection } from "./selectors.js";

/** In the words of Kubernetes, which prints the number as Go does, and the resource in the kind's place. */
const NO_RESOURCE_VERSION = {
  type: "FieldValueInvalid",
  field: "metadata.resourceVersion",
  detail: "Invalid value: 0x0: must be specified for an update",
} as const;

export type FieldValidation = "Strict" | "Warn" | "Ignore";

/** What all writes take. */
export interface WriteOptions {
  dryRun?: boolean;
  fieldValidation?: FieldValidation;
  /** Fields that the body had twice, as strict validation words them. */
  duplicates?: string[];
  /** Gets each warning for the client. */
  warn?: (text: string) => void;
}

export interface DeleteOptions {
  gracePeriodSeconds?: number;
  preconditions?: { uid?: string; resourceVersion?: string };
  propagationPolicy?: "Background" | "Foreground" | "Orphan";
  orphanDependents?: boolean;
  dryRun?: boolean;
}

export interface ListRequest {
  namespace?: string | undefined;
  labelSelector?: string | undefined;
  fieldSelector?: string | undefined;
  limit?: number | undefined;
  continue?: string | undefined;
  resourceVersion?: string | undefined;
  resourceVersionMatch?: string | undefined;
}

export interface ListResult {
  items: KubeObject[];
  resourceVersion: string;
  continue?: string;
  remainingItemCount?: number;
}

export interface WatchRequest {
  namespace?: string | undefined;
  labelSelector?: string | undefined;
  fieldSelector?: string | undefined;
  resourceVersion?: string | undefined;
}

export interface WatchSink {
  event(type: "ADDED" | "MODIFIED" | "DELETED", object: KubeObject): void;
}

/** Group and plural of the definition under which objects are kept: its name in the store. */
export function storeName(definition: {
  group: string;
  plural: string;
  stored?: ResourceDefinition["stored"];
}): string {
  const { group, plural } = definition.stored?.definition ?? definition;
  return `${group}/${plural}`;
}

const kept = (definition: ResourceDefinition): ResourceDefinition =>
  definition.stored?.definition ?? definition;
const toStored = ({ stored }: ResourceDefinition, object: KubeObject): KubeObject =>
  stored === undefined ? object : stored.toStored(object);
const fromStored = ({ stored }: ResourceDefinition, object: KubeObject): KubeObject =>
  stored === undefined ? object : stored.fromStored(object);

export type Subresource = AdmissionRequest["subresource"];

const ORPHAN = "orphan";
const FOREGROUND = "foregroundDeletion";
const GENERATED_TRIES = 8;
const NAME_CHARACTERS = "bcdfghjklmnpqrstvwxz2456789";
/** Longest prefix that leaves room for five characters in a label. */
const MAX_GENERATED_PREFIX = 58;

type WithSpec = KubeObject & { spec?: { finalizers?: string[]; nodeName?: string }; status?: object };

export interface VerbsOptions {
  store: Store;
  definitions: readonly ResourceDefinition[];
  schemas: SchemaCatalog;
  admissions?: Admission[];
  allocators?: Allocator[];
  clock?: () => Date;
}

export class Verbs {
  readonly store: Store;
  readonly definitions: readonly ResourceDefinition[];
  private readonly schemas: SchemaCatalog;
  private readonly admissions: Admission[];
  private readonly allocators = new Map<string, Allocator>();
  private readonly clock: () => Date;

  constructor(options: VerbsOptions) {
    this.store = options.store;
    this.definitions = options.definitions;
    this.schemas = options.schemas;
    this.admissions = [...(options.admissions ?? [])];
    this.clock = options.clock ?? (() => new Date());
    for (const allocator of options.allocators ?? []) {
      const name = storeName(allocator);
      this.allocators.set(name, allocator);
      allocator.rebuild(this.store.list(name).map(({ object }) => object));
    }
  }

  definition(group: string, plural: string): ResourceDefinition | undefined {
    return this.definitions.find((each) => each.group === group && each.plural === plural);
  }

  get(definition: ResourceDefinition, namespace: string | undefined, name: string): KubeObject {
    const entry = this.store.get(storeName(definition), keyOf(definition, namespace, name));
    if (entry === undefined) throw notFound(definition, name);
    return fromStored(definition, entry.object);
  }

  /** The pods that are bound to a node, of one namespace. */
  readonly podsOn = (node: string, namespace: string): KubeObject[] => {
    const pods = this.definition("", "pods");
    return pods === undefined
      ? []
      : this.list(pods, { namespace, fieldSelector: `spec.nodeName=${node}` }).items;
  };

  list(definition: ResourceDefinition, request: ListRequest): ListResult {
    const matches = selection(definition, request.labelSelector, request.fieldSelector);
    const { entries, revision, after } = this.page(definition, request);
    const prefix =
      definition.namespaced && request.namespace !== undefined ? `${request.namespace}/` : undefined;
    const limit = request.limit && request.limit > 0 ? request.limit : Number.POSITIVE_INFINITY;
    const items: KubeObject[] = [];
    let last = "";
    let more = 0;
    for (const { key, object: whole } of entries) {
      if (after !== undefined && key <= after) continue;
      if (prefix !== undefined && !key.startsWith(prefix)) continue;
      const object = fromStored(definition, whole);
      if (matches !== undefined && !matches(object)) continue;
      if (items.length < limit) {
        items.push(object);
        last = key;
      } else more++;
    }
    const result: ListResult = { items, resourceVersion: String(revision) };
    if (more > 0) {
      const token = JSON.stringify({ v: "meta.k8s.io/v1", rv: revision, start: last, id: this.store.id });
      result.continue = Buffer.from(token).toString("base64url");
      if (matches === undefined) result.remainingItemCount = more;
    }
    return result;
  }

  /**
   * Starts a watch: events since `resourceVersion` (all objects as ADDED where it is absent or 0), then what
   * happens. Throws Expired. Returns what ends it.
   */
  watch(definition: ResourceDefinition, request: WatchRequest, sink: WatchSink): () => void {
    const resource = storeName(definition);
    const matches = selection(definition, request.labelSelector, request.fieldSelector);
    const prefix = definition.namespaced && request.namespace ? `${request.namespace}/` : "";
    const wanted = (entry: Entry | undefined): boolean =>
      entry?.key.startsWith(prefix) === true &&
      (matches === undefined || matches(fromStored(definition, entry.object)));
    const tell = (type: "ADDED" | "MODIFIED" | "DELETED", object: KubeObject) =>
      sink.event(type, fromStored(definition, object));
    const deliver = ({
      type,
      entry,
      previous,
    }: {
      type: string;
      entry: Entry;
      previous: Entry | undefined;
    }) => {
      const was = type !== "ADDED" && wanted(previous);
      const is = type !== "DELETED" && wanted(entry);
      if (is) tell(was ? "MODIFIED" : "ADDED", entry.object);
      else if (was && type === "DELETED") tell("DELETED", entry.object);
      else if (was) tell("DELETED", withRevision(previous!.object, entry.revision));
    };
    const from = revisionOf(request.resourceVersion);
    if (from === 0)
      for (const entry of this.store.list(resource)) {
        if (wanted(entry)) tell("ADDED", entry.object);
      }
    else {
      if (from > this.store.revision) throw tooLargeRevision(from, this.store.revision);
      const missed = this.store.since(resource, from);
      if (missed === undefined) throw expired(from, this.store.oldestRevision);
      for (const event of missed) deliver(event);
    }
    return this.store.subscribe(resource, deliver);
  }

  async create(
    definition: ResourceDefinition,
    namespace: string | undefined,
    body: unknown,
    user: User,
    options: WriteOptions = {},
  ): Promise<KubeObject> {
    const decoded = this.decode(definition, body, options);
    if (definition.review !== undefined) {
      if (definition.namespaced) placeIn(definition, decoded, namespace);
      return definition.review(decoded, { user, definitions: this.definitions, podsOn: this.podsOn });
    }
    const meta = decoded.metadata;
    if (meta.resourceVersion) throw badRequest("resourceVersion should not be set on objects to be created");
    delete meta.resourceVersion;
    placeIn(definition, decoded, namespace);
    const generated = !meta.name && meta.generateName;
    for (let attempt = 1; ; attempt++) {
      const object = structuredClone(decoded);
      if (generated) object.metadata.name = generateName(meta.generateName!);
      try {
        return await this.store.transact((transaction) => {
          // A version of its own has rules of its own for what is new.
          if (definition.stored) this.validate(definition, object, undefined, user, transaction);
          const made = toStored(definition, object);
          return fromStored(definition, this.insert(kept(definition), made, user, options, transaction));
        });
      } catch (error) {
        const taken = (error as { reason?: string }).reason === "AlreadyExists";
        if (!taken || !generated || attempt >= GENERATED_TRIES) throw error;
      }
    }
  }

  /** Replaces an object, or what belongs to its subresource. */
  async update(
    definition: ResourceDefinition,
    namespace: string | undefined,
    name: string,
    body: unknown,
    user: User,
    options: WriteOptions & { subresource?: Subresource } = {},
  ): Promise<KubeObject> {
    const subresource = options.subresource ?? "";
    if (subresource === "scale") return this.updateScale(definition, namespace, name, body, user, options);
    const object = this.decode(definition, body, options);
    if (object.metadata.name && object.metadata.name !== name)
      throw badRequest(
        `the name of the object (${object.metadata.name}) does not match the name on the URL (${name})`,
      );
    object.metadata.name = name;
    placeIn(definition, object, namespace);
    return this.store.transact((transaction) => {
      const old = transaction.get(storeName(definition), keyOf(definition, namespace, name));
      if (old === undefined) throw notFound(definition, name);
      const made = toStored(definition, object);
      const written = this.replace(kept(definition), old, made, subresource, user, options, transaction);
      return fromStored(definition, written);
    });
  }

  async patch(
    definition: ResourceDefinition,
    namespace: string | undefined,
    name: string,
    kind: PatchKind,
    patch: unknown,
    user: User,
    options: WriteOptions & { subresource?: Subresource } = {},
  ): Promise<KubeObject> {
    const { group, version, kind: objectKind } = definition;
    const subresource = options.subresource ?? "";
    if (kind === "strategic" && isCustom(group))
      throw unsupportedMediaType(["application/json-patch+json", "application/merge-patch+json"]);
    return this.store.transact((transaction) => {
      const old = transaction.get(storeName(definition), keyOf(definition, namespace, name));
      if (old === undefined) throw notFound(definition, name);
      if (subresource === "scale") {
        const scale = applyPatch(scaleOf(definition, old.object), kind, patch, () => undefined);
        const object = withScale(definition, old.object, scale, scaleOf(definition, old.object));
        return scaleOf(
          definition,
          this.replace(definition, old, object, "scale", user, options, transaction),
        );
      }
      const patched = applyPatch(fromStored(definition, old.object), kind, patch, (path) =>
        this.schemas.patchStrategy(group, version, objectKind, path),
      );
      const object = this.decode(definition, patched, options, patch);
      if (object.metadata.name !== name)
        throw badRequest(
          `the name of the object (${object.metadata.name}) does not match the name on the URL (${name})`,
        );
      placeIn(definition, object, namespace);
      const made = toStored(definition, object);
      const written = this.replace(kept(definition), old, made, subresource, user, options, transaction);
      return fromStored(definition, written);
    });
  }

  scale(definition: ResourceDefinition, namespace: string | undefined, name: string): KubeObject {
    return scaleOf(definition, this.get(definition, namespace, name));
  }

  /** `gone`: removed at once; otherwise it waits for its grace period or its finalizers. */
  async delete(
    definition: ResourceDefinition,
    namespace: string | undefined,
    name: string,
    user: User,
    options: DeleteOptions = {},
  ): Promise<{ gone: boolean; object: KubeObject }> {
    return this.store.transact((transaction) => {
      const entry = transaction.get(storeName(definition), keyOf(definition, namespace, name));
      if (entry === undefined) throw notFound(definition, name);
      const { gone, object } = this.remove(kept(definition), entry, user, options, transaction);
      return { gone, object: fromStored(definition, object) };
    });
  }

  /** Deletes what a list with this request finds; returns the objects as they were. */
  async deleteCollection(
    definition: ResourceDefinition,
    request: ListRequest,
    user: User,
    options: DeleteOptions = {},
  ): Promise<ListResult> {
    const found = this.list(definition, request);
    await this.store.transact((transaction) => {
      for (const object of found.items) {
        const { namespace, name } = object.metadata;
        const entry = transaction.get(storeName(definition), keyOf(definition, namespace, name!));
        if (entry !== undefined) this.remove(kept(definition), entry, user, options, transaction);
      }
    });
    return found;
  }

  /** pods/binding: puts a pod on a node. */
  async bind(
    definition: ResourceDefinition,
    namespace: string,
    name: string,
    binding: { target?: { name?: string } },
    user: User,
    options: WriteOptions = {},
  ): Promise<void> {
    const node = binding.target?.name;
    if (!node)
      throw invalid("", "Binding", name, [
        { type: "FieldValueRequired", field: "target.name", detail: "Required value" },
      ]);
    await this.store.transact((transaction) => {
      const old = transaction.get(storeName(definition), keyOf(definition, namespace, name));
      if (old === undefined) throw notFound(definition, name);
      const object = structuredClone(old.object) as WithSpec;
      const bound = object.spec?.nodeName;
      if (bound)
        throw conflict(
          { group: "", plural: "pods/binding" },
          name,
          `pod ${name} is already assigned to node ${JSON.stringify(bound)}`,
        );
      object.spec = { ...object.spec, nodeName: node };
      this.admit("UPDATE", definition, "binding", object, old.object, user, transaction);
      if (options.dryRun !== true) transaction.put(storeName(definition), old.key, object);
    });
  }

  /**
   * pods/eviction: deletes a pod by policy/v1's Eviction, whose deleteOptions count. A pod that runs is
   * marked first, so that its controller sees why it goes. There are no PodDisruptionBudgets to ask.
   */
  async evict(
    definition: ResourceDefinition,
    namespace: string,
    name: string,
    eviction: { metadata?: { name?: string }; deleteOptions?: DeleteOptions },
    user: User,
    options: { dryRun?: boolean } = {},
  ): Promise<void> {
    const named = eviction.metadata?.name;
    if (named !== undefined && named !== "" && named !== name)
      throw badRequest("name in URL does not match name in Eviction object");
    const deletion = { ...eviction.deleteOptions, ...options };
    await this.store.transact((transaction) => {
      const entry = transaction.get(storeName(definition), keyOf(definition, namespace, name));
      if (entry === undefined) throw notFound(definition, name);
      this.checkPreconditions(definition, entry.object, deletion.preconditions);
      const { uid } = entry.object.metadata;
      const marked =
        options.dryRun === true ? undefined : withDisruption(entry.object, timestamp(this.clock()));
      const going = marked === undefined ? entry : transaction.put(storeName(definition), entry.key, marked);
      // What was asked of the version is answered above; the mark has made a new one.
      this.remove(definition, going, user, { ...deletion, preconditions: { uid: uid! } }, transaction);
    });
  }

  /** Objects to list, and where to start. */
  private page(
    definition: ResourceDefinition,
    request: ListRequest,
  ): { entries: Entry[]; revision: number; after?: string } {
    const resource = storeName(definition);
    const current = this.store.revision;
    if (request.continue) {
      const token = parseToken(request.continue);
      if (request.resourceVersion && request.resourceVersion !== "0")
        throw badRequest("specifying resource version is not allowed when using continue");
      const entries = token.id === this.store.id ? this.store.listAt(resource, token.rv) : undefined;
      if (entries === undefined)
        throw Object.assign(expired(token.rv, this.store.oldestRevision), {
          message:
            "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.",
        });
      return { entries, revision: token.rv, after: token.start };
    }
    const asked = revisionOf(request.resourceVersion);
    const match = request.resourceVersionMatch;
    if (match !== undefined && match !== "Exact" && match !== "NotOlderThan")
      throw badRequest(
        `resourceVersionMatch: Unsupported value: "${match}": supported values: "Exact", "NotOlderThan"`,
      );
    if (match !== undefined && request.resourceVersion === undefined)
      throw badRequest(
        "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
      );
    if (asked > current) throw tooLargeRevision(asked, current);
    const exact = match === "Exact" || (match === undefined && asked > 0 && (request.limit ?? 0) > 0);
    if (!exact) return { entries: this.store.list(resource), revision: current };
    const entries = this.store.listAt(resource, asked);
    if (entries === undefined) throw expired(asked, this.store.oldestRevision);
    return { entries, revision: asked };
  }

  /** A body as an object of its kind; unknown fields refused, reported or dropped silently. `patch`: where it came from. */
  private decode(
    definition: ResourceDefinition,
    body: unknown,
    options: WriteOptions,
    patch?: unknown,
  ): KubeObject {
    const { group, version, kind } = definition;
    const groupVersion = group === "" ? version : `${group}/${version}`;
    if (typeof body !== "object" || body === null || Array.isArray(body))
      throw badRequest(
        `${kind} in version "${version}" cannot be handled as a ${kind}: the body is not a JSON object`,
      );
    const object = structuredClone(body) as KubeObject;
    if (object.kind !== undefined && object.kind !== kind)
      throw badRequest(
        `the object provided is unrecognized (must be of type ${kind}): couldn't get version/kind; got ${object.apiVersion ?? ""}, Kind=${object.kind}`,
      );
    if (object.apiVersion !== undefined && object.apiVersion !== groupVersion)
      throw badRequest(
        `the API version in the data (${object.apiVersion}) does not match the expected API version (${groupVersion})`,
      );
    object.apiVersion = groupVersion;
    object.kind = kind;
    object.metadata ??= {};
    delete (object.metadata as { managedFields?: unknown }).managedFields;
    delete (object.metadata as { selfLink?: unknown }).selfLink;
    const { unknown, invalid: wrong } = this.schemas.check(group, version, kind, object);
    const refuse = (text: string) =>
      patch === undefined
        ? badRequest(`${kind} in version "${version}" cannot be handled as a ${kind}: ${text}`)
        : invalid("", "", "", [
            {
              type: "FieldValueInvalid",
              field: "patch",
              detail: `Invalid value: ${JSON.stringify(goMap(patch))}: ${text}`,
            },
          ]);
    if (wrong.length > 0) {
      if (isCustom(group)) throw invalid(group, kind, object.metadata.name ?? "", wrong);
      // The decoder of a built-in kind stops at the first fault, and its message names the field.
      throw refuse(wrong[0].detail);
    }
    // Without the parameter, built-in kinds warn, as Kubernetes does.
    const validation = options.fieldValidation ?? "Warn";
    const strict = [...unknown, ...(options.duplicates ?? [])];
    if (strict.length > 0 && validation === "Strict")
      throw refuse(`strict decoding error: ${strict.join(", ")}`);
    if (validation === "Warn") for (const text of strict) options.warn?.(text);
    for (const text of unknown) dropUnknown(object, text);
    return object;
  }

  private insert(
    definition: ResourceDefinition,
    object: KubeObject,
    user: User,
    options: WriteOptions,
    transaction: Transaction,
  ): KubeObject {
    const meta = object.metadata;
    const allocator = this.allocators.get(storeName(definition));
    this.checkNamespace(definition, object, transaction);
    definition.applyDefaults(object);
    definition.prepare(object, undefined, "");
    meta.uid = randomUUID();
    meta.creationTimestamp = timestamp(this.clock());
    allocator?.prepare?.(object, undefined);
    this.admit("CREATE", definition, "", object, undefined, user, transaction);
    this.validate(definition, object, undefined, user, transaction);
    const key = keyOf(definition, meta.namespace, meta.name!);
    if (transaction.get(storeName(definition), key) !== undefined)
      throw alreadyExists(definition, meta.name!);
    this.allocate(definition, allocator, object, undefined);
    if (options.dryRun === true) {
      allocator?.revert(object, undefined);
      return object;
    }
    return transaction.put(storeName(definition), key, object).object;
  }

  private replace(
    definition: ResourceDefinition,
    entry: Entry,
    object: KubeObject,
    subresource: Subresource,
    user: User,
    options: WriteOptions,
    transaction: Transaction,
  ): KubeObject {
    const old = entry.object;
    const meta = object.metadata;
    if (!meta.resourceVersion && !allowsUnconditionalUpdate(definition))
      throw invalid(definition.group, definition.plural, meta.name!, [NO_RESOURCE_VERSION]);
    if (meta.resourceVersion && meta.resourceVersion !== old.metadata.resourceVersion)
      throw conflict(definition, meta.name!, MODIFIED);
    if (meta.uid && meta.uid !== old.metadata.uid)
      throw conflict(
        definition,
        meta.name!,
        `Precondition failed: UID in precondition: ${meta.uid}, UID in object meta: ${old.metadata.uid}`,
      );
    const allocator = subresource === "" ? this.allocators.get(storeName(definition)) : undefined;
    const finalizers = (object as WithSpec).spec?.finalizers;
    if (subresource !== "status") definition.applyDefaults(object);
    definition.prepare(object, old, subresource === "status" ? "status" : "");
    if (subresource === "finalize")
      (object as WithSpec).spec = { ...(object as WithSpec).spec, finalizers: finalizers ?? [] };
    allocator?.prepare?.(object, old);
    this.admit("UPDATE", definition, subresource, object, old, user, transaction);
    this.validate(definition, object, old, user, transaction);
    this.allocate(definition, allocator, object, old);
    if (options.dryRun === true) {
      allocator?.revert(object, old);
      meta.resourceVersion = old.metadata.resourceVersion!;
      return object;
    }
    if (isFinished(object)) {
      allocator?.committed(object, old);
      return this.erase(definition, { ...entry, object }, transaction);
    }
    meta.resourceVersion = old.metadata.resourceVersion!;
    // A write that changes nothing is none: no revision, no event.
    if (isDeepStrictEqual(plain(object), old)) return old;
    const written = transaction.put(storeName(definition), entry.key, plain(object) as KubeObject).object;
    allocator?.committed(written, old);
    return written;
  }

  private async updateScale(
    definition: ResourceDefinition,
    namespace: string | undefined,
    name: string,
    body: unknown,
    user: User,
    options: WriteOptions,
  ): Promise<KubeObject> {
    return this.store.transact((transaction) => {
      const old = transaction.get(storeName(definition), keyOf(definition, namespace, name));
      if (old === undefined) throw notFound(definition, name);
      const object = withScale(definition, old.object, body as object, undefined);
      return scaleOf(definition, this.replace(definition, old, object, "scale", user, options, transaction));
    });
  }

  private remove(
    definition: ResourceDefinition,
    entry: Entry,
    user: User,
    options: DeleteOptions,
    transaction: Transaction,
  ): { gone: boolean; object: KubeObject } {
    const old = entry.object as WithSpec;
    const meta = old.metadata;
    this.checkPreconditions(definition, old, options.preconditions);
    this.admit("DELETE", definition, "", undefined, old, user, transaction);
    if (definition.plural === "namespaces" && ["default", "kube-system", "kube-public"].includes(meta.name!))
      throw forbidden(definition, meta.name!, "this namespace may not be deleted");

    const object = structuredClone(old);
    const usual = definition.gracePeriod(old);
    const asked = options.gracePeriodSeconds;
    if (asked !== undefined && asked < 0 && asked !== -1)
      throw invalid(definition.group, "DeleteOptions", meta.name!, [
        {
          type: "FieldValueInvalid",
          field: "gracePeriodSeconds",
          detail: `Invalid value: ${asked}: must be greater than or equal to 0`,
        },
      ]);
    let grace = usual === null || usual === 0 ? 0 : Math.max(0, asked ?? usual);
    const finalizers = new Set(meta.finalizers ?? []);
    if (options.propagationPolicy !== undefined || options.orphanDependents !== undefined) {
      const policy = options.propagationPolicy ?? (options.orphanDependents ? "Orphan" : "Background");
      finalizers.delete(ORPHAN);
      finalizers.delete(FOREGROUND);
      if (policy === "Orphan") finalizers.add(ORPHAN);
      if (policy === "Foreground") finalizers.add(FOREGROUND);
    }
    if (finalizers.size > 0) object.metadata.finalizers = [...finalizers];
    else delete object.metadata.finalizers;
    if (definition.plural === "namespaces" && (old.spec?.finalizers?.length ?? 0) > 0)
      object.status = { ...object.status, phase: "Terminating" };
    if (meta.deletionTimestamp !== undefined) {
      // A second request may only shorten the wait.
      grace = Math.min(grace, meta.deletionGracePeriodSeconds ?? 0);
      if (grace !== meta.deletionGracePeriodSeconds)
        object.metadata.deletionTimestamp = timestamp(new Date(this.clock().getTime() + grace * 1000));
    } else object.metadata.deletionTimestamp = timestamp(new Date(this.clock().getTime() + grace * 1000));
    object.metadata.deletionGracePeriodSeconds = grace;
    if (isFinished(object)) {
      if (options.dryRun === true) return { gone: true, object: old };
      return { gone: true, object: this.erase(definition, entry, transaction) };
    }
    if (typeof object.metadata.generation === "number" && meta.deletionTimestamp === undefined)
      object.metadata.generation++;
    if (options.dryRun === true || isDeepStrictEqual(object, old)) return { gone: false, object };
    return {
      gone: false,
      object: transaction.put(storeName(definition), entry.key, object).object,
    };
  }

  private checkPreconditions(
    definition: ResourceDefinition,
    { metadata }: KubeObject,
    { uid, resourceVersion }: DeleteOptions["preconditions"] = {},
  ): void {
    const failed = (what: string, asked: string, is: string | undefined) =>
      conflict(
        definition,
        metadata.name!,
        `Precondition failed: ${what} in precondition: ${asked}, ${what} in object meta: ${is}`,
      );
    if (uid !== undefined && uid !== metadata.uid) throw failed("UID", uid, metadata.uid);
    if (resourceVersion !== undefined && resourceVersion !== metadata.resourceVersion)
      throw failed("ResourceVersion", resourceVersion, metadata.resourceVersion);
  }

  private erase(definition: ResourceDefinition, entry: Entry, transaction: Transaction): KubeObject {
    this.allocators.get(storeName(definition))?.release(entry.object);
    return transaction.remove(storeName(definition), entry.key)!.object;
  }

  private checkNamespace(
    definition: ResourceDefinition,
    { metadata }: KubeObject,
    transaction: Transaction,
  ): void {
    if (!definition.namespaced) return;
    const namespaces = this.definition("", "namespaces");
    if (namespaces === undefined) return;
    const namespace = transaction.get(storeName(namespaces), metadata.namespace!)?.object;
    if (namespace === undefined) throw notFound(namespaces, metadata.namespace!);
    if (namespace.metadata.deletionTimestamp === undefined) return;
    const message = `namespace ${metadata.namespace} is being terminated`;
    const refusal = forbidden(
      definition,
      metadata.name ?? "",
      `unable to create new content in namespace ${metadata.namespace} because it is being terminated`,
    );
    refusal.details!.causes = [{ reason: "NamespaceTerminating", message, field: "metadata.namespace" }];
    throw refusal;
  }

  private admit(
    operation: AdmissionRequest["operation"],
    definition: ResourceDefinition,
    subresource: Subresource,
    object: KubeObject | undefined,
    old: KubeObject | undefined,
    user: User,
    transaction: Transaction,
  ): void {
    if (this.admissions.length === 0) return;
    const request = { operation, definition, subresource, object, old, user, view: this.view(transaction) };
    for (const admission of this.admissions) admission(request);
  }

  private validate(
    definition: ResourceDefinition,
    object: KubeObject,
    old: KubeObject | undefined,
    user: User,
    transaction: Transaction,
  ): void {
    const context: RequestContext = {
      now: this.clock(),
      user: user.name,
      groups: user.groups,
      lookup: (plural, group, namespace, name) => this.view(transaction).get(group, plural, namespace, name),
    };
    const faults = definition.validate(object, old, context);
    if (faults.length > 0)
      throw invalid(definition.group, definition.kind, object.metadata.name ?? "", faults);
  }

  private allocate(
    definition: ResourceDefinition,
    allocator: Allocator | undefined,
    object: KubeObject,
    old: KubeObject | undefined,
  ): void {
    const faults = allocator?.allocate(object, old) ?? [];
    // A full range is nothing that the client could mend.
    const internal = faults.find(({ type }) => type === "InternalError");
    if (internal) throw KubeError.of("InternalError", `Internal error occurred: ${internal.detail}`);
    if (faults.length > 0)
      throw invalid(definition.group, definition.kind, object.metadata.name ?? "", faults);
  }

  private view(transaction: Transaction): View {
    return {
      get: (group, plural, namespace, name) =>
        transaction.get(`${group}/${plural}`, namespace ? `${namespace}/${name}` : name)?.object,
      list: (group, plural) => transaction.all(`${group}/${plural}`).map(({ object }) => object),
    };
  }
}

/** What an object is stored under within its kind: NAMESPACE/NAME, or the name of one without namespace. */
export function keyOf(definition: ResourceDefinition, namespace: string | undefined, name: string): string {
  return definition.namespaced ? `${namespace}/${name}` : name;
}

/** Kinds that a cluster would define by CustomResourceDefinitions. */
function isCustom(group: string): boolean {
  return group.includes(".") && !group.endsWith(".k8s.io");
}

/** Seconds, as Kubernetes writes times in metadata. */
export function timestamp(time: Date): string {
  return time.toISOString().replace(/\.\d+Z$/, "Z");
}

/** Whether nothing keeps an object that is being deleted. */
function isFinished(object: KubeObject): boolean {
  const { metadata, spec } = object as WithSpec;
  if (metadata.deletionTimestamp === undefined || (metadata.deletionGracePeriodSeconds ?? 0) > 0)
    return false;
  const held = object.kind === "Namespace" ? (spec?.finalizers?.length ?? 0) : 0;
  return (metadata.finalizers?.length ?? 0) === 0 && held === 0;
}

/** A pod with the condition DisruptionTarget; undefined for one that is going or runs nowhere, which needs none. */
function withDisruption(pod: KubeObject, now: string): KubeObject | undefined {
  const { phase, conditions = [] } = ((pod as WithSpec).status ?? {}) as {
    phase?: string;
    conditions?: { type: string; lastTransitionTime?: string; status: string }[];
  };
  const ended = phase === "Succeeded" || phase === "Failed" || phase === "Pending";
  if (ended || pod.metadata.deletionTimestamp !== undefined) return undefined;
  const condition = {
    type: "DisruptionTarget",
    status: "True",
    reason: "EvictionByEvictionAPI",
    message: "Eviction API: evicting",
    lastTransitionTime: now,
  };
  const others = conditions.filter(({ type }) => type !== condition.type);
  const status = { ...(pod as WithSpec).status, conditions: [...others, condition] };
  return { ...structuredClone(pod), status } as KubeObject;
}

/** Without undefined fields, as it comes back from the disk. */
function plain(object: object): object {
  return JSON.parse(JSON.stringify(object)) as object;
}

function withRevision(object: KubeObject, revision: number): KubeObject {
  return { ...object, metadata: { ...object.metadata, resourceVersion: String(revision) } };
}

function placeIn(
  definition: ResourceDefinition,
  { metadata }: KubeObject,
  namespace: string | undefined,
): void {
  if (!definition.namespaced) {
    if (namespace !== undefined) throw methodNotAllowed();
    return;
  }
  if (metadata.namespace && metadata.namespace !== namespace)
    throw badRequest("the namespace of the provided object does not match the namespace sent on the request");
  metadata.namespace = namespace!;
}

function generateName(prefix: string): string {
  let suffix = "";
  for (let i = 0; i < 5; i++) suffix += NAME_CHARACTERS[randomInt(NAME_CHARACTERS.length)];
  return prefix.slice(0, MAX_GENERATED_PREFIX) + suffix;
}

/** 0 for none. */
function revisionOf(text: string | undefined): number {
  if (text === undefined || text === "") return 0;
  if (!/^\d{1,15}$/.test(text))
    throw invalid("meta.k8s.io", "ListOptions", "", [
      {
        type: "FieldValueInvalid",
        field: "resourceVersion",
        detail: `Invalid value: "${text}": strconv.ParseUint: parsing "${text}": invalid syntax`,
      },
    ]);
  return Number(text);
}

function parseToken(text: string): { rv: number; start: string; id: string } {
  try {
    const { v, rv, start, id } = JSON.parse(Buffer.from(text, "base64url").toString()) as Record<
      string,
      unknown
    >;
    if (
      v === "meta.k8s.io/v1" &&
      Number.isSafeInteger(rv) &&
      typeof start === "string" &&
      typeof id === "string"
    )
      return { rv: rv as number, start, id };
  } catch {
    // Said below.
  }
  throw badRequest("continue key is not valid: the token was not made by this server");
}

/** 'unknown field "spec.ports[0].foo"': takes that field away. */
function dropUnknown(object: object, text: string): void {
  const path = /^unknown field "(.*)"$/.exec(text)?.[1];
  if (path === undefined) return;
  const parts = path.split(/\.|\[(\d+)\]/).filter((part) => part !== undefined && part !== "");
  let at: unknown = object;
  for (const part of parts.slice(0, -1)) at = (at as Record<string, unknown> | undefined)?.[part];
  if (typeof at === "object" && at !== null) delete (at as Record<string, unknown>)[parts.at(-1)!];
}

/** A value as Go's %+v prints it. */
function goMap(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(goMap).join(" ")}]`;
  if (value === null) return "<nil>";
  if (typeof value !== "object") return String(value);
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return `map[${entries.map(([key, each]) => `${key}:${goMap(each)}`).join(" ")}]`;
}
